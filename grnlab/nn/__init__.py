"""Parts that backbones are built from."""

from grnlab.nn.attention import Recorder, SelfAttention, attend
from grnlab.nn.blocks import BlockStack, TransformerBlock, TransformerStack
from grnlab.nn.decoders import CellDecoder, ClassDecoder, CountDistribution, ExpressionDecoder
from grnlab.nn.embeddings import DepthEncoder, GenomePosition, ValueEncoder
from grnlab.nn.performer import FavorAttention, PerformerStack
from grnlab.nn.sequence_decoder import SequenceDecoder

__all__ = [
    "BlockStack",
    "CellDecoder",
    "ClassDecoder",
    "CountDistribution",
    "DepthEncoder",
    "ExpressionDecoder",
    "FavorAttention",
    "GenomePosition",
    "PerformerStack",
    "Recorder",
    "SelfAttention",
    "SequenceDecoder",
    "TransformerBlock",
    "TransformerStack",
    "ValueEncoder",
    "attend",
]

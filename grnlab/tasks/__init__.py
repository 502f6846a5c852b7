"""What a pretrained model does besides networks."""

from grnlab.tasks.embed import cell_embeddings, embed

__all__ = ["cell_embeddings", "embed"]

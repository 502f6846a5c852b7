"""Genes: the vocabulary of a model and the alignment of a data set to it, by name."""

from grnlab.genes.alignment import Alignment, AlignmentReport, align
from grnlab.genes.build import build_vocab
from grnlab.genes.vocabulary import GeneVocab

__all__ = ["Alignment", "AlignmentReport", "GeneVocab", "align", "build_vocab"]

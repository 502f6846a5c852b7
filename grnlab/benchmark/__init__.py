"""The benchmark: data sets × gold standards × methods, one table, one command."""

from grnlab.benchmark.config import BenchmarkConfig, choose, outside
from grnlab.benchmark.datasets import DATASETS, Dataset
from grnlab.benchmark.golds import GOLDS, Gold
from grnlab.benchmark.methods import FAST, METHODS, Method
from grnlab.benchmark.runner import run_benchmark
from grnlab.benchmark.summary import compare, summarise

__all__ = [
    "DATASETS",
    "FAST",
    "GOLDS",
    "METHODS",
    "BenchmarkConfig",
    "Dataset",
    "Gold",
    "Method",
    "choose",
    "compare",
    "outside",
    "run_benchmark",
    "summarise",
]

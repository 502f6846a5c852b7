"""grnlab: gene networks from the attention of single-cell transformers.

Examples
--------
>>> import grnlab as gl
>>> gl.__version__.count(".")
2
"""

__version__ = "0.1.0"

"""Pretraining: recipes, a Lightning module, a stream of batches, and one function that runs them."""

from grnlab.training.config import PretrainConfig
from grnlab.training.estimate import Estimate, estimate
from grnlab.training.interrupt import Interrupted
from grnlab.training.pretrain import pretrain
from grnlab.training.recipe import Recipe, builtin_recipes, read_recipe
from grnlab.training.run import dry_run, run_recipe

__all__ = [
    "Estimate",
    "Interrupted",
    "PretrainConfig",
    "Recipe",
    "builtin_recipes",
    "dry_run",
    "estimate",
    "pretrain",
    "read_recipe",
    "run_recipe",
]

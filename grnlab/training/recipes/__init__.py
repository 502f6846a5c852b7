"""Recipes: the commands that made the weights in this package."""

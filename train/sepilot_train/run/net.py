"""The net that a recipe asks for."""

from __future__ import annotations

from typing import Any

from sepilot_train.models import build_model
from sepilot_train.run.recipe import Recipe

__all__ = ["build_net"]


def build_net(recipe: Recipe) -> Any:
    """A Keras net with new weights. Raises RecipeError."""
    return build_model(recipe.model.builder, recipe.picture.shape, recipe.model.options, tuple(recipe.targets))

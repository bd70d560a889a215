"""Ranges of what a recipe may say."""

from __future__ import annotations

from sepilot_runtime.base.errors import RecipeError

__all__ = ["require_in"]


def require_in(name: str, value: float, low: float, high: float) -> None:
    """Raise RecipeError unless `low <= value <= high`."""
    if not low <= value <= high:
        raise RecipeError(f"{name}: expected a value from {low:g} to {high:g}; found {value}")

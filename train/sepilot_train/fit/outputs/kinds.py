"""All kinds of output that can be trained. A new one is a folder beside `scalar` and its name in `AnyTarget`."""

from __future__ import annotations

from sepilot_train.fit.outputs.scalar.target import ScalarTarget

__all__ = ["AnyTarget"]

AnyTarget = ScalarTarget
"""A union as soon as there is a second; a recipe says which by `kind`."""

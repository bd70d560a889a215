"""Types of command line arguments that several verbs take."""

from __future__ import annotations

import argparse

from sepilot_runtime.base.errors import UsageError

__all__ = ["LARGEST_SEED", "count", "horizon", "seed"]

LARGEST_SEED = 2**32 - 1
"""That NumPy and Keras both take."""


def count(text: str) -> int:
    """A whole number from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"at least 1 expected, found {value}")
    return value


def horizon(text: str) -> float:
    """A row as a fraction of the frame's height."""
    value = float(text)
    if not 0 <= value <= 0.9:
        raise argparse.ArgumentTypeError(f"between 0 and 0.9 expected, found {text}")
    return value


def seed(text: str) -> int:
    """A start of random numbers, for every `--seed`.

    Raises:
        UsageError: below 0, or more than 32 bits hold.
    """
    value = int(text)
    if not 0 <= value <= LARGEST_SEED:
        raise UsageError(f"--seed: 0 to {LARGEST_SEED} expected, found {value}")
    return value

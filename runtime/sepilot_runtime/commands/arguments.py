"""Types of command line arguments that several verbs take."""

from __future__ import annotations

import argparse

__all__ = ["count", "horizon"]


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

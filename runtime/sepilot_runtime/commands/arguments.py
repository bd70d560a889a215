"""From a command line to the frozen request of a verb, and types of arguments that several verbs take."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any, TypeVar

from sepilot_runtime.base.errors import UsageError

__all__ = ["LARGEST_SEED", "count", "horizon", "request_of", "seed", "verb_parser"]

Request = TypeVar("Request")

LARGEST_SEED = 2**32 - 1
"""That NumPy and Keras both take."""


def verb_parser(verb: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """The parser of `sepilot VERB`, whose epilog keeps its lines."""
    return argparse.ArgumentParser(
        prog=f"sepilot {verb}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def request_of(kind: type[Request], arguments: argparse.Namespace, **parts: Any) -> Request:
    """The frozen request (a dataclass) that parsed flags make, field by field by name; lists become tuples.

    Args:
        parts: fields that are no flag's own.

    Raises:
        UsageError: what the request's own checks raise.
    """
    names = {field.name for field in dataclasses.fields(kind)} - parts.keys()  # type: ignore[arg-type]
    values = {name: getattr(arguments, name) for name in names}
    return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}, **parts)


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

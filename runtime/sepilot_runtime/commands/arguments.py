"""From a command line to the frozen request of a verb: a dataclass whose fields say what their flags are.

@dataclass(frozen=True, slots=True, kw_only=True)
class SignRequest:
    files: tuple[Path, ...] = flag(".tflite or .onnx files, signed in place", "FILE", positional=True, nargs="*")
    key: Path | None = flag("private key (PEM)", "KEY")

request = request_from(argv, SignRequest, "sign", "Sign model files.", EPILOG)
"""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from sepilot_runtime.base.errors import UsageError

__all__ = ["LARGEST_SEED", "SLOTS", "Part", "count", "flag", "number", "request_from", "request_of", "seed",
           "switch"]  # fmt: skip

Request = TypeVar("Request")

Part = tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], Any]]
"""A field of a request that takes several flags: what adds them, and what reads them."""

LARGEST_SEED = 2**32 - 1
"""That NumPy and Keras both take."""

SLOTS = "the slots directory (default ~/.local/share/sepilot/slots)"


def flag(help: str, metavar: str | None = None, *, default: Any = None, positional: bool = False, **more: Any) -> Any:
    """A field of a request, which is a flag of the same name.

    A Path, float or str is read as such, an int is a count from 1 on, a Literal is one of its words; a tuple without
    `default` and `nargs` is a flag that may be repeated.

    Args:
        more: `name` of a flag that is called otherwise, or its names, `group` by its title, `instead` for flags of
            which one may be given, and whatever `argparse` takes: `type`, `nargs`, `required`…
    """
    given = {"help": help, "metavar": metavar, "default": default, "positional": positional, **more}
    return dataclasses.field(default=default, metadata={"flag": given})


def switch(help: str, **more: Any) -> Any:
    """A field of a request, False unless its flag is given."""
    return dataclasses.field(default=False, metadata={"flag": {"help": help, "action": "store_true", **more}})


def request_from(
    argv: Sequence[str],
    kind: type[Request],
    verb: str,
    description: str,
    epilog: str,
    *,
    hidden: Sequence[str] = (),
    **parts: Part,
) -> Request:
    """The request (a dataclass) of a command line; argparse ends the process where it cannot be read.

    Args:
        hidden: fields whose flags are read and not explained.
        parts: fields that take several flags.

    Raises:
        UsageError: what the request's own checks raise.
    """
    parser = argparse.ArgumentParser(
        prog=f"sepilot {verb}", description=description, epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    groups: dict[str, Any] = {}
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name not in parts and (given := field.metadata.get("flag")):
            silent = {"help": argparse.SUPPRESS} if field.name in hidden else {}
            _add(parser, groups, field.name, hints[field.name], {**given, **silent})
    for add, _ in parts.values():
        add(parser)
    arguments = parser.parse_args(argv)
    return request_of(kind, arguments, **{name: read(arguments) for name, (_, read) in parts.items()})


def _add(
    parser: argparse.ArgumentParser, groups: dict[str, Any], name: str, hint: Any, given: Mapping[str, Any]
) -> None:
    more = dict(given)
    place: Any = parser
    if title := more.pop("group", None):
        place = groups[title] = groups.get(title) or parser.add_argument_group(title)
    if title := more.pop("instead", None):
        place = groups[title] = groups.get(title) or parser.add_mutually_exclusive_group()
    word = more.pop("name", f"--{name.replace('_', '-')}")
    if typing.get_origin(hint) is tuple and more["default"] is None and "nargs" not in more:
        more |= {"action": "append", "default": []}
    if typing.get_origin(hint) is Literal:
        more["choices"] = typing.get_args(hint)
    for kind in {hint, *typing.get_args(hint)} & TYPES.keys():
        more.setdefault("type", TYPES[kind])
    if more.pop("positional", False):
        place.add_argument(name, **more)
    else:
        place.add_argument(*word.split(), dest=name, **more)


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


TYPES: Mapping[Any, Callable[[str], Any]] = {Path: Path, float: float, int: count}
"""By which a flag's text is read, unless it says another."""


def number(low: float, high: float, unit: str = "", *, above: bool = False) -> Callable[[str], float]:
    """Numbers from `low` to `high`; with `above`, without `low` itself."""
    words = f"above {low:g} and at most {high:g}{unit}" if above else f"{low:g} to {high:g}{unit}"

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high or (above and value == low):
            raise argparse.ArgumentTypeError(f"{words} expected, found {text!r}")
        return value

    return read


def seed(text: str) -> int:
    """A start of random numbers, for every `--seed`.

    Raises:
        UsageError: below 0, or more than 32 bits hold.
    """
    value = int(text)
    if not 0 <= value <= LARGEST_SEED:
        raise UsageError(f"--seed: 0 to {LARGEST_SEED} expected, found {value}")
    return value

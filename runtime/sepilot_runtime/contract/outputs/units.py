"""Amounts in an output's unit, for people and for keys of documents, whatever its kind."""

from __future__ import annotations

from sepilot_runtime.contract.outputs.protocol import Output

__all__ = ["amount", "key_suffix", "mark_of"]


def mark_of(output: Output) -> str:
    """The unit, as it stands behind a number: "°", " %", " m/s", or nothing."""
    return {"deg": "°", "percent": " %"}.get(output.unit) or f" {output.unit}".rstrip()


def amount(number: float, output: Output, digits: int = 2) -> str:
    """A number in the output's unit: "3.20°", "0.35 m/s"."""
    return f"{number:.{digits}f}{mark_of(output)}"


def key_suffix(output: Output) -> str:
    """Of keys whose values are in the output's unit: "_deg"."""
    return f"_{output.unit}" if output.unit else ""

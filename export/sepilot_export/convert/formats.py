"""The formats that `sepilot export` writes: one table for the command line, the conversion, gates, tests and docs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.contract.contract import Output, Precision
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.outputs.protocol import GateRule
from sepilot_train.run.recipe import Gates

__all__ = ["FORMATS", "Format", "GateLimits", "Limits", "choose_formats", "format_named", "limits_of"]


GateLimits = Mapping[str, float]
"""By gate, what a file must keep on the held-out frames, with one output.

max_error     largest deviation of a single frame from the training model, as a fraction of full scale
mae_increase  upper end of the 95 % paired confidence interval of the task error's increase, in label units
sign_flips    share of frames answered with the other sign, both answers clearly off centre
saturated     share of frames where the file has reached the end of what it can say
"""

Limits = Mapping[str, GateLimits]
"""The same by output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One kind of file.

    Attributes:
        name: ends the file's name, `swift-<name>`; also what `--formats` takes.
        tolerance: for the golden frames at load, in output values. Wider than what is measured where the file is made,
            because kernels differ between machines: by 3 to 4 output steps for int8.
        limits: gates of `sepilot check`, unless the recipe or a flag says otherwise.
        made_from: the format whose file it is converted from, and with which it fails; "" for those of the model.
    """

    name: str
    precision: Precision
    suffix: Literal["tflite", "onnx"]
    needs_calibration: bool
    tolerance: float
    limits: GateLimits
    description: str
    made_from: str = ""

    @property
    def engine(self) -> str:
        """The interpreter that runs it, as `Engine.name` says it."""
        return "litert" if self.suffix == "tflite" else "onnxruntime"


def _limits(*, max_error: float, mae_increase: float, sign_flips: float = 0.0, saturated: float = 0.01) -> GateLimits:
    return {"max_error": max_error, "mae_increase": mae_increase, "sign_flips": sign_flips, "saturated": saturated}


# 3 degrees at 25 degrees full scale; at load, the 0.03 more by which the kernels of other machines differ.
_INT8 = 0.15, _limits(max_error=0.12, mae_increase=2e-3, sign_flips=0.002)

_BY_PRECISION: Mapping[Precision, tuple[float, GateLimits]] = {
    "float32": (1e-4, _limits(max_error=1e-5, mae_increase=1e-5)),
    # 0.0075 was seen over 1,500 held-out frames of simulated drives, where ONNX Runtime computes in float16.
    "float16": (2e-2, _limits(max_error=1e-2, mae_increase=5e-4)),
    # 0.017 of full scale was seen over 9,557 held-out frames of a real drive: activations are quantized by frame.
    "dynamic": (5e-2, _limits(max_error=2.5e-2, mae_increase=2e-3, sign_flips=0.001)),
    "int8": _INT8,
    "int8-float-head": _INT8,
}
"""Tolerance and limits."""


def _format(name: str, precision: Precision, description: str, made_from: str = "") -> Format:
    tolerance, limits = _BY_PRECISION[precision]
    return Format(
        name=name, precision=precision, suffix="onnx" if name.endswith(".onnx") else "tflite",
        needs_calibration=precision.startswith("int8"), tolerance=tolerance, limits=limits, description=description,
        made_from=made_from,
    )  # fmt: skip


FORMATS = (
    _format("float32.tflite", "float32", "the reference on the car; every kernel supports it"),
    _format("float16.tflite", "float16", "float16 weights, half the size; computes in float32 on a CPU"),
    _format("dynamic.tflite", "dynamic", "int8 weights of larger layers, activations quantized per frame"),
    _format("int8.tflite", "int8", "int8 in, inside and out; what microcontrollers and NPUs take"),
    _format("int8-float-head.tflite", "int8-float-head", "int8 with a float32 last layer: no steps in the steering"),
    _format("sparse.tflite", "float32", "float32 without the zeros; made where a net has enough of them"),
    _format("float32.onnx", "float32", "opset 17, for ONNX Runtime and what builds on ONNX"),
    _format("float16.onnx", "float16", "float16 inside, float32 in and out", "float32.onnx"),
    _format("int8.onnx", "int8", "int8 by quantize / dequantize pairs (QDQ), float32 in and out"),
    _format("int8-twin.onnx", "int8", "int8.tflite as ONNX: the same integers, float32 in and out", "int8.tflite"),
)


def format_named(name: str) -> Format:
    """The format called `name`.

    Raises:
        UsageError: there is none.
    """
    return choose_formats([name])[0]


def choose_formats(words: Sequence[str]) -> tuple[Format, ...]:
    """Formats in the table's order.

    Args:
        words: names, precisions ("int8"), suffixes ("onnx") or "all".

    Raises:
        UsageError: a word that means none, or no word at all.
    """
    if not words:
        raise UsageError("--formats: at least one expected")
    chosen: set[str] = set()
    for word in words:
        found = {f.name for f in FORMATS if word in ("all", f.name, f.precision, f.suffix)}
        if not found:
            groups = dict.fromkeys(("all", "tflite", "onnx", *(f.precision for f in FORMATS)))
            raise UsageError(
                f"--formats: {word!r} is none of {', '.join(f.name for f in FORMATS)}; groups: {', '.join(groups)}"
            )
        chosen |= found
    return tuple(f for f in FORMATS if f.name in chosen)


def limits_of(
    form: Format, gates: Mapping[str, Gates], outputs: Sequence[Output], max_drop: float | None = None
) -> Limits:
    """The format's limits with those that a recipe's `gates` (by precision) set instead, for each output.

    Args:
        max_drop: instead of `mae_increase` for what is calibrated.

    Returns:
        By output, one for each gate of its kind.
    """
    given = gates.get(form.precision, {})
    everywhere = {gate: limit for gate, limit in given.items() if not isinstance(limit, Mapping)}
    drop = {} if max_drop is None or not form.needs_calibration else {"mae_increase": max_drop}
    own = {name: limits for name, limits in given.items() if isinstance(limits, Mapping)}
    limits = {}
    for output in outputs:
        usual = {rule.name: _usual(rule, form) for rule in task_of(output).gates()}
        asked = {**everywhere, **own.get(output.name, {}), **drop}
        limits[output.name] = usual | {gate: limit for gate, limit in asked.items() if gate in usual}
    return limits


def _usual(rule: GateRule, form: Format) -> float:
    return rule.limits[form.precision] if rule.limits else form.limits[rule.name]

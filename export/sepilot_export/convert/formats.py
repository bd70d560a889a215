"""The formats that `sepilot export` writes: one table for the command line, the conversion, gates, tests and docs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.contract.contract import Output, Precision
from sepilot_runtime.contract.outputs.kinds import task_of
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


_FLOAT32 = _limits(max_error=1e-5, mae_increase=1e-5)
# 0.0075 was seen over 1,500 held-out frames of simulated drives, where ONNX Runtime computes in float16.
_FLOAT16 = _limits(max_error=1e-2, mae_increase=5e-4)
# 0.017 of full scale was seen over 9,557 held-out frames of a real drive: activations are quantized by frame.
_DYNAMIC = _limits(max_error=2.5e-2, mae_increase=2e-3, sign_flips=0.001)
# 3 degrees at 25 degrees full scale.
_INT8 = _limits(max_error=0.12, mae_increase=2e-3, sign_flips=0.002)
# What the gate allows a single frame, and the 0.03 by which the kernels of other machines differ.
_INT8_LOAD = 0.15

FORMATS = (
    Format(
        name="float32.tflite", precision="float32", suffix="tflite", needs_calibration=False,
        tolerance=1e-4, limits=_FLOAT32, description="the reference on the car; every kernel supports it",
    ),
    Format(
        name="float16.tflite", precision="float16", suffix="tflite", needs_calibration=False,
        tolerance=2e-2, limits=_FLOAT16, description="float16 weights, half the size; computes in float32 on a CPU",
    ),
    Format(
        name="dynamic.tflite", precision="dynamic", suffix="tflite", needs_calibration=False,
        tolerance=5e-2, limits=_DYNAMIC, description="int8 weights of larger layers, activations quantized per frame",
    ),
    Format(
        name="int8.tflite", precision="int8", suffix="tflite", needs_calibration=True,
        tolerance=_INT8_LOAD, limits=_INT8, description="int8 in, inside and out; what microcontrollers and NPUs take",
    ),
    Format(
        name="int8-float-head.tflite", precision="int8-float-head", suffix="tflite", needs_calibration=True,
        tolerance=_INT8_LOAD, limits=_INT8, description="int8 with a float32 last layer: no steps in the steering",
    ),
    Format(
        name="sparse.tflite", precision="float32", suffix="tflite", needs_calibration=False,
        tolerance=1e-4, limits=_FLOAT32, description="float32 without the zeros; made where a net has enough of them",
    ),
    Format(
        name="float32.onnx", precision="float32", suffix="onnx", needs_calibration=False,
        tolerance=1e-4, limits=_FLOAT32, description="opset 17, for ONNX Runtime and what builds on ONNX",
    ),
    Format(
        name="float16.onnx", precision="float16", suffix="onnx", needs_calibration=False,
        tolerance=2e-2, limits=_FLOAT16, description="float16 inside, float32 in and out",
        made_from="float32.onnx",
    ),
    Format(
        name="int8.onnx", precision="int8", suffix="onnx", needs_calibration=True,
        tolerance=_INT8_LOAD, limits=_INT8, description="int8 by quantize / dequantize pairs (QDQ), float32 in and out",
    ),
    Format(
        name="int8-twin.onnx", precision="int8", suffix="onnx", needs_calibration=True,
        tolerance=_INT8_LOAD, limits=_INT8, description="int8.tflite as ONNX: the same integers, float32 in and out",
        made_from="int8.tflite",
    ),
)  # fmt: skip


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
        rules = task_of(output).gates()
        usual = {rule.name: form.limits.get(rule.name, rule.limits.get(form.precision, math.inf)) for rule in rules}
        asked = {**everywhere, **own.get(output.name, {}), **drop}
        limits[output.name] = usual | {gate: limit for gate, limit in asked.items() if gate in usual}
    return limits

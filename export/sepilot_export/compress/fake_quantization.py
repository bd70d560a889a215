"""What tfmot's quantizers do: quantize, or only look on. Imported by the worker alone.

tfmot starts every activation range at [-6, 6] and moves it by a thousandth of the difference per step: where a layer's
outputs reach 0.04 they all round to zero for hundreds of steps. And a range that follows single batches makes room for
values that hardly occur. So the ranges here come from real pictures, fitted like those of `sepilot export`, and stay.

tfmot has no switch for either, so its three functions that quantize are replaced, within a `with` block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.ranges import STEPS, Range, fit_ranges, output_range
from sepilot_export.quantize.pair_sums import by_output, fitted

__all__ = ["fixed_ranges", "looking_on", "replaced", "seed_ranges", "settle_weight_steps"]

Seen = Callable[[Any, Any, Any], None]

WRAPPED = "quant_"
"""Before the names of layers that tfmot has wrapped."""

_BATCH = 20
_DIGITS = 8
_WEIGHT_STEPS = 127


@contextmanager
def looking_on(seen: Seen = lambda values, low, high: None) -> Iterator[None]:
    """Within, nothing is quantized; `seen` is told each activation and the two variables of its range."""

    def activation(inputs: Any, min_var: Any, max_var: Any, **_: Any) -> Any:
        seen(inputs, min_var, max_var)
        return inputs

    def weight(inputs: Any, *_: Any, **__: Any) -> Any:
        return inputs

    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops

    with replaced(quant_ops, MovingAvgQuantize=activation, AllValuesQuantize=activation, LastValueQuantize=weight):
        yield


@contextmanager
def fixed_ranges() -> Iterator[None]:
    """Within, activations are quantized with the ranges that they have, in training as well."""
    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops

    original = quant_ops.MovingAvgQuantize

    def activation(inputs: Any, min_var: Any, max_var: Any, **options: Any) -> Any:
        for name in ("is_training", "ema_decay"):
            options.pop(name, None)
        return original(inputs, min_var, max_var, is_training=False, **options)

    with replaced(quant_ops, MovingAvgQuantize=activation, AllValuesQuantize=activation):
        yield


@contextmanager
def replaced(owner: Any, **functions: Callable[..., Any]) -> Iterator[None]:
    """Within, a module or class of tfmot has other functions."""
    originals = {name: getattr(owner, name) for name in functions}
    try:
        for name, function in functions.items():
            setattr(owner, name, function)
        yield
    finally:
        for name, function in originals.items():
            setattr(owner, name, function)


def seed_ranges(net: Any, pictures: NDArray[np.uint8], asked: Mapping[str, Range]) -> None:
    """Set the range of every activation of a tfmot `net` to what the float net does on pictures (n, h, w, c), n >= 2.

    A range lies halfway between that of the smallest squared error and all that was seen: for `swift`, pruned and not,
    that lowers the largest error of a drive by a quarter and raises the mean by 2 %. The picture's own is [0, 1]
    exactly, so that an int8 pixel is the pixel less 128. An output's has headroom, and room for what the labels ask.

    Args:
        asked: of the labels, by the name that the layer of the output had before tfmot wrapped it.
    """
    variables: dict[str, tuple[Any, Any]] = {}
    found: dict[str, NDArray[np.float32]] = {}

    def seen(values: Any, low: Any, high: Any) -> None:
        # In the order of computation, so that the picture is the first, and a layer's answer its last.
        variables.setdefault(low.name, (low, high))
        found[low.name] = np.asarray(values)

    def activations(batch: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        found.clear()
        with looking_on(seen):
            net(batch * np.float32(1 / 255), training=False)
        return dict(found)

    each = min(_BATCH, len(pictures) // 2)
    whole = len(pictures) // each * each
    fitted = fit_ranges(activations, pictures[:whole].reshape(-1, each, *pictures.shape[1:]))
    first, *_ = variables
    ranges = {name: _halfway(fitted.ranges[name], fitted.seen[name]) for name in variables}
    for layer, wanted in asked.items():
        last = [name for name in variables if name.startswith(f"{WRAPPED}{layer}/")][-1]
        ranges[last] = output_range(fitted.seen[last], wanted)
    for name, (low, high) in variables.items():
        a, b = (0.0, 1.0) if name == first else _with_short_step(*ranges[name])
        low.assign(a)
        high.assign(b)


def settle_weight_steps(net: Any) -> None:
    """Give the ranges of all weights the steps of the file: kernels that fit, in numbers of a few binary digits.

    A step grows until pairs of products fit into 16 bits (`pair_sums`), and then by at most 0.8 %: a file has a scale
    for each channel of each kernel and of each bias, float32 numbers that look like noise, an eighth of the compressed
    size of `swift`, more than its pruned weights. Numbers with zeros at their ends take half of that.
    """
    for layer in net.layers:
        for weight, _, variables in getattr(layer, "_weight_vars", ()):
            step = variables["max_var"].numpy() / _WEIGHT_STEPS
            if "Depthwise" not in type(layer.layer).__name__:
                _, fit = fitted(by_output(np.moveaxis(weight.numpy(), -1, 0)), np.atleast_1d(step))
                step = fit.reshape(np.shape(step))
            step = _short(step)
            variables["max_var"].assign(step * _WEIGHT_STEPS)
            variables["min_var"].assign(-step * _WEIGHT_STEPS)


def _halfway(first: Range, second: Range) -> Range:
    return (first[0] + second[0]) / 2, (first[1] + second[1]) / 2


def _with_short_step(low: float, high: float) -> tuple[float, float]:
    """A range that holds [low, high], zero on one of its 256 values, and whose step has few binary digits."""
    step = float(_short(np.float32(max(high - low, 1e-6) / (STEPS - 1))))
    below = int(np.ceil(-low / step - 1e-6))
    return -below * step, (STEPS - below) * step


def _short(values: Any) -> Any:
    """Positive numbers rounded up to `_DIGITS` binary digits."""
    fraction, exponent = np.frexp(np.maximum(values, np.finfo(np.float32).tiny))
    return np.ldexp(np.ceil(fraction * 2**_DIGITS) / 2**_DIGITS, exponent).astype(np.float32)

"""What a file must keep to pass, and why it did not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.formats import FORMATS, Format, GateLimits
from sepilot_export.verify.fidelity import Fidelity
from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.contract.contract import Contract, Scalar
from sepilot_runtime.contract.outputs.kinds import task_of

__all__ = ["Fault", "Kind", "contract_reasons", "drop_from", "faults_of", "judge", "override", "preprocessing_reasons",
           "remarks"]  # fmt: skip

PREPROCESSING_ERROR = 0.035
"""In output values. Kernels of other machines moved int8 answers by up to 0.027, another rounding in OpenCV those of a
float file by 0.004. A crop one row off, swapped colours and three wrong ways to resize moved them by 0.068 or more over
300 frames of a real drive.
"""


class Kind(StrEnum):
    """What a file does not keep."""

    OPENING = "opening"
    CONTRACT = "contract"
    GOLDEN = "golden frames"
    ANSWERS = "answers"
    MAX_ERROR = "max_error"
    MAE_INCREASE = "mae_increase"
    SIGN_FLIPS = "sign_flips"
    SATURATED = "saturated"
    PREPROCESSING = "preprocessing"
    TWIN = "twin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One reason why a file fails, in words."""

    kind: Kind
    text: str


def judge(fidelity: Fidelity, limits: GateLimits, output: Scalar, frames: int) -> Iterator[str]:
    """The gates that a file does not keep, one reason each; see `faults_of`."""
    return (fault.text for fault in faults_of(fidelity, limits, output, frames))


def faults_of(fidelity: Fidelity, limits: GateLimits, output: Scalar, frames: int) -> Iterator[Fault]:
    """The gates that a file does not keep, as the output's task judges them."""
    for rule in task_of(output).gates():
        if text := rule.fault(getattr(fidelity, rule.name), getattr(limits, rule.name), frames):
            yield Fault(kind=Kind(rule.name), text=text)


def preprocessing_reasons(
    answers: NDArray[np.float32], plain: NDArray[np.float32] | None, output: Scalar
) -> Iterator[str]:
    """Whether a file that takes frames answers as the same file without the preprocessing did to OpenCV's pictures.

    A wrong preprocessing hides in the errors that the gates of int8 allow for; against its own answers it does not.

    Args:
        plain: None where there are none: for files that take pictures.
    """
    if plain is None:
        return
    worst = float(np.abs(answers.astype(np.float64) - plain).max())
    if not worst <= PREPROCESSING_ERROR:
        yield (
            f"its answers to frames differ from those of the same file to OpenCV's pictures by up to "
            f"{worst * output.scale:.4g} {output.unit}, at most {PREPROCESSING_ERROR * output.scale:.4g} allowed: "
            "crop, resize or colours inside the file are not OpenCV's"
        )


def remarks(fidelity: Fidelity, limits: GateLimits, output: Scalar) -> Iterator[str]:
    """What the figures could not decide."""
    for rule in task_of(output).gates():
        if text := rule.remark(getattr(fidelity, rule.name), getattr(limits, rule.name)):
            yield text


def drop_from(word: str, output: Scalar) -> float:
    """`--max-drop`: a rise of the task MAE, in label units.

    Args:
        word: "0.002" in label units, or "0.5deg" in the unit of `output`.

    Raises:
        UsageError: no number above 0, or another unit.
    """
    text = word.strip().removesuffix(output.unit)
    scale = output.scale if text != word.strip() else 1.0
    try:
        value = float(text) / scale
    except ValueError as e:
        raise UsageError(
            f"--max-drop: a number of label units or of {output.unit}, such as 0.002 or 0.5{output.unit}, expected, "
            f"found {word!r}"
        ) from e
    if not 0 < value < math.inf:
        raise UsageError(f"--max-drop: a number above 0 expected, found {word!r}")
    return value


def contract_reasons(found: Contract, expected: Contract, form: Format) -> Iterator[str]:
    """Where a file's contract is not the training run's."""
    if found.provenance.precision != form.precision:
        yield f"its contract says {found.provenance.precision}, {form.precision} expected"
    pairs: tuple[tuple[str, Any, Any], ...] = (
        ("picture", found.picture, expected.picture),
        ("frame", found.frame, expected.frame),
        ("outputs", found.outputs, expected.outputs),
        ("provenance.recipe_sha256", found.provenance.recipe_sha256, expected.provenance.recipe_sha256),
        (
            "provenance.dataset_fingerprint",
            found.provenance.dataset_fingerprint,
            expected.provenance.dataset_fingerprint,
        ),
        ("golden", found.golden, expected.golden),
    )
    for key, a, b in pairs:
        if a != b:
            yield f"its contract is not this run's: {_first_difference(key, a, b)}"
            return


def _first_difference(key: str, found: Any, expected: Any) -> str:
    if dataclasses.is_dataclass(found) and type(found) is type(expected):
        for field in dataclasses.fields(found):
            a, b = getattr(found, field.name), getattr(expected, field.name)
            if a != b:
                return f"{key}.{field.name}: {b!r} expected, found {a!r}"
    if isinstance(found, tuple) and found and len(found) == len(expected):
        return next(
            _first_difference(f"{key}[{i}]", a, b)
            for i, (a, b) in enumerate(zip(found, expected, strict=True))
            if a != b
        )
    return f"{key} differs" if len(str(found)) > 80 else f"{key}: {expected!r} expected, found {found!r}"


def override(limits: GateLimits, precision: str, words: Sequence[str]) -> GateLimits:
    """The limits of a file of `precision` with those that the command line sets instead.

    Args:
        words: "KEY=VALUE" for all files or "PRECISION.KEY=VALUE" for some, keys as in `GateLimits`.

    Raises:
        UsageError: an unknown precision or key, or no number from 0 on.
    """
    keys = [f.name for f in dataclasses.fields(GateLimits)]
    precisions = dict.fromkeys(f.precision for f in FORMATS)
    for word in words:
        name, _, text = word.partition("=")
        only, _, key = name.rpartition(".")
        if key not in keys or (only and only not in precisions):
            raise UsageError(
                f"--gate {word}: [PRECISION.]KEY=VALUE expected, KEY one of {', '.join(keys)}, "
                f"PRECISION one of {', '.join(precisions)}"
            )
        try:
            value = float(text)
        except ValueError as e:
            raise UsageError(f"--gate {word}: a number expected, found {text!r}") from e
        if not value >= 0:
            raise UsageError(f"--gate {word}: a number from 0 on expected")
        if only in ("", precision):
            limits = dataclasses.replace(limits, **{key: value})
    return limits

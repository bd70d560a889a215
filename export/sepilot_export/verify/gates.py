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

from sepilot_export.convert.formats import FORMATS, Format, GateLimits, Limits
from sepilot_export.verify.fidelity import Fidelity
from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.contract.contract import Contract, Output
from sepilot_runtime.contract.outputs.kinds import task_of

__all__ = ["Fault", "Kind", "contract_reasons", "drop_from", "faults_of", "judge", "override", "preprocessing_reasons",
           "remarks"]  # fmt: skip

PREPROCESSING_ERROR = 0.035
"""Of full scale. Kernels of other machines moved int8 answers by up to 0.027, another rounding in OpenCV those of a
float file by 0.004. A crop one row off, swapped colours and three wrong ways to resize moved them by 0.068 or more over
300 frames of a real drive.
"""


class Kind(StrEnum):
    """What a file does not keep; a gate of its outputs where it is none of these."""

    OPENING = "opening"
    CONTRACT = "contract"
    GOLDEN = "golden frames"
    ANSWERS = "answers"
    GATE = "gate"
    PREPROCESSING = "preprocessing"
    TWIN = "twin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One reason why a file fails, in words.

    Attributes:
        gate: that was not kept, with `Kind.GATE`.
        output: that it is about; "" for the file as a whole.
    """

    kind: Kind
    text: str
    gate: str = ""
    output: str = ""


def judge(fidelity: Fidelity, limits: GateLimits, output: Output, frames: int) -> Iterator[str]:
    """The gates that a file does not keep, one reason each; see `faults_of`."""
    return (fault.text for fault in faults_of(fidelity, limits, output, frames))


def faults_of(fidelity: Fidelity, limits: GateLimits, output: Output, frames: int) -> Iterator[Fault]:
    """The gates that a file does not keep with one output, as that output's task judges them."""
    for rule in task_of(output).gates():
        if text := rule.fault(fidelity.figures[rule.name], limits[rule.name], frames):
            yield Fault(kind=Kind.GATE, text=text, gate=rule.name, output=output.name)


def preprocessing_reasons(
    answers: NDArray[np.float32], plain: NDArray[np.float32] | None, output: Output
) -> Iterator[str]:
    """Whether a file that takes frames answers as the same file without the preprocessing did to OpenCV's pictures.

    A wrong preprocessing hides in the errors that the gates of int8 allow for; against its own answers it does not.

    Args:
        plain: None where there are none: for files that take pictures.
    """
    if plain is None:
        return
    worst, allowed = float(task_of(output).distance(answers, plain).max()), PREPROCESSING_ERROR * output.full_scale
    if not worst <= allowed:
        yield (
            f"its answers to frames differ from those of the same file to OpenCV's pictures by up to "
            f"{worst:.4g} {output.unit}, at most {allowed:.4g} allowed: "
            "crop, resize or colours inside the file are not OpenCV's"
        )


def remarks(fidelity: Fidelity, limits: GateLimits, output: Output) -> Iterator[str]:
    """What the figures could not decide."""
    for rule in task_of(output).gates():
        if text := rule.remark(fidelity.figures[rule.name], limits[rule.name]):
            yield text


def drop_from(word: str, output: Output) -> float:
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


def override(limits: Limits, precision: str, words: Sequence[str]) -> Limits:
    """The limits of a file of `precision`, by output, with those that the command line sets instead.

    Args:
        words: "KEY=VALUE", KEY one of the gates, for all files and outputs; for some of them with the precision, the
            output, or both before it: "int8.throttle.max_error=0.1".

    Raises:
        UsageError: an unknown precision, output or key, or no number from 0 on.
    """
    keys = list(dict.fromkeys(key for gates in limits.values() for key in gates))
    precisions = dict.fromkeys(f.precision for f in FORMATS)
    changed = {output: dict(gates) for output, gates in limits.items()}
    for word in words:
        name, _, text = word.partition("=")
        *only, key = name.split(".")
        precision_of = only.pop(0) if only and only[0] in precisions else ""
        output_of = only.pop(0) if only and only[0] in limits else ""
        able = limits[output_of] if output_of else keys
        if only or key not in able:
            outputs = f", OUTPUT one of {', '.join(limits)}" if len(limits) > 1 else ""
            raise UsageError(
                f"--gate {word}: [PRECISION.]{'[OUTPUT.]' if outputs else ''}KEY=VALUE expected, KEY one of "
                f"{', '.join(able)}, PRECISION one of {', '.join(precisions)}{outputs}"
            )
        try:
            value = float(text)
        except ValueError as e:
            raise UsageError(f"--gate {word}: a number expected, found {text!r}") from e
        if not value >= 0:
            raise UsageError(f"--gate {word}: a number from 0 on expected")
        for output in changed if precision_of in ("", precision) else ():
            if output_of in ("", output) and key in changed[output]:
                changed[output][key] = value
    return changed

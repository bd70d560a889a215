"""Two files over one recording: how far apart they are, which is nearer to the driver, and which is faster.

Every frame goes to both, in turns which of them is first, so that neither always meets the cache that the other left
behind, and a change of the clock meets both alike. The files may differ in format, interpreter and picture: each makes
its own of the same frame.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.bootstrap import Interval, paired_bootstrap_mean
from sepilot_runtime.base.errors import DriveError, UsageError
from sepilot_runtime.base.latency import Latency, latency_of
from sepilot_runtime.contract.outputs.kinds import Output, task_of
from sepilot_runtime.engine.pilot import Pilot, Prediction
from sepilot_runtime.source.labels import label_of, recorded_value
from sepilot_runtime.source.protocol import Frame

__all__ = ["Answers", "Difference", "Judgement", "Said", "answers_of", "difference", "judgement", "latencies",
           "worst_frames"]  # fmt: skip

APART_S = 0.5
"""Between two frames of the sheet: neighbours look alike and differ alike."""

Values = NDArray[np.float64]
NOTHING = np.zeros((0, 0, 3), np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Said:
    """What two files, A and B, say to every frame in one of their outputs, in its unit.

    Attributes:
        outputs: of A and of B.
        decoded: of each, its answers (n,) as the car obeys them.
        values: (2, n) readings of their answers, after each contract's limits, about what A says; of what turns,
            + = right.
        contrary: (n,) whether they say contrary things.
        recorded: of each frame, what was recorded: a number, or words; None for nothing.
        errors: (3, n) of A, of B and of the recording's own best constant against it, NaN where nothing is known.
    """

    outputs: tuple[Output, Output]
    decoded: tuple[Sequence[Any], Sequence[Any]]
    values: Values
    contrary: NDArray[np.bool_]
    recorded: Sequence[float | str | None]
    errors: Values

    @property
    def output(self) -> Output:
        """A's, in whose terms all is told."""
        return self.outputs[0]

    @property
    def apart(self) -> Values:
        """(n,) how far B is from A, signed, + = B is further right, or higher."""
        apart: Values = self.values[1] - self.values[0]
        return apart

    @property
    def far(self) -> float:
        """From which on a difference counts as one, 1/3 degree; below it lies what int8 does to most frames."""
        return self.output.fine / 0.03


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """What two files, A and B, say to every frame.

    Attributes:
        ids: (n,) of the frames; `times_s`, when they were taken.
        said: of each output that both have, by name, in A's order.
        latency_us: (2, n) from the frame in memory to the answers.
    """

    ids: NDArray[np.int64]
    times_s: Values
    said: Mapping[str, Said]
    latency_us: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Between A and B, in the output's unit where not named otherwise.

    Attributes:
        frames: compared.
        mean, p99…: of the difference without its sign. Percentiles are differences that occurred.
        bias: mean of the difference with its sign, + = B is further right, or higher.
        far: share of the frames that are further apart than `Said.far`.
        contrary: frames to which they say contrary things.
        correlation: of the two; None where one never changes.
    """

    frames: int
    mean: float
    bias: float
    p50: float
    p99: float
    max: float
    far: float
    contrary: int
    correlation: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Against what was recorded, mean absolute errors in the output's unit.

    Attributes:
        frames: with a recorded value.
        mae: of A and of B.
        constant_mae: of always answering the same, the recording's own mean: the best that a constant can do.
        b_over_a: B's error less A's, frame by frame, with its 95 % interval; below 0 where B is nearer.
        over_constant: each file's error less that of the constant, likewise; a file is worth nothing unless it lies
            below 0.
    """

    frames: int
    mae: tuple[float, float]
    constant_mae: float
    b_over_a: Interval
    over_constant: tuple[Interval, Interval]


def answers_of(first: Pilot, second: Pilot, frames: Iterable[Frame]) -> Answers:
    """Let both answer to all frames.

    Raises:
        UsageError: they have no output in common, or one of them in other units.
        DriveError: there are no frames; and what `Pilot.predict` raises.
    """
    outputs, seen = _common(first, second), list[Frame]()
    labels: dict[str, list[_Label]] = {output.name: [] for output in outputs}
    said: list[tuple[Prediction, Prediction]] = []
    for turn, frame in enumerate(frames):
        if not turn:
            # The first call of an interpreter is no example of those that follow.
            first.predict(frame.image)
            second.predict(frame.image)
        pair = (second, first) if turn % 2 else (first, second)
        answers = [pilot.predict(frame.image) for pilot in pair]
        said.append((answers[turn % 2], answers[1 - turn % 2]))
        for name, found in labels.items():
            found.append(_label(frame, name, (first, second)))
        # The picture is not kept: a recording may have any length.
        seen.append(dataclasses.replace(frame, image=NOTHING))
    if not seen:
        raise DriveError("no frame to compare the files on")
    sides = list(zip(*said, strict=True))
    return Answers(
        ids=np.array([frame.id for frame in seen], np.int64),
        times_s=np.array([frame.time_s for frame in seen]),
        said={output.name: _said(output, sides, labels[output.name]) for output in outputs},
        latency_us=np.array([[p.total_us for p in side] for side in sides]),
    )


class _Label(NamedTuple):
    """What was recorded of one output: as people are told, and as the tasks of A and of B take it."""

    told: float | str | None
    taken: tuple[Any, Any]


def _label(frame: Frame, name: str, pilots: tuple[Pilot, Pilot]) -> _Label:
    outputs = [pilot.contract.output(name) for pilot in pilots]
    first, second = (label_of(frame, o, p.contract.picture) for o, p in zip(outputs, pilots, strict=True))
    told = recorded_value(frame, outputs[0])
    if isinstance(told, float):
        # The recording's numbers are in A's label units.
        told, second = told * outputs[0].scale, told * outputs[0].scale / outputs[1].scale
    return _Label(told, (first, second))


def _stacked(labels: Sequence[Any]) -> Values:
    """(n, ...), NaN where there is none."""
    like = next((np.asarray(label, np.float64) for label in labels if label is not None), np.array(np.nan))
    return np.stack([np.full_like(like, np.nan) if label is None else np.asarray(label) for label in labels])


def _said(output: Output, sides: Sequence[Sequence[Prediction]], found: Sequence[_Label]) -> Said:
    """One output of both. Contraries are in A's label units."""
    tasks = [task_of(side[0].outputs[output.name]) for side in sides]
    raw = [np.array([prediction.raw[output.name] for prediction in side]) for side in sides]
    scales = [task.output.scale for task in tasks]
    labels = [_stacked([label.taken[side] for label in found]) for side in (0, 1)]
    errors = np.full((3, len(found)), np.nan)
    if (known := tasks[0].known(labels[0])).any():
        constant = np.broadcast_to(tasks[0].constant(labels[0][known]), raw[0].shape)
        ways = zip([*tasks, tasks[0]], [*raw, constant], [*labels, labels[0]], strict=True)
        for row, (task, answers, label) in enumerate(ways):
            errors[row] = task.error(answers, label) * task.output.scale
    return Said(
        outputs=(sides[0][0].outputs[output.name], sides[1][0].outputs[output.name]),
        decoded=([p.values[output.name] for p in sides[0]], [p.values[output.name] for p in sides[1]]),
        values=np.array([np.clip(t.reading(a, raw[0]), *t.span) for t, a in zip(tasks, raw, strict=True)]),
        contrary=tasks[0].contrary(raw[0], raw[1] * (scales[1] / scales[0])),
        recorded=[label.told for label in found],
        errors=errors,
    )


def _common(first: Pilot, second: Pilot) -> list[Output]:
    theirs = {output.name: output for output in second.contract.outputs}
    common = [output for output in first.contract.outputs if output.name in theirs]
    where = f"{first.engine.path} and {second.engine.path}"
    if not common:
        raise UsageError(f"{where}: no output of one name, so nothing to compare")
    for output in common:
        if (other := theirs[output.name].unit) != output.unit:
            raise UsageError(f"{where}: {output.name}: one unit expected, found {output.unit!r} and {other!r}")
    return common


def difference(said: Said) -> Difference:
    """How far the two are apart."""
    a, b = said.values
    apart = np.abs(said.apart)
    p50, p99 = np.percentile(apart, (50, 99), method="higher")
    varied = min(np.ptp(a), np.ptp(b)) > 0
    return Difference(
        frames=len(apart),
        mean=float(apart.mean()),
        bias=float(said.apart.mean()),
        p50=float(p50),
        p99=float(p99),
        max=float(apart.max()),
        far=float((apart > said.far).mean()),
        contrary=int(said.contrary.sum()),
        correlation=float(np.corrcoef(a, b)[0, 1]) if varied else None,
    )


def judgement(said: Said) -> Judgement | None:
    """Which of the two is nearer to what was recorded; None where nothing was."""
    known = np.isfinite(said.errors).all(axis=0)
    if not known.any():
        return None
    ours, theirs, constant = said.errors[:, known]
    one_drive = [""] * int(known.sum())
    return Judgement(
        frames=len(one_drive),
        mae=(float(ours.mean()), float(theirs.mean())),
        constant_mae=float(constant.mean()),
        b_over_a=paired_bootstrap_mean(theirs - ours, one_drive),
        over_constant=(
            paired_bootstrap_mean(ours - constant, one_drive),
            paired_bootstrap_mean(theirs - constant, one_drive),
        ),
    )


def latencies(answers: Answers) -> tuple[Latency, Latency]:
    """From the frame in memory to the angle, of A and of B."""
    return latency_of(answers.latency_us[0]), latency_of(answers.latency_us[1])


def worst_frames(answers: Answers, said: Said, count: int) -> list[int]:
    """Places in `answers` of the largest differences, largest first, at least `APART_S` from each other."""
    apart, chosen = np.abs(said.apart), list[int]()
    for place in np.argsort(-apart, kind="stable").tolist():
        if all(abs(answers.times_s[place] - answers.times_s[other]) >= APART_S for other in chosen):
            chosen.append(place)
        if len(chosen) == count:
            break
    return chosen

"""Two files over one recording: how far apart they steer, which is nearer to the driver, and which is faster.

Every frame goes to both, in turns which of them is first, so that neither always meets the cache that the other left
behind, and a change of the clock meets both alike. The files may differ in format, interpreter and picture: each makes
its own of the same frame.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.bootstrap import Interval, paired_bootstrap_mean
from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.base.latency import Latency, latency_of
from sepilot_runtime.drive.actuation import STEERING
from sepilot_runtime.engine.pilot import Pilot, Prediction
from sepilot_runtime.source.protocol import Frame

__all__ = ["Answers", "Difference", "Judgement", "answers_of", "difference", "judgement", "latencies", "worst_frames"]

FAR_DEG = 1 / 3
"""From which on a difference counts as one; below it lies what int8 does to most frames."""

DEAD_BAND_DEG = 0.5
"""Closer to straight than this a change of side means nothing."""

APART_S = 0.5
"""Between two frames of the sheet: neighbours look alike and differ alike."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """What two files, A and B, say to every frame.

    Attributes:
        ids: (n,) of the frames; `times_s`, when they were taken.
        degrees: (2, n) at the wheel, after each contract's limits, + = right.
        latency_us: (2, n) from the frame in memory to the angle.
        recorded_deg: (n,), NaN where nothing was recorded.
    """

    ids: NDArray[np.int64]
    times_s: Values
    degrees: Values
    latency_us: Values
    recorded_deg: Values

    @property
    def apart_deg(self) -> Values:
        """(n,) how far B is from A, signed, + = B steers further right."""
        apart: Values = self.degrees[1] - self.degrees[0]
        return apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Between A and B, in degrees where not named otherwise.

    Attributes:
        frames: compared.
        mean_deg, p99_deg…: of the difference without its sign. Percentiles are differences that occurred.
        bias_deg: mean of the difference with its sign, + = B steers further right.
        far: share of the frames that are further apart than `FAR_DEG`.
        sign_flips: frames steered to different sides, both by more than `DEAD_BAND_DEG`.
        correlation: of the two; None where one never changes.
    """

    frames: int
    mean_deg: float
    bias_deg: float
    p50_deg: float
    p99_deg: float
    max_deg: float
    far: float
    sign_flips: int
    correlation: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Against the recorded steering, mean absolute errors in degrees.

    Attributes:
        frames: with a recorded angle.
        mae_deg: of A and of B.
        constant_mae_deg: of always answering the recording's own mean, the best that a constant can do.
        b_over_a: B's error less A's, frame by frame, with its 95 % interval; below 0 where B is nearer.
        over_constant: each file's error less that of the constant, likewise; a file is worth nothing unless it lies
            below 0.
    """

    frames: int
    mae_deg: tuple[float, float]
    constant_mae_deg: float
    b_over_a: Interval
    over_constant: tuple[Interval, Interval]


def answers_of(first: Pilot, second: Pilot, frames: Iterable[Frame]) -> Answers:
    """Let both steer over all frames.

    Raises:
        DriveError: there are none; and what `Pilot.steer` raises.
    """
    rows: list[tuple[int, float, float]] = []
    said: list[tuple[Prediction, Prediction]] = []
    scale = first.contract.output(STEERING).scale
    for turn, frame in enumerate(frames):
        if not turn:
            # The first call of an interpreter is no example of those that follow.
            first.predict(frame.image)
            second.predict(frame.image)
        if turn % 2:
            b = second.predict(frame.image)
            a = first.predict(frame.image)
        else:
            a = first.predict(frame.image)
            b = second.predict(frame.image)
        rows.append((frame.id, frame.time_s, np.nan if frame.label is None else frame.label * scale))
        said.append((a, b))
    if not rows:
        raise DriveError("no frame to compare the files on")
    ids, times_s, recorded_deg = zip(*rows, strict=True)
    return Answers(
        ids=np.array(ids, np.int64),
        times_s=np.array(times_s),
        degrees=np.array([[p.in_unit(STEERING) for p in side] for side in zip(*said, strict=True)]),
        latency_us=np.array([[p.preprocess_us + p.infer_us for p in side] for side in zip(*said, strict=True)]),
        recorded_deg=np.array(recorded_deg, np.float64),
    )


def difference(answers: Answers) -> Difference:
    """How far the two are apart."""
    a, b = answers.degrees
    apart = np.abs(answers.apart_deg)
    p50, p99 = np.percentile(apart, (50, 99), method="higher")
    flips = (a * b < 0) & (np.minimum(np.abs(a), np.abs(b)) > DEAD_BAND_DEG)
    varied = min(np.ptp(a), np.ptp(b)) > 0
    return Difference(
        frames=len(apart),
        mean_deg=float(apart.mean()),
        bias_deg=float(answers.apart_deg.mean()),
        p50_deg=float(p50),
        p99_deg=float(p99),
        max_deg=float(apart.max()),
        far=float((apart > FAR_DEG).mean()),
        sign_flips=int(flips.sum()),
        correlation=float(np.corrcoef(a, b)[0, 1]) if varied else None,
    )


def judgement(answers: Answers) -> Judgement | None:
    """Which of the two is nearer to what was recorded; None where nothing was."""
    known = np.isfinite(answers.recorded_deg)
    if not known.any():
        return None
    recorded = answers.recorded_deg[known]
    errors = np.abs(answers.degrees[:, known] - recorded)
    constant = np.abs(recorded - recorded.mean())
    one_drive = [""] * len(recorded)
    return Judgement(
        frames=len(recorded),
        mae_deg=(float(errors[0].mean()), float(errors[1].mean())),
        constant_mae_deg=float(constant.mean()),
        b_over_a=paired_bootstrap_mean(errors[1] - errors[0], one_drive),
        over_constant=(
            paired_bootstrap_mean(errors[0] - constant, one_drive),
            paired_bootstrap_mean(errors[1] - constant, one_drive),
        ),
    )


def latencies(answers: Answers) -> tuple[Latency, Latency]:
    """From the frame in memory to the angle, of A and of B."""
    return latency_of(answers.latency_us[0]), latency_of(answers.latency_us[1])


def worst_frames(answers: Answers, count: int) -> list[int]:
    """Places in `answers` of the largest differences, largest first, at least `APART_S` from each other."""
    apart, chosen = np.abs(answers.apart_deg), list[int]()
    for place in np.argsort(-apart, kind="stable").tolist():
        if all(abs(answers.times_s[place] - answers.times_s[other]) >= APART_S for other in chosen):
            chosen.append(place)
        if len(chosen) == count:
            break
    return chosen

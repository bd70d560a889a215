"""What a file looks at, over a recording: which frames to show, their saliency, and the mean over many.

A recording is gone through twice, first for what the model says to every frame and how novel each is, then for the
frames that were chosen, so that one of any length takes little memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import DriveError, UsageError
from sepilot_runtime.contract.outputs.kinds import Output, task_of
from sepilot_runtime.drive.novelty import NoveltyMonitor
from sepilot_runtime.engine.pilot import Pilot
from sepilot_runtime.explain.saliency import Influence, Occlusion, Saliency, influence_of, saliency_of
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_runtime.source.opening import is_camera, is_stream, open_source
from sepilot_runtime.source.protocol import Frame, Source

__all__ = ["Explained", "Explanation", "Survey", "choose", "explain", "first_frames", "open_recording", "survey"]

NOVEL_SHARE = 6
"""One frame in so many is chosen for its novelty, at least one."""

APART_S = 1.0
"""Between two frames that are chosen for the same reason: neighbours look alike."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Survey:
    """Every frame of a recording in numbers.

    Attributes:
        output: what of the model's answers.
        ids, times_s, said: (n,) each, n >= 1; readings of the answers, as the car obeys them.
        novelty: (n,), or None where the file's contract has no statistics.
    """

    output: Output
    ids: NDArray[np.int64]
    times_s: NDArray[np.float64]
    said: NDArray[np.float64]
    novelty: NDArray[np.float64] | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explained:
    """One frame with its saliency; `why` it was chosen, the output's name or "novelty"."""

    frame: Frame
    saliency: Saliency
    novelty: float | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explanation:
    """The frames to show, from one end of the answers to the other and then the novel ones, and the mean over
    `influence.frames` that are spread evenly over the recording.

    Attributes:
        mean_frame: (H, W, 3) uint8, the mean of the frames of `influence`.
    """

    shown: tuple[Explained, ...]
    influence: Influence
    mean_frame: NDArray[np.uint8]


def open_recording(spec: str, options: ReaderOptions | None = None) -> Source:
    """Open a recording, read as `options` say.

    Raises:
        UsageError: `spec` is a camera or a stream, which cannot be gone through twice.
        DriveError: as `open_source`.
    """
    if is_camera(spec) or is_stream(spec):
        raise UsageError(f"--frames: a video, an image, a folder or a drive expected, found the live source {spec}")
    return open_source(spec, options=options)


def survey(
    pilot: Pilot, spec: str, output: Output, options: ReaderOptions | None = None, *, max_frames: int | None = None
) -> Survey:
    """Go through a recording once, for one of the answers.

    Raises:
        DriveError: it holds no frame, or as `open_recording`; and what `Pilot.predict` raises.
    """
    monitor = NoveltyMonitor(pilot.contract) if pilot.contract.statistics else None
    task = task_of(output)
    rows = []
    with open_recording(spec, options) as source:
        for frame in first_frames(source, max_frames):
            said = pilot.predict(frame.image).raw[output.name]
            novelty = monitor.score(pilot.picture_of(frame.image)) if monitor else 0.0
            rows.append((frame.id, frame.time_s, said, novelty))
    if not rows:
        raise DriveError(f"{spec}: holds no frame")
    ids, times_s, said_, novelty_ = zip(*rows, strict=True)
    return Survey(
        output=output,
        ids=np.array(ids, np.int64),
        times_s=np.array(times_s),
        said=np.clip(task.reading(np.array(said_)), *task.span),
        novelty=np.array(novelty_) if monitor else None,
    )


def choose(found: Survey, count: int) -> dict[int, str]:
    """Frame ids to why they are shown, fewer than `count` where the recording has no more.

    First come answers spread evenly between the lowest and the highest (hardest left and hardest right), in this order,
    then the frames of the highest novelty.
    """
    novel = max(1, count // NOVEL_SHARE) if found.novelty is not None and count > 2 else 0
    chosen: dict[int, str] = {}
    targets = np.linspace(found.said.min(), found.said.max(), max(1, min(count, len(found.ids)) - novel))
    free = np.ones(len(found.ids), bool)
    for target in targets:
        place = _nearest(found.said - target, free)
        chosen[int(found.ids[place])] = found.output.name
        free[place] = False
    if found.novelty is not None:
        free[np.isin(found.ids, list(chosen))] = False
        for _ in range(novel):
            if not free.any():
                break
            place = _nearest(found.novelty.max() - found.novelty, free)
            chosen[int(found.ids[place])] = "novelty"
            free &= np.abs(found.times_s - found.times_s[place]) >= APART_S
    return chosen


def explain(
    pilot: Pilot,
    spec: str,
    found: Survey,
    chosen: dict[int, str],
    occlusion: Occlusion,
    options: ReaderOptions | None = None,
    *,
    average: int,
) -> Explanation:
    """The saliency of the chosen frames, and the mean over `average` frames spread evenly over those of `found`.

    Raises:
        DriveError: the recording has other frames than `found`; and what `saliency_of` raises.
    """
    spread = set(found.ids[np.linspace(0, len(found.ids) - 1, min(average, len(found.ids))).astype(int)].tolist())
    place_of = {int(id_): place for place, id_ in enumerate(found.ids)}
    shown: dict[int, Explained] = {}
    maps: list[Saliency] = []
    total: NDArray[np.float64] | None = None
    with open_recording(spec, options) as source:
        for frame in first_frames(source, len(found.ids)):
            if frame.id not in chosen and frame.id not in spread:
                continue
            saliency = saliency_of(pilot, frame.image, occlusion, found.output)
            if frame.id in chosen:
                novelty = None if found.novelty is None else float(found.novelty[place_of[frame.id]])
                shown[frame.id] = Explained(frame=frame, saliency=saliency, novelty=novelty, why=chosen[frame.id])
            if frame.id in spread:
                maps.append(saliency)
                if total is None:
                    total = np.zeros(frame.image.shape)
                if total.shape == frame.image.shape:
                    total += frame.image
    if total is None or len(shown) < len(chosen):
        raise DriveError(f"{spec}: has other frames than a moment ago; it changes while it is read")
    mean_frame = np.clip(total / len(maps), 0, 255).astype(np.uint8)
    return Explanation(shown=tuple(shown[id_] for id_ in chosen), influence=influence_of(maps), mean_frame=mean_frame)


def _nearest(distance: NDArray[np.float64], free: NDArray[np.bool_]) -> int:
    return int(np.where(free, np.abs(distance), np.inf).argmin())


def first_frames(source: Iterable[Frame], most: int | None) -> Iterator[Frame]:
    for given, frame in enumerate(source):
        if given == most:
            return
        yield frame

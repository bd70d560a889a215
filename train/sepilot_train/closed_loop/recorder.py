"""Recording drives in a simulator, as Donkeycar tubs (version 2).

The labels of every frame are what the expert would do there. An expert that never errs shows a net nothing but the
middle of the road; random kicks on the steering, which the label does not follow, take the car off it and so record the
way back.

The layout of a tub stands in `sepilot_runtime.recording.tub_format`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import OutputError, UsageError
from sepilot_runtime.base.files import atomic_directory
from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.recording import tub_format
from sepilot_train.simulator.protocol import EVALUATION_SEED, USUAL_THROTTLE, Simulator

__all__ = ["Recording", "new_tub", "record"]

JPEG_QUALITY = 95
SIMULATED_START = datetime(2026, 1, 1, tzinfo=UTC)
"""When simulated clocks start. A clock of the wall would make equal seeds give unequal drives."""
STARTED_S = SIMULATED_START.timestamp()


class TubWriter:
    """Writes a tub into a folder, frame by frame; `new_tub` makes one."""

    def __init__(self, path: Path, *, rate_hz: float, metadata: Mapping[str, Any]) -> None:
        self._path, self._rate_hz, self._metadata = path, rate_hz, metadata
        self._sessions: list[str] = []
        self._rows: list[str] = []
        self._catalogs: list[str] = []
        self._count = 0
        self.new_session()

    def add(self, frame: NDArray[np.uint8], steering: float, throttle: float = USUAL_THROTTLE) -> None:
        """Append one frame, (H, W, 3) uint8 BGR, with its labels; steering in [-1, 1], + = right."""
        target = self._path / tub_format.IMAGES / tub_format.image_name(self._count)
        done, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not done:
            raise OutputError(f"{target}: OpenCV cannot encode a frame of shape {frame.shape}")
        target.write_bytes(data.tobytes())
        time_s = STARTED_S + self._count / self._rate_hz
        self._rows.append(
            tub_format.row(
                self._count, session=self._sessions[-1], time_s=time_s, steering=steering, throttle=throttle,
                mode="user",
            )
        )  # fmt: skip
        self._count += 1
        if len(self._rows) == tub_format.ROWS_PER_CATALOG:
            self._write_catalog()

    def new_session(self) -> None:
        """Mark that the next frame does not follow from the last one."""
        self._sessions.append(f"{SIMULATED_START:%y-%m-%d}_{len(self._sessions)}")

    def finish(self) -> None:
        """Write what is left of the rows, and the manifest, without which it is no tub."""
        if self._rows:
            self._write_catalog()
        text = tub_format.manifest(
            metadata=self._metadata, sessions=self._sessions, catalogs=self._catalogs, count=self._count,
            created_s=STARTED_S,
        )  # fmt: skip
        (self._path / "manifest.json").write_text(text, encoding="utf-8")

    def _write_catalog(self) -> None:
        name = f"catalog_{len(self._catalogs)}.catalog"
        (self._path / name).write_text("".join(self._rows), encoding="utf-8")
        first = self._count - len(self._rows)
        text = tub_format.catalog_manifest(name, self._rows, start_index=first, created_s=STARTED_S)
        (self._path / f"{name}_manifest").write_text(text, encoding="utf-8")
        self._catalogs.append(name)
        self._rows = []


@contextmanager
def new_tub(path: Path, *, rate_hz: float, metadata: Mapping[str, Any]) -> Iterator[TubWriter]:
    """Make the folder `path` with a tub that is whole at the end of the block.

    Args:
        metadata: for the manifest; its `full_scale_deg` tells a reader the wheels' angle at steering 1.
    """
    (path / tub_format.IMAGES).mkdir(parents=True)
    tub = TubWriter(path, rate_hz=rate_hz, metadata=metadata)
    yield tub
    tub.finish()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What one recorded drive was like.

    Attributes:
        name: its folder.
        seed: of its world.
        frames: written.
        recentred: times that the car left the road and was put back.
        mean_cte_m, max_cte_m: of the absolute cross-track error over the frames.
    """

    name: str
    seed: int
    frames: int
    recentred: int
    mean_cte_m: float
    max_cte_m: float


class _Kicks:
    """Extra steering that comes every 1.5 to 3 s and lasts 0.2 to 0.5 s of simulated time."""

    def __init__(self, rng: np.random.Generator, rate_hz: float) -> None:
        self._rng, self._rate_hz = rng, rate_hz
        self._left, self._offset = 0, 0.0
        self._wait = self._draw_wait()

    def step(self) -> float:
        """What to add to the steering in this step."""
        if self._left:
            self._left -= 1
            return self._offset
        self._wait -= 1
        if self._wait <= 0:
            self._left = round(self._rng.uniform(0.2, 0.5) * self._rate_hz)
            self._offset = self._rng.choice([-1.0, 1.0]) * self._rng.uniform(0.3, 1.0)
            self._wait = self._draw_wait()
        return 0.0

    def stop(self) -> None:
        """End the kick that is on."""
        self._left = 0

    def _draw_wait(self) -> int:
        return round(self._rng.uniform(1.5, 3.0) * self._rate_hz)


def record(
    simulator: Simulator,
    out: Path,
    *,
    drives: int = 10,
    frames: int = 600,
    seed: int = 0,
    kicks: bool = True,
    slow_for_bends: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> list[Recording]:
    """Let the expert drive through the worlds `seed`, `seed` + 1, … and write a tub of each under `out`.

    Equal arguments give equal files.

    Args:
        slow_for_bends: drive by the expert's throttle, and write it beside the steering; at the usual speed otherwise.
        progress: called after each frame.

    Raises:
        UsageError: nothing to record, or worlds that are kept for evaluation.
        OutputError: `out` exists or cannot be written; nothing is left of it then.
    """
    if drives < 1 or frames < 1:
        raise UsageError(f"--drives {drives} --frames {frames}: both must be at least 1")
    if seed < 0 or seed + drives > EVALUATION_SEED:
        raise UsageError(
            f"--seed {seed} --drives {drives}: recording worlds are 0 to {EVALUATION_SEED - 1}; those from "
            f"{EVALUATION_SEED} on are kept unseen for closed-loop evaluation"
        )
    with atomic_directory(out) as part:
        paths = [part / f"drive_{i:03d}" for i in range(drives)]
        settings = {"kicks": kicks, "slow": slow_for_bends}
        return [
            _record_drive(simulator, path, frames, seed + i, **settings, progress=progress)
            for i, path in enumerate(paths)
        ]


def _record_drive(
    simulator: Simulator,
    path: Path,
    frames: int,
    seed: int,
    *,
    kicks: bool,
    slow: bool,
    progress: Callable[[], None],
) -> Recording:
    metadata = {"full_scale_deg": simulator.full_scale_deg, "simulator": simulator.name, "world_seed": seed}
    kicker = _Kicks(np.random.default_rng([seed, 4]), simulator.rate_hz)
    errors: list[float] = []
    recentred = 0
    with new_tub(path, rate_hz=simulator.rate_hz, metadata=metadata) as tub:
        frame, state = simulator.reset(seed)
        for _ in range(frames):
            steering = simulator.expert()
            throttle = simulator.expert_throttle() if slow else USUAL_THROTTLE
            tub.add(frame, steering, throttle)
            errors.append(abs(state.cte_m))
            kick = kicker.step() if kicks else 0.0
            frame, state = simulator.step(steering + kick, throttle if slow else None)
            if state.off_road:
                # No frame from beside the road: the net would learn to see it as a place to be.
                kicker.stop()
                tub.new_session()
                frame, state = simulator.recentre()
                recentred += 1
            progress()
    return Recording(
        name=path.name,
        seed=seed,
        frames=len(errors),
        recentred=recentred,
        mean_cte_m=float(np.mean(errors)),
        max_cte_m=max(errors),
    )

"""Recording drives in a simulator, as Donkeycar tubs (version 2).

The labels of every frame are what the expert would do there. An expert that never errs shows a net nothing but the
middle of the road; random kicks on the steering, which the label does not follow, take the car off it and so record the
way back.

The layout of a tub stands in `sepilot_runtime.recording.tub_format`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import OutputError, UsageError
from sepilot_runtime.base.files import atomic_directory
from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.recording import tub_format
from sepilot_train.simulator.protocol import EVALUATION_SEED, USUAL_THROTTLE, Simulator, State

__all__ = ["Recording", "TubWriter", "record"]

JPEG_QUALITY = 95
SIMULATED_START = datetime(2026, 1, 1, tzinfo=UTC)
"""When simulated clocks start. A clock of the wall would make equal seeds give unequal drives."""


class TubWriter:
    """Writes one tub. A context manager: the tub appears at `path` whole, at the end, or not at all."""

    def __init__(
        self,
        path: Path,
        *,
        rate_hz: float,
        started: datetime = SIMULATED_START,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """`metadata` goes into the manifest; `full_scale_deg` there tells a reader the wheels' angle at steering 1."""
        self._path, self._rate_hz, self._started_s = path, rate_hz, started.timestamp()
        self._metadata = dict(metadata or {})
        self._day = started.strftime("%y-%m-%d")
        self._sessions = [f"{self._day}_0"]
        self._rows: list[str] = []
        self._catalogs: list[str] = []
        self._count = 0
        self._part: Path
        self._stack = ExitStack()

    def __enter__(self) -> TubWriter:
        """
        Raises:
            OutputError: the path exists or cannot be written.
        """
        self._part = self._stack.enter_context(atomic_directory(self._path))
        (self._part / tub_format.IMAGES).mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                self._write_catalog()
                self._write_manifest()
            except OSError as e:
                kind, error, trace = type(e), e, e.__traceback__
                self._stack.__exit__(kind, error, trace)
                raise
        self._stack.__exit__(kind, error, trace)

    def add(
        self, frame: NDArray[np.uint8], steering: float, throttle: float = USUAL_THROTTLE, mode: str = "user"
    ) -> None:
        """Append one frame, (H, W, 3) uint8 BGR, with its labels; steering in [-1, 1], + = right."""
        target = self._part / tub_format.IMAGES / tub_format.image_name(self._count)
        done, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not done:
            raise OutputError(f"{target}: OpenCV cannot encode a frame of shape {frame.shape}")
        target.write_bytes(data.tobytes())
        time_s = self._started_s + self._count / self._rate_hz
        self._rows.append(
            tub_format.row(
                self._count, session=self._sessions[-1], time_s=time_s, steering=steering, throttle=throttle, mode=mode
            )
        )
        self._count += 1
        if len(self._rows) == tub_format.ROWS_PER_CATALOG:
            self._write_catalog()

    def new_session(self) -> None:
        """Mark that the next frame does not follow from the last one."""
        self._sessions.append(f"{self._day}_{len(self._sessions)}")

    def _write_catalog(self) -> None:
        if not self._rows:
            return
        name = f"catalog_{len(self._catalogs)}.catalog"
        (self._part / name).write_text("".join(self._rows), encoding="utf-8")
        text = tub_format.catalog_manifest(
            name, self._rows, start_index=self._count - len(self._rows), created_s=self._started_s
        )
        (self._part / f"{name}_manifest").write_text(text, encoding="utf-8")
        self._catalogs.append(name)
        self._rows = []

    def _write_manifest(self) -> None:
        text = tub_format.manifest(
            metadata=self._metadata, sessions=self._sessions, catalogs=self._catalogs, count=self._count,
            created_s=self._started_s,
        )  # fmt: skip
        (self._part / "manifest.json").write_text(text, encoding="utf-8")


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
    with TubWriter(path, rate_hz=simulator.rate_hz, metadata=metadata) as tub:
        frame, state = simulator.reset(seed)
        for _ in range(frames):
            steering = simulator.expert()
            throttle = simulator.expert_throttle() if slow else USUAL_THROTTLE
            tub.add(frame, steering, throttle)
            errors.append(abs(state.cte_m))
            kick = kicker.step() if kicks else 0.0
            frame, state = simulator.step(steering + kick, throttle if slow else None)
            if state.off_road:
                frame, state = _put_back(simulator, kicker, tub)
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


def _put_back(simulator: Simulator, kicker: _Kicks, tub: TubWriter) -> tuple[NDArray[np.uint8], State]:
    """No frame from beside the road: the net would learn to see it as a place to be."""
    kicker.stop()
    tub.new_session()
    return simulator.recentre()

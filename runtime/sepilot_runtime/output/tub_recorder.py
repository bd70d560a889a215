"""Recording what was seen and done as a Donkeycar tub, so that it goes back into `sepilot train`.

A car loses power without notice. So each picture is on disk before the row that names it, rows are flushed one by one,
and the manifest names a catalog before its first row: whatever is cut off, a reader finds a whole tub up to that frame.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from sepilot_runtime.base.errors import OutputError
from sepilot_runtime.base.files import require_new
from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.drive.actuation import STEERING, THROTTLE
from sepilot_runtime.drive.step import Step
from sepilot_runtime.drive.supervisor import Control
from sepilot_runtime.engine.pilot import Prediction
from sepilot_runtime.recording import tub_format
from sepilot_runtime.source.pixel_formats import color_of
from sepilot_runtime.source.protocol import Frame

__all__ = ["TubRecorder"]

JPEG_QUALITY = 95
LEAST_FREE_BYTES = 64 << 20
FRAMES_PER_SPACE_CHECK = 50


class TubRecorder:
    """Writes every step that steered into a new tub while `control.recording` holds. Run it in the background.

    The row's steering is what the model asked of the road, which is what a net is to learn, and not what this car's
    servo makes of it; that is in a column of its own. Its mode is the state. While the car stands in neutral nothing is
    written: straight ahead is no label for what was seen then. When it starts again after a pause a new session begins
    in the same tub.

    Attributes:
        count: frames that are safely written.
    """

    def __init__(
        self,
        path: Path,
        control: Control,
        *,
        full_scale_deg: float,
        model: str,
        outputs: Sequence[str] = (),
        wall_clock_s: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            model: the recipe's name, for the tub's metadata.
            outputs: of the model. Those that drive nothing get columns of their own names.

        Raises:
            OutputError: `path` exists or cannot be written.
        """
        require_new(path)
        self.count = 0
        self._path, self._control = path, control
        self._metadata = {"full_scale_deg": full_scale_deg, "model": model}
        self._others = [name for name in outputs if name not in (STEERING, THROTTLE)]
        self._created_s = wall_clock_s()
        self._day = datetime.fromtimestamp(self._created_s, UTC).strftime("%y-%m-%d")
        self._sessions: list[str] = []
        self._catalogs: list[str] = []
        self._lines: list[str] = []
        self._catalog: TextIO | None = None
        self._paused = True
        # Frames carry monotonic times; a clock that is set on the way must not tear the recording apart.
        self._offset_s = self._created_s - time.monotonic_ns() / 1e9

    def write(self, step: Step) -> None:
        if not self._control.recording or step.frame is None:
            self._paused = True
            return
        if step.prediction is None or not step.state.answers:
            return
        try:
            self._add(step.frame, step.prediction, step)
        except OSError as e:
            raise OutputError(f"{self._path}: recording stopped: {e.strerror or e}") from e

    def close(self) -> None:
        if self._catalog is not None:
            self._finish_catalog()
        if self._catalogs:
            self._write_manifest()

    def _add(self, frame: Frame, prediction: Prediction, step: Step) -> None:
        if self.count % FRAMES_PER_SPACE_CHECK == 0:
            self._require_space()
        if self._paused:
            self._sessions.append(f"{self._day}_{len(self._sessions)}")
            self._paused = False
        if self._catalog is None:
            self._begin_catalog()
        assert self._catalog is not None
        done, data = cv2.imencode(".jpg", color_of(frame.image), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not done:
            raise OutputError(f"{self._path}: OpenCV cannot encode a frame of shape {frame.image.shape}")
        (self._path / tub_format.IMAGES / tub_format.image_name(self.count)).write_bytes(data.tobytes())
        line = tub_format.row(
            self.count, session=self._sessions[-1], time_s=self._offset_s + frame.arrived_ns / 1e9,
            steering=prediction.values[STEERING], throttle=step.throttle, mode=step.state.value, servo=step.steering,
            others={name: prediction.values[name] for name in self._others if name in prediction.values},
        )  # fmt: skip
        self._catalog.write(line)
        self._catalog.flush()
        self._lines.append(line)
        self.count += 1
        if len(self._lines) == tub_format.ROWS_PER_CATALOG:
            self._finish_catalog()

    def _require_space(self) -> None:
        parent = next(p for p in self._path.absolute().parents if p.exists())
        if shutil.disk_usage(parent).free < LEAST_FREE_BYTES:
            raise OutputError(
                f"{self._path}: recording stopped after {self.count} frames: less than "
                f"{LEAST_FREE_BYTES >> 20} MiB left on the disk"
            )

    def _begin_catalog(self) -> None:
        (self._path / tub_format.IMAGES).mkdir(parents=True, exist_ok=True)
        self._catalogs.append(f"catalog_{len(self._catalogs)}.catalog")
        self._write_manifest()
        self._catalog = (self._path / self._catalogs[-1]).open("w", encoding="utf-8")

    def _finish_catalog(self) -> None:
        assert self._catalog is not None
        self._catalog.close()
        self._catalog = None
        name = self._catalogs[-1]
        text = tub_format.catalog_manifest(
            name, self._lines, start_index=self.count - len(self._lines), created_s=self._created_s
        )
        (self._path / f"{name}_manifest").write_text(text, encoding="utf-8")
        self._lines = []

    def _write_manifest(self) -> None:
        part = self._path / "manifest.json.part"
        part.write_text(
            tub_format.manifest(
                metadata=self._metadata, sessions=self._sessions, catalogs=self._catalogs, count=self.count,
                created_s=self._created_s, servo=True,
            ),
            encoding="utf-8",
        )  # fmt: skip
        part.replace(self._path / "manifest.json")

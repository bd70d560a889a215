"""What the drive tells its page's process, and what it does for it. Runs in the drive, and only when it is asked."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sepilot_runtime.base.documents import plain
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.drive.actuation import STEERING, steers
from sepilot_runtime.drive.step import Sink
from sepilot_runtime.drive.supervisor import Control
from sepilot_runtime.engine.pilot import Pilot
from sepilot_runtime.output.background import Background
from sepilot_runtime.output.web.feed import WebSink
from sepilot_runtime.output.web.pictures import put_frame

__all__ = ["STOP_REASON", "Answers", "Watched", "model_card"]

STOP_REASON = "emergency stop on the page"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Watched:
    """What the page shows of a drive beside its steps.

    Attributes:
        pilot: that drives now.
        lost: frames that did not come through, by reason.
        outputs: told of when one fails.
        supervised: a live drive, which can be stopped and started.
        recorder: it can record.
        deadline_ms: from the arrival of a frame to the steering.
        horizon: row of the horizon as a fraction of the frame's height, for drawing the path.
    """

    pilot: Callable[[], Pilot]
    control: Control
    lost: Callable[[], Mapping[str, int]]
    outputs: Sequence[Sink] = ()
    supervised: bool = True
    recorder: bool = False
    deadline_ms: float = 50.0
    horizon: float = 0.45


class Answers:
    """Answers the words of the page's process. For one thread, which is not the loop's."""

    def __init__(self, sink: WebSink, watched: Watched) -> None:
        self._sink, self._watched = sink, watched
        self._lost: Mapping[str, int] = {}
        self._card: tuple[Pilot, dict[str, Any]] | None = None

    def answer(self, word: str) -> dict[str, Any]:
        """Do what a word asks for: about, picture, stop, start, record or pause; all others give the drive as it is."""
        control = self._watched.control
        if word == "about":
            return self._about()
        if word == "picture":
            return put_frame(self._sink.seen, self._sink.frame, self._watched.pilot().contract.picture)
        if word == "stop":
            control.stop(STOP_REASON)
        elif word == "start":
            control.start()
        elif word in ("record", "pause"):
            control.recording = word == "record"
        return {
            "model": self._model()["sha256"],
            "lost": self._lost_now(),
            "outputs": [_output(output) for output in self._watched.outputs if output is not self._sink],
            "recording": control.recording,
            "stopping": control.stopped,
        }

    def _about(self) -> dict[str, Any]:
        """What does not change while one model drives."""
        watched = self._watched
        return {
            "supervised": watched.supervised,
            "recorder": watched.recorder,
            "deadline_ms": watched.deadline_ms,
            "horizon": watched.horizon,
            "model": self._model(),
        }

    def _model(self) -> dict[str, Any]:
        pilot = self._watched.pilot()
        if self._card is None or self._card[0] is not pilot:
            self._card = pilot, model_card(pilot)
        return self._card[1]

    def _lost_now(self) -> Mapping[str, int]:
        # The source may meet a new reason while its counts are read; the next look shows it.
        with contextlib.suppress(RuntimeError):
            self._lost = {reason: count for reason, count in self._watched.lost().items() if count}
        return self._lost


def model_card(pilot: Pilot) -> dict[str, Any]:
    """What the contract in the file says, and the file's checksum."""
    contract, engine = pilot.contract, pilot.engine
    provenance, picture, steered = contract.provenance, contract.picture, steers(contract)
    output = contract.output(STEERING) if steered else contract.outputs[0]
    task = task_of(output)
    try:
        data = engine.path.read_bytes()
    except OSError:  # Taken away since it was loaded.
        data = b""
    return {
        "recipe": provenance.recipe,
        "precision": provenance.precision,
        "sparsity": provenance.sparsity,
        "engine": engine.name,
        "threads": engine.threads,
        "file": engine.path.name,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest() if data else "",
        "created": provenance.created,
        "drives": list(provenance.drives),
        "validation_drives": list(provenance.validation_drives),
        "validation": dict(provenance.validation),
        "picture": {
            "width": picture.width,
            "height": picture.height,
            "color": picture.color,
            "crop": [picture.crop_top, picture.crop_bottom, picture.crop_left, picture.crop_right],
        },
        "frame": [contract.frame.width, contract.frame.height] if contract.frame else None,
        "steers": steered,
        "reading": {"name": output.name, "span": list(task.span)},
        "full_scale_deg": output.scale if steered else None,
        "golden": len(contract.golden),
        "tolerance": contract.tolerance[output.name],
        "outputs": [plain(output) for output in contract.outputs],
    }


def _output(sink: Sink) -> dict[str, Any]:
    if not isinstance(sink, Background):
        return {"name": type(sink).__name__, "failure": None, "dropped": 0}
    # Where only the newest step counts, the others are not missing.
    return {"name": sink.name, "failure": sink.failure, "dropped": 0 if sink.newest else sink.dropped}

"""Everything the page shows, as plain values: the drive as it is now, and the model that it drives with."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sepilot_runtime.conditions import temperature_c
from sepilot_runtime.latency import latency_of
from sepilot_runtime.pilot import STEERING, Pilot
from sepilot_runtime.sinks import Background, Sink, Step
from sepilot_runtime.states import Control, State
from sepilot_runtime.web.feed import Record, WebSink

__all__ = ["BUCKET_MS", "Status", "Watched", "model_card"]

BUCKET_MS = 50
SHOWN_S = 20.0
PERCENTILES_OF = 500
CHANGES_SHOWN = 16
RATE_OVER_S = 2.0
FIGURES_EVERY_S = 0.4
MACHINE_EVERY_S = 5.0


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


class Status:
    """Reads sink and drive. For one thread."""

    def __init__(self, sink: WebSink, watched: Watched, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.drive = secrets.token_hex(4)
        self._sink, self._watched, self._clock_ns = sink, watched, clock_ns
        self._lost: Mapping[str, int] = {}
        self._figures: tuple[int, dict[str, Any]] | None = None
        self._machine: tuple[int, dict[str, Any]] | None = None
        self._card: tuple[Pilot, dict[str, Any]] | None = None

    def about(self) -> dict[str, Any]:
        """What does not change while one model drives."""
        watched = self._watched
        return {
            "drive": self.drive,
            "supervised": watched.supervised,
            "recorder": watched.recorder,
            "deadline_ms": watched.deadline_ms,
            "horizon": watched.horizon,
            "bucket_ms": BUCKET_MS,
            "shown_s": SHOWN_S,
            "model": self._model(),
        }

    def now(self, since_bucket: int) -> dict[str, Any]:
        """The drive as it is. `samples` are those of `since_bucket` and later."""
        sink, control, now_ns = self._sink, self._watched.control, self._clock_ns()
        step = sink.newest
        return self._figures_now(now_ns) | {
            "drive": self.drive,
            "model": self._model()["sha256"],
            "count": sink.records.count,
            "state": step.state.value if step else "waiting",
            "reason": step.reason if step else "the drive has not begun",
            "state_ms": _ms(now_ns - sink.state_ns) if step else 0.0,
            "silent_ms": _ms(now_ns - step.decided_ns) if step else None,
            "steering": _rounded(step.steering, 4) if step else None,
            "throttle": _rounded(step.throttle, 4) if step else None,
            "model_deg": _rounded(step.prediction.steering_deg, 2) if step and step.prediction else None,
            "age_ms": _rounded(step.age_ms, 2) if step else None,
            "frames": sink.seen[0] if sink.seen else 0,
            "late": sink.late,
            "late_ago_ms": _ms(now_ns - sink.late_ns) if sink.late else None,
            "lost": self._lost_now(),
            "outputs": [_output(output) for output in self._watched.outputs if output is not sink],
            "recording": control.recording,
            "stopping": control.stopped,
            "ended": _ending(step) if sink.closed else None,
            "changes": _changes(sink, now_ns),
            "machine": self._machine_now(now_ns),
            "bucket": now_ns // (BUCKET_MS * 1_000_000),
            "samples": _samples(sink, max(since_bucket, _bucket(now_ns) - round(SHOWN_S * 1000 / BUCKET_MS))),
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

    def _figures_now(self, now_ns: int) -> dict[str, Any]:
        """Figures over many steps, worked out twice a second: whoever computes keeps the drive from computing."""
        if self._figures is None or now_ns - self._figures[0] > FIGURES_EVERY_S * 1e9:
            records = list(itertools.islice(self._sink.records.backwards(), PERCENTILES_OF))
            found = {
                "ages_ms": _percentiles([record.age_ms for record in records if record.age_ms is not None]),
                "total_us": _percentiles([record.total_us for record in records if record.model is not None]),
                "rate_hz": _rate_hz(records, now_ns) if records else 0.0,
            }
            if not records:
                return found
            self._figures = now_ns, found
        return self._figures[1]

    def _machine_now(self, now_ns: int) -> dict[str, Any]:
        if self._machine is None or now_ns - self._machine[0] > MACHINE_EVERY_S * 1e9:
            load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
            found = {"temperature_c": temperature_c(), "load": load, "cores": os.cpu_count()}
            self._machine = now_ns, found
        return self._machine[1]


def model_card(pilot: Pilot) -> dict[str, Any]:
    """What the contract in the file says, and the file's checksum."""
    contract, engine = pilot.contract, pilot.engine
    provenance, picture, output = contract.provenance, contract.picture, contract.output(STEERING)
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
        "full_scale_deg": output.scale,
        "golden": len(contract.golden),
        "tolerance": contract.tolerance,
    }


def _ending(last: Step | None) -> str:
    """What a supervised drive says with its last step."""
    return last.reason if last is not None and last.state is State.STOPPED else "over"


def _output(sink: Sink) -> dict[str, Any]:
    if not isinstance(sink, Background):
        return {"name": type(sink).__name__, "failure": None, "dropped": 0}
    # Where only the newest step counts, the others are not missing.
    return {"name": sink.name, "failure": sink.failure, "dropped": 0 if sink.newest else sink.dropped}


def _changes(sink: WebSink, now_ns: int) -> list[list[Any]]:
    """Number, how long ago in ms, state, reason; newest first."""
    count = sink.changes.count
    return [
        [count - number, _ms(now_ns - change.at_ns), change.state.value, change.reason]
        for number, change in enumerate(itertools.islice(sink.changes.backwards(), CHANGES_SHOWN), 1)
    ]


def _samples(sink: WebSink, first: int) -> list[list[Any]]:
    """One row per bucket of `BUCKET_MS`: its number; the last steering, model and recording in it; the worst age in ms
    and time in µs; how many were late; the last state. Oldest first.
    """
    rows: dict[int, list[Any]] = {}
    for record in sink.records.backwards():
        bucket = record.decided_ns // (BUCKET_MS * 1_000_000)
        if bucket < first:
            break
        row = rows.get(bucket)
        if row is None:
            steering, model, recorded = (_rounded(v, 3) for v in (record.steering, record.model, record.recorded))
            row = rows[bucket] = [bucket, steering, model, recorded, None, None, 0, record.state.value]
        if record.age_ms is not None:
            row[4] = max(row[4] or 0.0, round(record.age_ms, 2))
            row[5] = max(row[5] or 0.0, round(record.total_us, 1))
        row[6] += record.late
    return list(reversed(rows.values()))


def _bucket(at_ns: int) -> int:
    return at_ns // (BUCKET_MS * 1_000_000)


def _percentiles(samples: Sequence[float]) -> dict[str, float] | None:
    if not samples:
        return None
    found = latency_of(samples)
    return {"p50": round(found.p50_us, 2), "p99": round(found.p99_us, 2), "max": round(found.max_us, 2)}


def _rate_hz(newest_first: Sequence[Record], now_ns: int) -> float:
    """Frames per second over the last two, or over those that are given where they are quicker."""
    recent = []
    for record in newest_first:
        if record.decided_ns <= now_ns - RATE_OVER_S * 1e9:
            break
        if record.age_ms is not None:
            recent.append(record.decided_ns)
    whole = len(newest_first) < PERCENTILES_OF or newest_first[-1].decided_ns <= now_ns - RATE_OVER_S * 1e9
    over_s = RATE_OVER_S if whole else (now_ns - newest_first[-1].decided_ns) / 1e9
    return round(len(recent) / max(over_s, 1e-3), 1)


def _ms(ns: float) -> float:
    return round(ns / 1e6, 1)


def _rounded(value: float | None, digits: int) -> Any:
    return None if value is None else round(value, digits)

"""Everything the page shows of the drive as it is now, as plain values."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from sepilot_runtime.base.latency import latency_of
from sepilot_runtime.device.conditions import temperature_c
from sepilot_runtime.drive.state import State
from sepilot_runtime.output.web.feed import Feed, Record
from sepilot_runtime.output.web.link import Link

__all__ = ["BUCKET_MS", "Status"]

BUCKET_MS = 50
SHOWN_S = 20.0
PERCENTILES_OF = 500
CHANGES_SHOWN = 16
RATE_OVER_S = 2.0
FIGURES_EVERY_S = 0.4
MACHINE_EVERY_S = 5.0


class Status:
    """Reads what the drive writes and says. For one thread."""

    def __init__(self, feed: Feed, link: Link, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._feed, self._link, self._clock_ns = feed, link, clock_ns
        self._figures: tuple[int, dict[str, Any]] | None = None
        self._machine: tuple[int, dict[str, Any]] | None = None

    def about(self) -> dict[str, Any]:
        """What does not change while one model drives."""
        return self._link.about | {"drive": self._link.drive, "bucket_ms": BUCKET_MS, "shown_s": SHOWN_S}

    def now(self, since_bucket: int) -> dict[str, Any]:
        """The drive as it is. `samples` are those of `since_bucket` and later."""
        feed, facts, now_ns = self._feed, self._link.facts, self._clock_ns()
        step = feed.newest
        return self._figures_now(now_ns) | {
            "drive": self._link.drive,
            "model": facts.get("model", ""),
            "count": feed.count,
            "state": step.state.value if step else "waiting",
            "reason": step.reason if step else "the drive has not begun",
            "state_ms": _ms(now_ns - feed.state_ns) if step else 0.0,
            "silent_ms": _ms(now_ns - step.decided_ns) if step else None,
            "steering": _rounded(step.steering, 4) if step else None,
            "throttle": _rounded(step.throttle, 4) if step else None,
            "model_deg": _rounded(step.model_deg, 2) if step else None,
            "age_ms": _rounded(step.age_ms, 2) if step else None,
            "frames": step.frames if step else 0,
            "late": step.late if step else 0,
            "late_ago_ms": _ms(now_ns - step.late_ns) if step and step.late else None,
            "lost": facts.get("lost", {}),
            "outputs": facts.get("outputs", []),
            "recording": facts.get("recording", False),
            "stopping": facts.get("stopping"),
            "ended": _ending(step) if self._link.closed else None,
            "changes": _changes(feed, now_ns),
            "machine": self._machine_now(now_ns),
            "bucket": _bucket(now_ns),
            "samples": _samples(feed, max(since_bucket, _bucket(now_ns) - round(SHOWN_S * 1000 / BUCKET_MS))),
        }

    def _figures_now(self, now_ns: int) -> dict[str, Any]:
        """Figures over many steps, worked out twice a second."""
        if self._figures is None or now_ns - self._figures[0] > FIGURES_EVERY_S * 1e9:
            records = list(itertools.islice(reversed(self._feed.records), PERCENTILES_OF))
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


def _ending(last: Record | None) -> str:
    """What a supervised drive says with its last step."""
    return last.reason if last is not None and last.state is State.STOPPED else "over"


def _changes(feed: Feed, now_ns: int) -> list[list[Any]]:
    """Number, how long ago in ms, state, reason; newest first."""
    return [
        [feed.change_count - number, _ms(now_ns - change.at_ns), change.state.value, change.reason]
        for number, change in enumerate(itertools.islice(reversed(feed.changes), CHANGES_SHOWN), 1)
    ]


def _samples(feed: Feed, first: int) -> list[list[Any]]:
    """One row per bucket of `BUCKET_MS`: its number; the last steering, model and recording in it; the worst age in ms
    and time in µs; how many were late; the last state. Oldest first.
    """
    rows: dict[int, list[Any]] = {}
    for record in reversed(feed.records):
        bucket = _bucket(record.decided_ns)
        if bucket < first:
            break
        row = rows.get(bucket)
        if row is None:
            steering, model, recorded = (_rounded(v, 3) for v in (record.steering, record.model, record.recorded))
            row = rows[bucket] = [bucket, steering, model, recorded, None, None, 0, record.state.value]
        if record.age_ms is not None:
            row[4] = max(row[4] or 0.0, round(record.age_ms, 2))
            row[5] = max(row[5] or 0.0, round(record.total_us, 1))
        row[6] += record.missed
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

"""Latency of whole paths, frame in memory to angle, measured so that the figures can be compared.

Every round visits all variants in a new random order, so that a change of the clock or of the load meets all of them
alike. The frames rotate through more memory than the last level cache holds, as a camera's frames come from memory too.
The first calls of a visit are dropped: they pay for what the other variants evicted.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.latency import Way, interleave, latency_of
from sepilot_runtime.bench.record import BenchRow
from sepilot_runtime.device.conditions import last_level_cache_bytes
from sepilot_runtime.engine.bare import BareModel, open_bare, random_inputs
from sepilot_runtime.engine.engines import Engine
from sepilot_runtime.engine.golden import verify_golden
from sepilot_runtime.engine.names import EngineName
from sepilot_runtime.engine.pilot import Pilot, Prediction, load_pilot
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_runtime.source.opening import open_source

__all__ = ["Variant", "measure", "read_frames", "synthetic_frames"]

WARM_UP_CALLS = 10
FEWEST_CALLS = 3
LONGEST_VISIT_S = 0.5
"""A visit to something slow makes fewer calls, so that it does not hold up everything else."""

MOST_MEMORY = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A model file, the number of threads that its interpreter may use, and which that is (None: the usual one).

    Attributes:
        bare: the file has no contract: it is given random numbers, and nobody knows whether its answers are right.
    """

    path: Path
    threads: int
    engine: EngineName | None = None
    bare: bool = False


def synthetic_frames(*, height: int = 480, width: int = 640, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Noise frames (H, W, 3) uint8 that together exceed the last level cache, up to 256 MiB."""
    frame_bytes = height * width * 3
    count = max(8, min(2 * last_level_cache_bytes(), MOST_MEMORY) // frame_bytes)
    rng = np.random.default_rng(seed)
    return [np.frombuffer(rng.bytes(frame_bytes), np.uint8).reshape(height, width, 3) for _ in range(count)]


def read_frames(spec: str, options: ReaderOptions | None = None, *, most: int = 300) -> list[NDArray[np.uint8]]:
    """Up to `most` frames of a source, in memory. Raises DriveError as `open_source` does."""
    frames = []
    with open_source(spec, options=options) as source:
        for frame in source:
            frames.append(frame.image)
            if len(frames) == most:
                break
    return frames


def measure(
    variants: Sequence[Variant],
    frames: Sequence[NDArray[np.uint8]],
    *,
    rounds: int = 20,
    calls: int = 100,
    seed: int = 0,
    references: Sequence[Engine] = (),
    tick: Callable[[], object] = lambda: None,
) -> list[BenchRow]:
    """Measure all variants, interleaved. Each must pass its golden frames first, unless it is bare.

    Args:
        rounds: visits to each variant.
        calls: that count per visit; fewer for what would take longer than half a second.
        references: engines to measure beside them, as they are; they come last.
        seed: of the order of the visits.
        tick: called after every visit.

    Returns:
        Rows without what is found out apart from this: a name unlike the others, checksum, MACs, cold start.

    Raises:
        ModelFileError, ContractError, MissingExtraError: as `load_pilot`.
        FrameError: the frames are of an impossible shape.
        UsageError: an interpreter does not run its file.
    """
    runs = [_opened(variant, frames, seed) for variant in variants]
    runs += [_Run(Pilot(engine), frames, reference=True) for engine in references]
    taken_us = interleave([run.way(frames, calls) for run in runs], rounds=rounds, seed=seed, tick=tick)
    first_us = float(np.percentile(taken_us[0], 50, method="higher"))
    return [run.result(us, first_us) for run, us in zip(runs, taken_us, strict=True)]


def _opened(variant: Variant, frames: Sequence[NDArray[np.uint8]], seed: int) -> _Run:
    start = time.perf_counter()
    if variant.bare:
        bare = open_bare(variant.path, threads=variant.threads, engine=variant.engine)
        return _Run(_Bare(bare, seed), frames, load_ms=(time.perf_counter() - start) * 1e3)
    pilot = load_pilot(variant.path, threads=variant.threads, verify=False, engine=variant.engine)
    run = _Run(pilot, frames, load_ms=(time.perf_counter() - start) * 1e3)
    verify_golden(pilot.engine)
    return run


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answered:
    """The times of a `Prediction`, for a file of which nobody knows what it predicts."""

    infer_us: float
    preprocess_us: float = 0.0
    post_us: float = 0.0


class _Bare:
    """A file without a contract in the place of a pilot: any frame is answered with its answer to random numbers."""

    def __init__(self, model: BareModel, seed: int) -> None:
        self.engine = model
        self._feed = random_inputs(model, seed)

    def predict(self, frame: NDArray[np.uint8]) -> _Answered:
        start = time.perf_counter_ns()
        self.engine.run(self._feed)
        return _Answered(infer_us=(time.perf_counter_ns() - start) / 1000)


class _Run:
    """One variant with its samples."""

    def __init__(
        self,
        pilot: Pilot | _Bare,
        frames: Sequence[NDArray[np.uint8]],
        *,
        load_ms: float = 0.0,
        reference: bool = False,
    ) -> None:
        self.pilot, self.load_ms, self._reference = pilot, load_ms, reference
        start = time.perf_counter()
        pilot.predict(frames[0])
        self.first_us = (time.perf_counter() - start) * 1e6
        start = time.perf_counter()
        pilot.predict(frames[0])
        self._most_calls = max(FEWEST_CALLS, int(LONGEST_VISIT_S / (time.perf_counter() - start)))
        self.preprocess, self.infer, self.post = array("d"), array("d"), array("d")

    def way(self, frames: Sequence[NDArray[np.uint8]], calls: int) -> Way:
        calls = min(calls, self._most_calls)
        warm_up = min(WARM_UP_CALLS, calls)
        return Way(run=self.pilot.predict, items=frames, calls=calls, warm_up=warm_up, took=self._took)

    def _took(self, prediction: Prediction | _Answered) -> None:
        self.preprocess.append(prediction.preprocess_us)
        self.infer.append(prediction.infer_us)
        self.post.append(prediction.post_us)

    def result(self, taken_us: NDArray[np.float64], first_us: float) -> BenchRow:
        """
        Args:
            taken_us: (rounds, calls) of each whole call.
            first_us: the median of the first variant's.
        """
        engine = self.pilot.engine
        total = latency_of(taken_us.ravel())
        return BenchRow(
            file=engine.path.name,
            path=str(engine.path),
            engine=engine.name,
            precision=self.pilot.contract.provenance.precision if isinstance(self.pilot, Pilot) else "-",
            threads=engine.threads,
            reference=self._reference,
            contract=isinstance(self.pilot, Pilot),
            bytes=engine.path.stat().st_size,
            load_ms=self.load_ms,
            first_us=self.first_us,
            us_min=total.min_us,
            us_p50=total.p50_us,
            us_p90=total.p90_us,
            us_p99=total.p99_us,
            us_max=total.max_us,
            us_p50_by_round=tuple(np.median(taken_us, axis=1).tolist()),
            count=total.count,
            preprocess=latency_of(self.preprocess),
            infer=latency_of(self.infer),
            post=latency_of(self.post),
            ratio=total.p50_us / first_us,
        )

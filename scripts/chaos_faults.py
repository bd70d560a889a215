"""The faults that `scripts/chaos` mixes: what cameras, drivers, buses, models and people were seen to do.

Each begins, lasts for some frame periods, and ends. `KINDS` says of each how soon the car must be in neutral.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from chaos_world import PERIOD_NS, Arrival, Chip, Clock, Image, ReplayedCamera, Spoiler
from numpy.typing import NDArray

from sepilot_runtime.contract.contract import Contract
from sepilot_runtime.drive.supervisor import Control
from sepilot_runtime.engine.engines import Engine

__all__ = ["KINDS", "START_PERIODS", "Kind", "Stage", "TroubledEngine"]

WATCHED_PERIODS = 2.0
"""How soon neutral must follow, unless a kind says otherwise."""


class TroubledEngine:
    """An engine whose model is slow, raises, or answers with NaN, as told.

    Attributes:
        troubles: of "slow", "raises" and "nan".
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine, self._clock = engine, clock
        self.troubles: set[str] = set()
        self.name, self.path, self.threads = engine.name, engine.path, engine.threads
        self.contract, self.input_dtype = engine.contract, engine.input_dtype

    name: str
    path: Path
    threads: int
    contract: Contract
    input_dtype: np.dtype[Any]

    def input_tensor(self, name: str | None = None) -> NDArray[Any]:
        return self._engine.input_tensor(name)

    def run(self) -> Mapping[str, NDArray[np.float32]]:
        self._clock.now_ns += 90_000_000 if "slow" in self.troubles else 500_000
        if "raises" in self.troubles:
            raise RuntimeError("chaos: the interpreter failed")
        answers = self._engine.run()
        return {name: a * np.nan for name, a in answers.items()} if "nan" in self.troubles else answers


@dataclass(slots=True, kw_only=True)
class Stage:
    """What faults can get at."""

    clock: Clock
    camera: ReplayedCamera
    chip: Chip
    engine: TroubledEngine
    control: Control
    rng: np.random.Generator


Begin = Callable[[Stage], Callable[[], None]]
"""Inflicts a fault on the stage, and gives what takes it away again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A fault.

    Attributes:
        periods: from its first frame until the car must be in neutral; None for what it may drive through.
        longest: how many frame periods it lasts at most.
        turn_periods: frame periods that a turn of the loop takes under it.
        from_start: `periods` begin anew whenever the car starts, as it is given time to.
    """

    begin: Begin
    periods: float | None = WATCHED_PERIODS
    longest: int = 24
    turn_periods: float = 1.0
    from_start: bool = False


# --- Pictures ---------------------------------------------------------------------------------------------------------


class _Spoiled(Spoiler):
    """Applies a function of the last good frames, the frame that is due, and the number of frames since the onset."""

    def __init__(self, spoil: Callable[[Sequence[Image], Image, int], Image | None], then: Spoiler | None) -> None:
        self._spoil, self._then = spoil, then
        self._count = 0

    def arrive(self, recent: Sequence[Image], image: Image) -> Arrival:
        arrival = self._then.arrive(recent, image) if self._then else Arrival(image=image)
        if arrival.image is not None:
            arrival.image = self._spoil(recent, arrival.image, self._count)
        self._count += 1
        return arrival


def pictures(make: Callable[[np.random.Generator], Callable[[Sequence[Image], Image, int], Image | None]]) -> Begin:
    """A fault of the pictures; two at a time go one after the other."""

    def begin(stage: Stage) -> Callable[[], None]:
        before = stage.camera.spoiler
        stage.camera.spoiler = _Spoiled(make(stage.rng), before)

        def end() -> None:
            stage.camera.spoiler = None

        return end

    return begin


def ring(count: int) -> Begin:
    """A driver that gives the same few buffers in turn."""
    return pictures(lambda rng: lambda recent, image, k: recent[k % count - count])


def noisy(sigma: float) -> Callable[[np.random.Generator], Callable[[Image], Image]]:
    def with_rng(rng: np.random.Generator) -> Callable[[Image], Image]:
        return lambda image: np.clip(image + rng.normal(0, sigma, image.shape), 0, 255).astype(np.uint8)

    return with_rng


def _one_bit(rng: np.random.Generator) -> Callable[[Sequence[Image], Image, int], Image]:
    def spoil(recent: Sequence[Image], image: Image, k: int) -> Image:
        spoiled = recent[-1].copy()
        spoiled.flat[rng.integers(spoiled.size)] ^= 1 << rng.integers(8)
        return spoiled

    return spoil


def _still(rng: np.random.Generator) -> Callable[[Sequence[Image], Image, int], Image]:
    noise = noisy(float(rng.uniform(0.5, 3)))(rng)
    return lambda recent, image, k: noise(recent[-1])


def _plain(level: Callable[[np.random.Generator], float]) -> Begin:
    def make(rng: np.random.Generator) -> Callable[[Sequence[Image], Image, int], Image]:
        value, noise = level(rng), noisy(0.4)(rng)
        return lambda recent, image, k: noise(np.full_like(image, round(value)))

    return pictures(make)


def _covered(rng: np.random.Generator) -> Callable[[Sequence[Image], Image, int], Image]:
    noise = noisy(1.0)(rng)
    return lambda recent, image, k: noise(cv2.GaussianBlur(image, (0, 0), image.shape[1] / 6) // 12)


def _half_filled(rng: np.random.Generator) -> Callable[[Sequence[Image], Image, int], Image]:
    # A buffer of zeros is green in YUV; others fill with gray or black.
    color = [(0, 135, 0), (128, 128, 128), (0, 0, 0)][rng.integers(3)]

    def spoil(recent: Sequence[Image], image: Image, k: int) -> Image:
        spoiled = image.copy()
        spoiled[round(image.shape[0] * 0.5) :] = color
        return spoiled

    return spoil


def _torn(rng: np.random.Generator) -> Callable[[Sequence[Image], Image, int], Image]:
    """The lower part of the buffer is never written again."""
    share = rng.uniform(0.35, 0.65)

    def spoil(recent: Sequence[Image], image: Image, k: int) -> Image:
        spoiled, row = image.copy(), round(image.shape[0] * share)
        # Where another fault changed the size, what is left of the buffer is no picture any more.
        spoiled[row:] = recent[-1][row:] if recent[-1].shape == image.shape else 0
        return spoiled

    return spoil


def _noise(rng: np.random.Generator) -> Callable[[Sequence[Image], Image, int], Image]:
    return lambda recent, image, k: rng.integers(0, 256, image.shape, np.uint8)


def _flicker(rng: np.random.Generator) -> Callable[[Sequence[Image], Image, int], Image]:
    return lambda recent, image, k: np.clip(image * (0.35, 1.9)[k % 2], 0, 255).astype(np.uint8)


def _reshaped(change: Callable[[int, int], tuple[int, int]]) -> Begin:
    def spoil(recent: Sequence[Image], image: Image, k: int) -> Image:
        return cv2.resize(image, change(image.shape[1], image.shape[0])).astype(np.uint8, copy=False)

    return pictures(lambda rng: spoil)


# --- Time -------------------------------------------------------------------------------------------------------------


class _Timed(Spoiler):
    def __init__(self, change: Callable[[Arrival, int], Arrival], then: Spoiler | None) -> None:
        self._change, self._then = change, then
        self._count = 0

    def arrive(self, recent: Sequence[Image], image: Image) -> Arrival:
        arrival = self._then.arrive(recent, image) if self._then else Arrival(image=image)
        self._count += 1
        return self._change(arrival, self._count - 1)


def timed(change: Callable[[Arrival, int], Arrival], *, connected: bool = True) -> Begin:
    """A fault of when frames come."""

    def begin(stage: Stage) -> Callable[[], None]:
        stage.camera.spoiler = _Timed(change, stage.camera.spoiler)
        stage.camera.connected = connected

        def end() -> None:
            stage.camera.spoiler, stage.camera.connected = None, True

        return end

    return begin


def _nothing(arrival: Arrival, k: int) -> Arrival:
    return Arrival(image=None)


def _old(arrival: Arrival, k: int) -> Arrival:
    return Arrival(image=arrival.image, delay_ns=400_000_000)


def _bursts(arrival: Arrival, k: int) -> Arrival:
    """Nothing for eight periods, then ten copies at once."""
    return Arrival(image=arrival.image, copies=10) if k % 9 == 8 else Arrival(image=None)


# --- Models, buses, people --------------------------------------------------------------------------------------------


def model(trouble: str) -> Begin:
    def begin(stage: Stage) -> Callable[[], None]:
        stage.engine.troubles.add(trouble)
        return lambda: stage.engine.troubles.discard(trouble)

    return begin


def transfers(count: int) -> Begin:
    """So many transfers in a row fail."""

    def begin(stage: Stage) -> Callable[[], None]:
        stage.chip.failing = count
        return lambda: None

    return begin


def _bus_away(stage: Stage) -> Callable[[], None]:
    stage.chip.answers_ns = stage.clock.now_ns + round(stage.rng.uniform(2, 30) * PERIOD_NS)
    return lambda: None


def _power_lost(stage: Stage) -> Callable[[], None]:
    """With it the bus is away for a moment."""
    stage.chip.lose_power()
    stage.chip.failing = 1
    return lambda: None


def _stop(stage: Stage) -> Callable[[], None]:
    stage.control.stop("chaos")
    return stage.control.start


def _paused(stage: Stage) -> Callable[[], None]:
    """The whole process is stopped for a while; here nobody watches over it, so only what follows is looked at."""
    stage.clock.now_ns += round(stage.rng.uniform(0.2, 3) * 1e9)
    return lambda: None


START_PERIODS = 42
"""`Limits.start_ms`, in which a car that was just started may stand, and two frames."""

KINDS: Mapping[str, Kind] = {
    "frozen": Kind(begin=ring(1)),
    "two buffers in turn": Kind(begin=ring(2)),
    "four buffers in turn": Kind(begin=ring(4)),
    "eight buffers in turn": Kind(begin=ring(8)),
    # A bit in the two rows of the frame that tell a freeze apart from a standing scene hides one copy.
    "frozen but for one bit": Kind(begin=pictures(_one_bit), periods=3),
    "frozen with fresh noise": Kind(begin=pictures(_still), periods=START_PERIODS, longest=64, from_start=True),
    "black": Kind(begin=_plain(lambda rng: rng.uniform(0, 4))),
    "white": Kind(begin=_plain(lambda rng: rng.uniform(252, 255))),
    "blank": Kind(begin=_plain(lambda rng: rng.uniform(20, 235))),
    "covered": Kind(begin=pictures(_covered)),
    "half filled": Kind(begin=pictures(_half_filled)),
    "torn": Kind(begin=pictures(_torn)),
    "noise": Kind(begin=pictures(_noise)),
    # It takes two steps, and the first frame after a pause is compared with nothing.
    "flicker": Kind(begin=pictures(_flicker), periods=3),
    "twice the size": Kind(begin=_reshaped(lambda width, height: (2 * width, 2 * height))),
    "portrait": Kind(begin=_reshaped(lambda width, height: (height, width))),
    "wider": Kind(begin=_reshaped(lambda width, height: (width * 4 // 3, height))),
    "no frames": Kind(begin=timed(_nothing)),
    "unplugged": Kind(begin=timed(_nothing, connected=False)),
    "old frames": Kind(begin=timed(_old)),
    "bursts": Kind(begin=timed(_bursts), longest=40),
    "the model raises": Kind(begin=model("raises")),
    "the model answers NaN": Kind(begin=model("nan")),
    "the model is slow": Kind(begin=model("slow"), periods=10, turn_periods=2),
    "one transfer fails": Kind(begin=transfers(1), periods=None),
    "four transfers fail": Kind(begin=transfers(4), periods=None),
    "the bus is away": Kind(begin=_bus_away, periods=None, longest=40),
    "the chip loses power": Kind(begin=_power_lost, periods=None),
    "paused": Kind(begin=_paused, periods=None),
    "emergency stop": Kind(begin=_stop),
}

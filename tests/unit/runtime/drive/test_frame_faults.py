"""What a camera may give that is new and shows nothing new: each is neutral within two frame periods, or named here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from fakes import ConstantEngine, ListSink
from live_script import Event, LiveScript, at_period
from model_factory import contract_of
from sepilot_runtime.base.opencv import cv2
from sepilot_runtime.contract.contract import FrameStatistics, Picture
from sepilot_runtime.contract.preprocess import picture_of
from sepilot_runtime.drive.actuation import Actuation
from sepilot_runtime.drive.loop import drive_live
from sepilot_runtime.drive.novelty import novelty_of, statistics_of
from sepilot_runtime.drive.state import State
from sepilot_runtime.drive.step import Step
from sepilot_runtime.drive.supervisor import Control, Limits
from sepilot_runtime.engine.pilot import Pilot

Image = NDArray[np.uint8]

PICTURE = Picture(height=64, width=96, crop_top=0.25)
BEFORE, DURING = 12, 12
"""Good frames before a fault, and frames of it."""

WORLD = cv2.GaussianBlur(np.random.default_rng(5).normal(0, 1, (160, 6000)), (0, 0), 3)
WORLD = cv2.resize(np.clip(110 + 300 * WORLD, 20, 220), (6000, 160))


def scene(number: float) -> NDArray[np.float64]:
    """What a car sees that turns: 3 pixels a frame."""
    at = int(3 * number) % 5000
    return np.repeat(WORLD[20:140, at : at + 160, None], 3, axis=2)


def noisy(clean: NDArray[np.float64], seed: int, sigma: float = 2.0) -> Image:
    """What a sensor makes of it."""
    noise = np.random.default_rng(seed).normal(0, sigma, clean.shape)
    return np.clip(clean + noise, 0, 255).astype(np.uint8)


def seen(number: int) -> Image:
    return noisy(scene(number), number)


@pytest.fixture(scope="module")
def trained() -> FrameStatistics:
    pictures = [picture_of(noisy(scene(n), n), PICTURE) for n in range(0, 1600, 4)]
    return dataclasses.replace(statistics_of(np.stack(pictures)), frame_size=(160, 120))


@pytest.fixture
def drive(trained: FrameStatistics) -> Callable[..., list[Step]]:
    """Drives by images, one per period, with throttle 0.3."""

    def run(
        images: list[Image], *, throttle: float = 0.3, limits: Limits | None = None,
        statistics: FrameStatistics | None = None,
    ) -> list[Step]:  # fmt: skip
        limits, control, sink = limits or Limits(), Control(), ListSink()
        script: list[Event] = [lambda _, image=image: image for image in images]  # type: ignore[misc]
        source = LiveScript(control, script)
        contract = contract_of(PICTURE, statistics=statistics or trained)
        drive_live(
            Pilot(ConstantEngine(contract, 0.2)), source, [sink], limits=limits, control=control,
            actuation=Actuation(throttle=throttle), clock_ns=source.clock,
            novelty=lambda pilot: novelty_of(pilot.contract, limits),
        )  # fmt: skip
        return sink.steps

    return run


def stale(count: int) -> Iterator[Image]:
    """So many old buffers in turn."""
    for i in range(DURING):
        yield seen(BEFORE - count + i % count)


def one_bit(_: int) -> Iterator[Image]:
    for i in range(DURING):
        image = seen(BEFORE - 1)
        image[40 + i, 7 * i] ^= 1 << i % 8
        yield image


def frozen_with_noise(sigma: int) -> Iterator[Image]:
    for i in range(DURING):
        yield noisy(scene(BEFORE - 1), 1000 + i, sigma)


def half_stuck(row: int) -> Iterator[Image]:
    """Only the upper part of the buffer is written anew."""
    for i in range(BEFORE, BEFORE + DURING):
        image = seen(i)
        image[row:] = seen(BEFORE - 1)[row:]
        yield image


def torn(ago: int) -> Iterator[Image]:
    """The lower half comes from so many frames ago."""
    for i in range(BEFORE, BEFORE + DURING):
        image = seen(i)
        image[60:] = seen(i - ago)[60:]
        yield image


def every_other(ago: int) -> Iterator[Image]:
    """A good frame between two that were seen."""
    for i in range(BEFORE, BEFORE + DURING):
        yield seen(i - ago if i % 2 == 0 else i)


def half_filled(level: int) -> Iterator[Image]:
    for i in range(BEFORE, BEFORE + DURING):
        image = seen(i)
        image[75:] = (0, level, 0) if level > 200 else level
        yield image


def flicker(levels: int) -> Iterator[Image]:
    for i in range(BEFORE, BEFORE + DURING):
        yield np.clip(seen(i).astype(int) + (levels if i % 2 else -levels), 0, 255).astype(np.uint8)


def covered(share: int) -> Iterator[Image]:
    for i in range(BEFORE, BEFORE + DURING):
        image = seen(i)
        image[:, : image.shape[1] * share // 100] //= 10
        yield image


def noise(sigma: int) -> Iterator[Image]:
    for i in range(BEFORE, BEFORE + DURING):
        yield noisy(scene(i), i, sigma)


OLD, PART, COLOUR = "is an earlier one", "a part of the picture is of", "one colour"
STILL, NOVEL, JUMP = "nothing moves", "unlike those of the training", "the brightness jumps"


@pytest.mark.parametrize(
    ("fault", "degree", "reason"),
    [
        (stale, 2, OLD), (stale, 3, OLD), (stale, 4, OLD), (stale, 8, OLD),
        (every_other, 3, OLD), (every_other, 7, OLD),
        (one_bit, 0, "frozen|twice|a part"), (half_stuck, 60, PART), (half_stuck, 80, PART),
        (frozen_with_noise, 1, STILL), (frozen_with_noise, 2, STILL), (frozen_with_noise, 4, STILL),
        (half_filled, 255, COLOUR), (half_filled, 0, COLOUR), (half_filled, 128, COLOUR),
        (covered, 50, NOVEL), (covered, 100, "black|unlike|jumps"), (noise, 10, NOVEL), (noise, 25, NOVEL),
    ],
)  # fmt: skip
def test_each_is_neutral_within_two_periods_and_recovers(
    drive: Callable[..., list[Step]], fault: Callable[[int], Iterator[Image]], degree: int, reason: str
) -> None:
    good = [seen(i) for i in range(BEFORE)]
    steps = drive([*good, *fault(degree), *(seen(i) for i in range(100, 112))])
    assert {step.state for step in steps[:BEFORE]} == {State.DRIVING}
    word = at_period(steps, BEFORE + 1)
    assert (word.state, word.steering, word.throttle) == (State.NEUTRAL, 0.0, 0.0)
    assert any(part in word.reason for part in reason.split("|")), word.reason
    assert at_period(steps, BEFORE + DURING - 1).state is State.NEUTRAL, "for as long as it lasts"
    assert steps[-2].state is State.DRIVING


@pytest.mark.parametrize("ago", [1, 3, 8])
def test_a_torn_picture_is_neutral_at_once_and_unseen_where_both_parts_are_new(
    drive: Callable[..., list[Step]], ago: int
) -> None:
    """Where every picture is torn, no part of it was shown before; nothing tells it from a picture of the road."""
    steps = drive([*(seen(i) for i in range(BEFORE)), *torn(ago)])
    first = steps[BEFORE : BEFORE + ago]
    assert {(step.state, step.reason) for step in first} == {
        (State.NEUTRAL, "a part of the picture is of an earlier one")
    }
    assert steps[-2].state is (State.DRIVING if ago < 8 else State.NEUTRAL)


def test_a_good_drive_is_driven(drive: Callable[..., list[Step]]) -> None:
    for throttle in (0.0, 0.3):
        steps = drive([seen(i) for i in range(300)], throttle=throttle)
        assert {step.state for step in steps[:-1]} == {State.DRIVING}


def test_a_car_that_stands_at_a_wall_stays_neutral_until_something_moves(drive: Callable[..., list[Step]]) -> None:
    """Throttle 0 is no reason to try again: it would jerk against the wall for ever."""
    standing = [noisy(scene(20), 500 + i) for i in range(100)]
    steps = drive([*(seen(i) for i in range(20)), *standing, *(seen(i) for i in range(20, 32))])
    states = [step.state for step in steps[:-1]]
    assert states[:20] == [State.DRIVING] * 20
    assert states[23:120] == [State.NEUTRAL] * 97 and states[-1] is State.DRIVING


def test_noise_that_looks_like_motion_once_starts_no_car(drive: Callable[..., list[Step]]) -> None:
    """A car that stood still is believed to move when it does so for three frames; else it would drive blind again."""
    still = [noisy(scene(BEFORE - 1), 1000 + i) for i in range(60)]
    for number in (10, 20, 30, 31, 45):
        still[number] = noisy(scene(number + 40), number)  # Another scene once is two changes, to it and back.
    steps = drive([*(seen(i) for i in range(BEFORE)), *still[:30], *(seen(i) for i in range(100, 112))])
    assert {step.state for step in steps[BEFORE + 3 : BEFORE + 30]} == {State.NEUTRAL}
    assert steps[-2].state is State.DRIVING


def test_a_car_has_time_to_start(drive: Callable[..., list[Step]]) -> None:
    standing = [noisy(scene(0), 500 + i) for i in range(60)]
    steps = drive([*standing[:35], *(seen(i) for i in range(30))])
    assert {step.state for step in steps[:-1]} == {State.DRIVING}
    steps = drive(standing)
    first = next(i for i, step in enumerate(steps) if step.state is State.NEUTRAL)
    assert 40 <= first <= 43 and {step.state for step in steps[first:-1]} == {State.NEUTRAL}, "after two seconds"


def test_nothing_has_to_move_while_the_throttle_is_0(drive: Callable[..., list[Step]]) -> None:
    standing = [noisy(scene(0), 500 + i) for i in range(100)]
    assert {step.state for step in drive(standing, throttle=0.0)[:-1]} == {State.DRIVING}
    off = drive(standing, limits=Limits(least_motion=0))
    assert {step.state for step in off[:-1]} == {State.DRIVING}


@pytest.mark.parametrize("levels", [17, 35, 50])
def test_flicker_is_neutral_at_its_second_step(drive: Callable[..., list[Step]], levels: int) -> None:
    steps = drive([*(seen(i) for i in range(BEFORE)), *flicker(levels)], limits=Limits(max_novelty="off"))
    # From -levels to +levels; of 17, the step from none to the first one is within what drives show.
    first = BEFORE + (levels < 35)
    assert [step.state for step in steps[first : first + 2]] == [State.DEGRADED, State.NEUTRAL]
    assert {step.reason for step in steps[first:-1]} == {JUMP}


def test_one_step_of_brightness_is_degraded_only(drive: Callable[..., list[Step]]) -> None:
    """What stays within the training's brightness is no fault, and what does not is novel."""
    brighter = [np.clip(seen(i).astype(int) + 32, 0, 255).astype(np.uint8) for i in range(12, 24)]
    steps = drive([*(seen(i) for i in range(12)), *brighter], limits=Limits(max_novelty="off"))
    assert (steps[12].state, steps[12].reason) == (State.DEGRADED, JUMP)
    assert State.NEUTRAL not in {step.state for step in steps} and steps[-2].state is State.DRIVING


def test_a_sky_that_was_over_exposed_in_the_training_is_no_missing_part(drive: Callable[..., list[Step]]) -> None:
    def with_sky(number: int) -> Image:
        image = seen(number)
        image[:70] = 255
        return image

    statistics = statistics_of(np.stack([picture_of(with_sky(n), PICTURE) for n in range(0, 1600, 8)]))
    assert statistics.flat_rows == pytest.approx(40 / 90, abs=0.05)
    steps = drive([with_sky(i) for i in range(30)], statistics=statistics)
    assert {step.state for step in steps[:-1]} == {State.DRIVING}

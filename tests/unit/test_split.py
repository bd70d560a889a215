from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from sepilot_runtime.errors import DriveError
from sepilot_train.drives import PictureSet, StoredPictures
from sepilot_train.split import Split, measure_leak, split_frames


def picture_set(name: str, n: int = 1200, rate_hz: float = 20.0, seed: int = 0) -> PictureSet:
    """A drive whose pictures drift slowly, so that neighbours look alike, and whose steering cannot be seen in them."""
    rng = np.random.default_rng([seed, n])
    drift = np.cumsum(rng.normal(0, 4, (n, 16, 24, 1)), axis=0)
    steering = np.clip(np.cumsum(rng.normal(0, 0.05, n)), -1, 1)
    return PictureSet(
        drive_id=name,
        pictures=StoredPictures((128 + drift - drift.min()).clip(0, 255).astype(np.uint8), np.arange(n)),
        time_s=np.arange(n) / rate_hz,
        steering=steering.astype(np.float32),
        throttle=np.full(n, np.nan, np.float32),
        camera=np.zeros(n, np.int8),
        names=tuple(f"{i}.jpg" for i in range(n)),
        skipped={},
        fingerprint=name,
        full_scale_deg=25.0,
        rate_hz=rate_hz,
    )


def split_of(sets: list[PictureSet], seed: int = 0) -> Split:
    return split_frames(sets, fraction=0.2, block_s=5.0, guard_s=2.0, seed=seed)


def test_one_drive_is_split_by_blocks_with_a_guard() -> None:
    drive = picture_set("a")
    split = split_of([drive])
    train, held = drive.time_s[split.train[0]], drive.time_s[split.validation[0]]
    assert split.kind == "blocks"
    assert 0.15 < len(held) / len(drive.time_s) < 0.25
    assert np.abs(train[:, None] - held[None, :]).min() >= 2.0 - 1e-9


@pytest.mark.timeout(20)
@pytest.mark.parametrize("pause_s", [30.0, 300.0, 1.7e9])
def test_a_pause_takes_no_part_in_the_split(pause_s: float) -> None:
    drive = picture_set("a")
    time_s = drive.time_s + np.where(np.arange(1200) < 400, 0, pause_s)
    split = split_of([dataclasses.replace(drive, time_s=time_s)])
    assert 0.15 < split.counts()[1] / 1200 < 0.25
    assert np.abs(time_s[split.train[0]][:, None] - time_s[split.validation[0]]).min() >= 2.0 - 1e-6


def test_many_drives_are_held_out_whole() -> None:
    sets = [picture_set(f"d{i}", n=100, seed=i) for i in range(8)]
    split = split_of(sets)
    assert split.kind == "drives"
    for s, train, held in zip(sets, split.train, split.validation, strict=True):
        assert {len(train), len(held)} == {0, len(s.steering)}
    assert 0 < split.counts()[1] < split.counts()[0]


@pytest.mark.parametrize("lengths", [(200, 15, 15, 15, 15), (50, 20, 30, 10, 40), (100,) * 6, (30, 20, 20, 20, 20, 90)])
@pytest.mark.parametrize("seed", range(4))
def test_drives_of_unequal_length_are_held_out_near_the_fraction(lengths: tuple[int, ...], seed: int) -> None:
    split = split_of([picture_set(f"d{i}", n=n) for i, n in enumerate(lengths)], seed)
    assert split.kind == "drives"
    assert 0.14 <= split.counts()[1] / sum(lengths) <= 0.26


def test_which_drives_are_held_out_follows_the_seed() -> None:
    sets = [picture_set(f"d{i}", n=100 + i) for i in range(5)]
    held = {tuple(map(len, split_of(sets, seed).validation)) for seed in range(12)}
    assert len(held) >= 4


@pytest.mark.parametrize("lengths", [(2000, 20, 20, 20, 20), (600, 600, 10, 10, 10)])
def test_drives_that_cannot_be_parted_fairly_are_split_by_blocks(lengths: tuple[int, ...]) -> None:
    split = split_of([picture_set(f"d{i}", n=n) for i, n in enumerate(lengths)])
    assert split.kind == "blocks"
    assert 0.15 < split.counts()[1] / sum(lengths) < 0.25


def test_the_split_follows_the_seed() -> None:
    drive = [picture_set("a")]
    same = np.array_equal(split_of(drive, 3).validation[0], split_of(drive, 3).validation[0])
    other = np.array_equal(split_of(drive, 3).validation[0], split_of(drive, 4).validation[0])
    assert same and not other


@pytest.mark.parametrize("n", [1, 2, 20])
def test_a_drive_too_short_to_split_is_an_error(n: int) -> None:
    with pytest.raises(DriveError, match=rf"a: {n} usable frames are too few"):
        split_of([picture_set("a", n=n)])


def shuffled(sets: list[PictureSet]) -> Split:
    """The planted fault: frames dealt at random, as train_test_split does."""
    n = len(sets[0].steering)
    order = np.random.default_rng(0).permutation(n)
    return Split(kind="blocks", train=(np.sort(order[n // 5 :]),), validation=(np.sort(order[: n // 5]),))


@pytest.mark.parametrize(("make", "leaks"), [(split_of, False), (shuffled, True)])
def test_the_leak_figure_tells_a_shuffled_split(make: Callable[[list[PictureSet]], Split], leaks: bool) -> None:
    sets = [picture_set("a")]
    leak = measure_leak(sets, make(sets))
    assert (leak.close_in_time > 0.99) is leaks
    assert (leak.lookup_mae < 0.5 * leak.constant_mae) is leaks

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

import drive_factory as make
from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.contract.outputs.scalar.output import Scalar
from sepilot_runtime.contract.outputs.scalar.task import ScalarTask
from sepilot_train.base.cache import PictureSet
from sepilot_train.base.stored import StoredPictures
from sepilot_train.run.leak import Leak, _close_in_time, measure_leak
from sepilot_train.run.split import (
    DriveSplit,
    Split,
    SplitRecord,
    _blocks_of,
    _held_out,
    _taken_in_turn,
    record_of,
    split_frames,
)


def picture_set(name: str, n: int = 1200, rate_hz: float = 20.0, seed: int = 0) -> PictureSet:
    """A drive whose pictures drift slowly, so that neighbours look alike, and whose steering cannot be seen in them."""
    rng = np.random.default_rng([seed, n])
    drift = np.cumsum(rng.normal(0, 4, (n, 16, 24, 1)), axis=0)
    steering = np.clip(np.cumsum(rng.normal(0, 0.05, n)), -1, 1)
    drive = make.bare_drive(name, steering.astype(np.float32), rate_hz=rate_hz)
    pictures = StoredPictures((128 + drift - drift.min()).clip(0, 255).astype(np.uint8), np.arange(n))
    return PictureSet(drive=drive, pictures=pictures, frame_sizes=np.full((len(drive), 2), 8), fingerprint=name)


def leak_of(sets: list[PictureSet], split: Split, **options: int) -> Leak:
    labels = [s.drive.labels["steering"] for s in sets]
    return measure_leak(sets, split, labels, ScalarTask(Scalar(name="steering")), **options)


def with_drive(pictures: PictureSet, **changes: object) -> PictureSet:
    return dataclasses.replace(pictures, drive=dataclasses.replace(pictures.drive, **changes))  # type: ignore[arg-type]


def split_of(sets: list[PictureSet], seed: int = 0) -> Split:
    return split_frames(sets, fraction=0.2, block_s=5.0, guard_s=2.0, seed=seed)


def test_one_drive_is_split_by_blocks_with_a_guard() -> None:
    pictures = picture_set("a")
    split, drive = split_of([pictures]), pictures.drive
    train, held = drive.time_s[split.train[0]], drive.time_s[split.validation[0]]
    assert split.kind == "blocks"
    assert 0.15 < len(held) / len(drive.time_s) < 0.25
    assert np.abs(train[:, None] - held[None, :]).min() >= 2.0 - 1e-9


@pytest.mark.timeout(20)
@pytest.mark.parametrize("pause_s", [30.0, 300.0, 1.7e9])
def test_a_pause_takes_no_part_in_the_split(pause_s: float) -> None:
    pictures = picture_set("a")
    time_s = pictures.drive.time_s + np.where(np.arange(1200) < 400, 0, pause_s)
    split = split_of([with_drive(pictures, time_s=time_s)])
    assert 0.15 < split.counts()[1] / 1200 < 0.25
    assert np.abs(time_s[split.train[0]][:, None] - time_s[split.validation[0]]).min() >= 2.0 - 1e-6


def test_many_drives_are_held_out_whole() -> None:
    sets = [picture_set(f"d{i}", n=100, seed=i) for i in range(8)]
    split = split_of(sets)
    assert split.kind == "drives"
    for s, train, held in zip(sets, split.train, split.validation, strict=True):
        assert {len(train), len(held)} == {0, len(s.drive)}
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
    n = len(sets[0].drive)
    order = np.random.default_rng(0).permutation(n)
    return Split(kind="blocks", train=(np.sort(order[n // 5 :]),), validation=(np.sort(order[: n // 5]),))


@pytest.mark.parametrize(("make", "leaks"), [(split_of, False), (shuffled, True)])
def test_the_leak_figure_tells_a_shuffled_split(make: Callable[[list[PictureSet]], Split], leaks: bool) -> None:
    sets = [picture_set("a")]
    leak = leak_of(sets, make(sets))
    assert (leak.close_in_time > 0.99) is leaks
    assert (leak.lookup_mae < 0.5 * leak.constant_mae) is leaks


# --- To the frame ---------------------------------------------------------------------------------------------------


class Places:
    """A generator that puts every block at one place within its period."""

    def __init__(self, place: float) -> None:
        self.place, self.asked = place, list[tuple[float, float]]()

    def uniform(self, low: float, high: float) -> float:
        self.asked.append((low, high))
        return self.place


def blocks(time_s: np.ndarray, place: float, *, guard_s: float = 2.0) -> tuple[np.ndarray, np.ndarray, Places]:
    """Times that train and that judge."""
    rng = Places(place)
    train, held = _blocks_of(time_s, 0.25, 5.0, guard_s, rng)  # type: ignore[arg-type]
    return time_s[train], time_s[held], rng


def test_the_guard_is_not_one_frame_shorter_than_asked_for() -> None:
    """Frames at exact quarters of a second, so that block and guard begin and end on one."""
    time_s = np.arange(0, 80.25, 0.25)
    train, held, rng = blocks(time_s, 10.0)
    assert rng.asked == [(0.0, 15.0)] * 4
    begins = (10.0, 30.0, 50.0, 70.0)
    assert held.tolist() == [t for t in time_s if any(b <= t < b + 5 for b in begins)]
    assert train.tolist() == [t for t in time_s if not any(b - 2 <= t < b + 7 for b in begins)]
    for begin in begins:
        assert begin - 2.25 in train and begin - 2 not in train and begin + 6.75 not in train and begin + 7 in train


@pytest.mark.parametrize(("guard_s", "counted_s"), [(2.0, 2.0), (0.5, 1.0)])
def test_a_pause_counts_for_the_guard_and_at_least_a_second(guard_s: float, counted_s: float) -> None:
    time_s = np.concatenate([np.arange(0, 10.25, 0.25), np.arange(1000, 1010.25, 0.25)])
    _, held, rng = blocks(time_s, 0.0, guard_s=guard_s)
    block = (20.0 + counted_s) / 4
    assert rng.asked[0] == pytest.approx((0.0, 20.0 + counted_s - min(block, 5.0)))
    assert held.tolist() == np.arange(0, 5, 0.25).tolist()


def test_two_frames_are_split_and_one_trains() -> None:
    train, held, _ = blocks(np.array([0.0, 0.25]), 0.0)
    assert (train.tolist(), held.tolist()) == ([], [0.0])
    train, held, _ = blocks(np.array([7.0]), 0.0)
    assert (train.tolist(), held.tolist()) == ([7.0], [])


def test_a_seed_splits_as_it_did_in_every_version() -> None:
    """A run is repeated, and compared with others, by its seed."""
    assert [_held_out((50, 20, 30, 10, 40, 25, 35), 0.2, seed) for seed in range(4)] == [{4}, {0}, {3, 6}, {2, 3}]
    sets = [picture_set("a", n=300)]
    splits = [split_frames(sets, fraction=0.2, block_s=3.0, guard_s=0.5, seed=seed) for seed in range(4)]
    assert [int(split.validation[0][0]) for split in splits] == [226, 4, 206, 97]


# --- Whole drives ---------------------------------------------------------------------------------------------------


def test_four_drives_are_too_few_to_hold_one_out() -> None:
    assert split_of([picture_set(f"d{i}", n=300) for i in range(4)]).kind == "blocks"
    assert split_of([picture_set(f"d{i}", n=300) for i in range(5)]).kind == "drives"


@pytest.mark.parametrize(
    ("frames", "fraction", "held"),
    [
        ((10, 100, 100, 100, 90), 0.05, {0}),  # Half of what is wanted, and the nearest that there is.
        ((8, 100, 100, 100, 92), 0.05, set()),
        ((40, 39, 41, 40, 40), 0.1, {1}),
        ((50, 50, 50, 50, 50), 0.08, set()),  # Two and a half times as much.
    ],
)
def test_from_half_to_twice_of_the_fraction(frames: tuple[int, ...], fraction: float, held: set[int]) -> None:
    for seed in range(5):
        assert _held_out(frames, fraction, seed) == held


def test_of_choices_that_are_as_good_the_first_in_turn_counts() -> None:
    for seed in range(8):
        first = int(np.random.default_rng([seed, 101]).permutation(5)[0])
        # Each is twice of what is wanted, and all miss it by the same.
        assert _held_out((40,) * 5, 0.1, seed) == {first}
        # Off by a quarter is near enough to stop looking.
        if first == 0:
            assert _held_out((25, 20, 20, 20, 115), 0.1, seed) == {0}


def test_drives_are_taken_in_turn_while_they_bring_the_sum_nearer() -> None:
    assert _taken_in_turn([2, 0, 1, 3], [10, 10, 10, 10], 20) == {2, 0}
    # As near from above as from below is no nearer.
    assert _taken_in_turn([2, 0, 1, 3], [10, 10, 10, 10], 15) == {2}
    assert _taken_in_turn([0, 1, 2], [10, 50, 12], 20) == {0, 2}
    # One is left to train on.
    assert _taken_in_turn([0, 1, 2], [10, 10, 10], 1000) == {0, 1}
    assert _taken_in_turn([0, 1], [10, 10], 1000) == {0}


# --- The leak figure ------------------------------------------------------------------------------------------------


def thumbnails(pictures: np.ndarray) -> np.ndarray:
    """8 x 12 sums of pictures of 16 x 24, brightness and contrast taken away."""
    sums = pictures.mean(axis=3).reshape(-1, 8, 2, 12, 2).sum(axis=(2, 4)).reshape(-1, 96)
    flat = sums - sums.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.linalg.norm(flat, axis=1, keepdims=True))


def test_the_look_up_finds_the_picture_that_is_most_alike() -> None:
    """More than 512 on either side, as they are compared in parts of so many."""
    rng = np.random.default_rng(4)
    drives = [with_drive(picture_set(f"d{i}", n=700), labels={"steering": rng.uniform(-1, 1, 700)}) for i in range(2)]
    pictures = rng.integers(0, 256, (1400, 16, 24, 2), np.uint8)
    drives = [
        dataclasses.replace(d, pictures=StoredPictures(pictures[k * 700 :][:700], np.arange(700)))
        for k, d in enumerate(drives)
    ]
    even = np.arange(0, 700, 2)
    split = Split(kind="given", train=(even, even), validation=(even + 1, even + 1))
    labels = np.concatenate([d.drive.labels["steering"] for d in drives])
    thumbs = thumbnails(pictures)
    train, held = np.arange(0, 1400, 2), np.arange(1, 1400, 2)
    nearest = train[(thumbs[held] @ thumbs[train].T).argmax(axis=1)]
    found = leak_of(drives, split)
    assert found.lookup_mae == pytest.approx(np.abs(labels[nearest] - labels[held]).mean())
    assert found.constant_mae == pytest.approx(np.abs(labels[train].mean() - labels[held]).mean())
    some = leak_of(drives, split, limit=10, seed=3)
    chosen = np.random.default_rng(3).permutation(700)[:10]
    assert some.lookup_mae == pytest.approx(np.abs(labels[nearest[chosen]] - labels[held[chosen]]).mean())


def test_another_exposure_is_the_same_place() -> None:
    base = np.random.default_rng(1).integers(0, 60, (1, 16, 24, 1))
    other = np.random.default_rng(2).integers(0, 255, (1, 16, 24, 1))
    pictures = dataclasses.replace(
        with_drive(picture_set("a", n=3), labels={"steering": np.array([0.5, -0.5, 0.5], np.float32)}),
        pictures=StoredPictures(np.concatenate([base, other, 3 * base + 70]).astype(np.uint8), np.arange(3)),
    )
    split = Split(kind="blocks", train=(np.array([0, 1]),), validation=(np.array([2]),))
    assert leak_of([pictures], split).lookup_mae == 0.0


def close(train: list[float], held: list[float]) -> float:
    times = np.array([*train, *held])
    pictures = with_drive(picture_set("a", n=len(times)), time_s=times)
    parts = np.arange(len(train)), np.arange(len(train), len(times))
    return _close_in_time([pictures], Split(kind="blocks", train=(parts[0],), validation=(parts[1],)))


def test_close_in_time_is_less_than_a_second_before_or_after() -> None:
    assert close([0, 1, 2, 10], [2.875, 3.0, 3.5, 9.125, 9.0, 6, 100, -5]) == 2 / 8
    assert close([0, 1, 2, 10], [-0.5, 10.5, 0.5, 1.5]) == 1
    assert close([4], [3.5, 4.5, 3.0, 5.0]) == 2 / 4
    assert close([4, 5], [3.5, 5.5, 2.0, 7.0]) == 2 / 4
    assert close([0, 4], []) == 0


def test_a_drive_that_only_judges_is_far_in_time() -> None:
    sets = [picture_set("a", n=10), picture_set("b", n=10), picture_set("c", n=10)]
    ten, none, five = np.arange(10), np.arange(0), np.arange(5)
    split = Split(kind="given", train=(none, five, ten), validation=(ten, five + 5, none))
    assert _close_in_time(sets, split) == 5 / 15


def test_the_split_is_written_down_by_names() -> None:
    drive = picture_set("a", n=4)
    split = Split(kind="blocks", train=(np.array([0, 3]),), validation=(np.array([1]),))
    assert record_of([drive], split) == SplitRecord(
        kind="blocks",
        drives=(DriveSplit(id="a", fingerprint="a", train=("0.jpg", "3.jpg"), validation=("1.jpg",)),),
    )


def picture_groups(classes: list[int], groups: list[str], seed: int = 0) -> tuple[PictureSet, np.ndarray]:
    made = with_drive(picture_set("set", len(classes), seed=seed), groups=tuple(groups))
    return made, np.array(classes, np.float32)


def by_groups(classes: list[int], groups: list[str], seed: int = 0) -> Split:
    made, strata = picture_groups(classes, groups)
    return split_frames([made], fraction=0.25, block_s=15, guard_s=2, seed=seed, strata=[strata])


def test_pictures_of_a_group_stay_together_and_each_class_keeps_its_share() -> None:
    classes = [0] * 200 + [1] * 40
    groups = [f"a{i // 5}" for i in range(200)] + [f"b{i // 5}" for i in range(40)]
    for seed in range(5):
        split = by_groups(classes, groups, seed)
        train, held = split.train[0], split.validation[0]
        assert not {groups[i] for i in train} & {groups[i] for i in held}
        assert sorted([*train, *held]) == list(range(240))
        for kind, count in ((0, 200), (1, 40)):
            assert sum(classes[i] == kind for i in held) == pytest.approx(count / 4, abs=3)


def test_the_only_group_of_a_class_trains() -> None:
    split = by_groups([0] * 12 + [1] * 6, [f"a{i // 3}" for i in range(12)] + ["b"] * 6)
    held = set(split.validation[0].tolist())
    assert not held & set(range(12, 18)), "nothing would be left to train on"


def test_too_few_groups_are_one_line() -> None:
    with pytest.raises(DriveError, match="groups of pictures are too few"):
        by_groups([0, 0, 1, 1], ["a", "a", "b", "b"])


def test_a_shuffled_split_of_groups_shows_as_a_leak() -> None:
    """The planted fault: pictures of one track on both sides."""
    groups = [f"t{i // 4}" for i in range(80)]
    made, _ = picture_groups([0] * 80, groups)
    shuffled = Split(kind="groups", train=(np.arange(0, 80, 2),), validation=(np.arange(1, 80, 2),))
    assert leak_of([made], shuffled).close_in_time == 1.0
    assert leak_of([made], by_groups([0] * 80, groups)).close_in_time == 0.0

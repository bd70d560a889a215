"""Pictures that stay in their files, and what a training holds in memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import drive_factory as make
from sepilot_runtime.contract.outputs.scalar.output import Scalar
from sepilot_runtime.contract.outputs.scalar.task import ScalarTask
from sepilot_runtime.drive.novelty import statistics_of
from sepilot_train.base.cache import PictureSet
from sepilot_train.base.stored import StoredPictures
from sepilot_train.fit.augment import Augmentation
from sepilot_train.fit.outputs.scalar.target import ScalarTarget
from sepilot_train.fit.predict import predict
from sepilot_train.run.leak import measure_leak
from sepilot_train.run.material import Material
from sepilot_train.run.split import Split
from sepilot_train.run.training import _frame_size

SHAPE = (32, 48, 1)
STEERING = Scalar(name="steering")
A, B = (np.random.default_rng(seed).integers(0, 256, (count, 5, 4, 3), np.uint8) for seed, count in ((0, 9), (1, 6)))
ROWS_A, ROWS_B = np.array([0, 2, 3, 8]), np.array([5, 1, 4])


@pytest.mark.parametrize(
    "index",
    [0, -1, 4, slice(None), slice(2, 6), slice(0, 0), np.array([6, 0, 0, 3]), np.array([], int), np.arange(7) % 2 == 0],
)
def test_rows_of_several_files_are_indexed_as_an_array_of_them_is(index: Any) -> None:
    one, other = StoredPictures(A, ROWS_A), StoredPictures(B, ROWS_B)
    parts = [(one, np.array([3, 1])), (other, np.array([0, 1, 2])), (one, np.array([0, 2]))]
    stored = StoredPictures.joined([(StoredPictures.joined(parts), np.array([6, 5, 4, 3, 2, 1, 0]))])
    expected = np.concatenate([A[ROWS_A][[3, 1]], B[ROWS_B], A[ROWS_A][[0, 2]]])[::-1]
    assert np.array_equal(stored[index], expected[index]) and stored[index].dtype == np.uint8
    assert (stored.shape, len(stored), stored.nbytes) == (expected.shape, 7, expected.nbytes)
    assert np.array_equal(np.asarray(stored), expected) and np.array_equal(list(stored), expected)


def test_a_number_beyond_the_rows_is_refused() -> None:
    with pytest.raises(IndexError):
        StoredPictures(A, ROWS_A)[4]


def material(folder: Path, count: int) -> Material:
    """Two drives of `count` frames each, every second one kept, in files as the cache has them."""
    sets = []
    for name in ("a", "b"):
        file = np.memmap(folder / f"{name}{count}.u8", np.uint8, "w+", shape=(2 * count, *SHAPE))
        for row in range(0, len(file), 100):
            file[row : row + 100] = np.random.default_rng(row).integers(0, 256, SHAPE, np.uint8)
        angles = np.sin(np.arange(count, dtype=np.float32))
        drive, pictures = make.bare_drive(name, angles), StoredPictures(file, np.arange(0, 2 * count, 2))
        sets.append(
            PictureSet(drive=drive, pictures=pictures, frame_sizes=np.full((len(drive), 2), 8), fingerprint=name)
        )
    held = np.arange(count) % 100 < 20
    sides = {"train": (np.flatnonzero(~held),) * 2, "validation": (np.flatnonzero(held),) * 2}
    return Material(
        outputs=(STEERING,),
        columns={"steering": "steering"},
        sets=tuple(sets),
        labels={"steering": tuple(s.drive.labels["steering"] for s in sets)},
        split=Split(kind="blocks", **sides),
    )


def peak_bytes(found: Material) -> int:
    """Most that is held at once on the way through what a training does with its pictures, but for the net."""
    from sepilot_train.fit.data import Batches

    net = SimpleNamespace(
        jit_compile=False,
        output_names=["steering"],
        predict_on_batch=lambda pictures: np.zeros((len(pictures), 1), np.float32),
    )
    tracemalloc.start()
    train, validation = found.frames("train"), found.frames("validation")
    batches = Batches(
        train.pictures,
        train.labels,
        targets={"steering": ScalarTarget(mirror="negate")},
        shape=train.pictures.shape[1:],
        augmentation=Augmentation(),
        batch_size=64,
        seed=0,
        straight=np.zeros(len(train), bool),
        straight_keep=1.0,
    )
    for step in range(len(batches)):
        batches[step]
    predict(net, validation.pictures)
    measure_leak(found.sets, found.split, found.labels["steering"], ScalarTask(STEERING), limit=200)
    statistics_of(train.pictures)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_a_training_holds_no_more_pictures_for_more_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sepilot_runtime.drive.novelty.MOST_PICTURES", 200)
    few, many = 1500, 6000
    peak_bytes(material(tmp_path, 100))  # What is imported or compiled on the way the first time.
    grown = peak_bytes(material(tmp_path, many)) - peak_bytes(material(tmp_path, few))
    per_frame = grown / (2 * (many - few))
    assert per_frame < 200, f"{per_frame:.0f} bytes a frame; a picture has {np.prod(SHAPE)}"


def test_the_contract_knows_the_size_of_the_training_frames_unless_their_shapes_differ() -> None:
    def drive(width: int, height: int) -> SimpleNamespace:
        return SimpleNamespace(read=lambda row: np.zeros((height, width, 3), np.uint8))

    def size(*drives: SimpleNamespace) -> tuple[int, int] | None:
        return _frame_size(SimpleNamespace(drives=drives))  # type: ignore[arg-type]

    assert size(drive(160, 120)) == size(drive(160, 120), drive(640, 480)) == (160, 120)
    assert size(drive(160, 120), drive(160, 90)) is None

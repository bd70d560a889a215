"""Sets of pictures with things: our readers take them, no world is on two sides, equal seeds give equal files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sepilot_runtime.recording.opening import meet
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_train.commands import record as verb
from sepilot_train.simulator import EVALUATION_SEED
from sepilot_train.simulator.things import CLASSES


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("objects") / "set"
    assert verb.main(["--objects", "--count", "24", "--seed", "7", "--out", str(out)]) == 0
    return out


def test_readers_take_every_set_with_its_sides(made: Path) -> None:
    asked = {"scenes": "boxes", "crops": "class", "target": "points", "cones": "points"}
    sides = json.loads((made / "objects.json").read_text())["sides"]
    for folder, label in asked.items():
        drives, _ = meet([made / folder], ReaderOptions(labels=(label,)))
        assert sorted(drive.side for drive in drives) == ["test", "train", "val"]
        for drive in drives:
            assert label in drive.labels
            assert not any("left out" in note for note in drive.notes)
            if folder == "scenes":
                assert drive.label_names["boxes"] == CLASSES
                assert (drive.labels["boxes"][..., 0] >= 0).sum() == sum(sides[drive.side]["boxes"].values())
            if folder == "crops":
                assert drive.label_names["class"] == tuple(sorted([*CLASSES, "background"]))


def test_no_world_is_on_two_sides(made: Path) -> None:
    worlds = [{path.stem[:6] for path in made.glob(f"*/{side}/**/*.*")} for side in ("train", "val", "test")]
    assert all(worlds)
    assert not (worlds[0] & worlds[1] or worlds[0] & worlds[2] or worlds[1] & worlds[2])


def test_equal_seeds_give_equal_files(made: Path, tmp_path: Path) -> None:
    assert verb.main(["--objects", "--count", "24", "--seed", "7", "--out", str(tmp_path / "again")]) == 0
    files = sorted(path.relative_to(made) for path in made.rglob("*.*"))
    assert files == sorted(path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*.*"))
    assert all((made / file).read_bytes() == (tmp_path / "again" / file).read_bytes() for file in files)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--count", "9"], "--count 9: at least 10 expected"),
        (["--simulator", "carracing"], "only builtin"),
        (["--seed", str(EVALUATION_SEED - 2)], "kept unseen"),
    ],
)
def test_what_cannot_be_recorded_is_refused(tmp_path: Path, more: list[str], message: str) -> None:
    from sepilot_runtime.base.errors import UsageError

    with pytest.raises(UsageError, match=message):
        verb.main(["--objects", "--out", str(tmp_path / "x"), *more])
    assert not list(tmp_path.glob("x*"))


def test_cones_stand_on_their_base(made: Path) -> None:
    rows = [line.split(",") for line in (made / "cones" / "train.csv").read_text().splitlines()[1:]]
    tips = np.array([[float(cell) for cell in row[1:]] for row in rows])
    assert len(tips)
    assert (tips[:, 1] < tips[:, 3] - 15).all()

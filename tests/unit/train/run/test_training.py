"""What `sepilot train` does with drives before it trains, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import drive_factory as make
from sepilot_export.verify.unseen_drives import seen_drives
from sepilot_runtime.base.errors import DriveError, RunError
from sepilot_runtime.cli import main
from sepilot_runtime.recording.opening import open_drives
from sepilot_runtime.recording.options import DriveFilter, ReaderOptions
from sepilot_train.fit.settings import History
from sepilot_train.run.material import Material, gather, load_sets, open_sides
from sepilot_train.run.recipe import Recipe, load_recipe
from sepilot_train.run.request import Request, standing_still_left_out
from sepilot_train.run.run import Run, open_run
from sepilot_train.run.training import complete_run, require_same, require_same_recipe

TINY = [
    "--set",
    "picture.height=24",
    "--set",
    "picture.width=32",
    "--set",
    "training.epochs=1",
    "--set",
    "training.batch_size=16",
]


def asked(*drives: Path, val: tuple[Path, ...] = (), **options: object) -> Material:
    request = Request(
        drives=tuple(map(str, drives)),
        validation_drives=tuple(map(str, val)),
        reader=ReaderOptions(**options),  # type: ignore[arg-type]
        filter=DriveFilter(),
        seed=0,
    )
    return gather(request, small(), progress=False)


def small() -> Recipe:
    return load_recipe("swift", ["picture.height=24", "picture.width=32", "data.guard_s=0.2", "data.block_s=0.5"])


def test_named_validation_drives_are_the_split(tmp_path: Path) -> None:
    a, b = make.write_tub(tmp_path / "a"), make.write_tub(tmp_path / "b", count=30)
    material = asked(a, val=(b,))
    assert material.split.kind == "given" and material.split.counts() == (40, 30)
    assert (material.ids("train"), material.ids("validation")) == (("a",), ("b",))


@pytest.mark.timeout(20)
def test_a_clock_that_was_set_while_recording_does_not_stop_the_split(tmp_path: Path) -> None:
    changes = {i: {"_timestamp_ms": 50 * i + 1_700_000_000_000 * (i >= 60)} for i in range(120)}
    changes[90] = {"_timestamp_ms": 10**18}
    material = asked(make.write_tub(tmp_path / "a", count=120, records=changes))
    assert material.split.kind == "blocks" and 0.1 < material.split.counts()[1] / 120 < 0.3


def test_side_cameras_train_but_do_not_judge(tmp_path: Path) -> None:
    a, b = make.write_udacity(tmp_path / "a", count=10), make.write_udacity(tmp_path / "b", count=9)
    material = asked(a, val=(b,), cameras="all")
    assert material.split.counts() == (30, 9)


def test_a_drive_may_not_train_and_judge(tmp_path: Path) -> None:
    a, b = make.write_tub(tmp_path / "d" / "mon" / "data"), make.write_tub(tmp_path / "d" / "fri" / "data", count=30)
    (tmp_path / "link").symlink_to(b)
    for judge in (b, b / "manifest.json"):
        with pytest.raises(DriveError, match=r"given to train on and with --val; a drive must not train and judge"):
            asked(tmp_path / "d", val=(judge,))
    copy = shutil.copytree(a, tmp_path / "renamed")
    with pytest.raises(DriveError, match=rf"link: a copy of {b}"):
        asked(tmp_path / "d", val=(tmp_path / "link",))
    for drives, judges in (((tmp_path / "d",), (copy,)), ((tmp_path / "d", copy), ())):
        with pytest.raises(DriveError, match=rf"^{copy}: a copy of {a}; .*must not train and judge"):
            asked(*drives, val=judges)


def test_drives_of_one_name_are_told_apart_over_both_sides(tmp_path: Path) -> None:
    a, b = make.write_tub(tmp_path / "mon" / "data"), make.write_tub(tmp_path / "fri" / "data", count=30)
    material = asked(a, val=(b,))
    assert (material.ids("train"), material.ids("validation")) == (("mon/data",), ("fri/data",))
    assert material.split.counts() == (40, 30)


def test_unlabelled_recordings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DriveError, match="no steering labels"):
        asked(make.write_video(tmp_path / "a.avi"))


def test_drives_of_different_full_scale_are_not_mixed(tmp_path: Path) -> None:
    tub, names = make.write_tub(tmp_path / "a"), make.write_angle_names(tmp_path / "b")
    with pytest.raises(DriveError, match="25, 45"):
        asked(tub, names)


@pytest.mark.parametrize(("throttle", "left"), [([0.0] * 10 + [0.4] * 30, 30), (0.0, 40), (0.3, 40)])
def test_standing_still_is_left_out_where_the_throttle_tells(
    tmp_path: Path, throttle: float | list[float], left: int
) -> None:
    (drive,) = open_drives([make.write_tub(tmp_path / "a", throttle=throttle)], ReaderOptions())
    kept = standing_still_left_out(drive, 0.05)
    assert len(kept) == left
    assert kept.skipped == ({"throttle at or below 0.05": 40 - left} if left < 40 else {})


@pytest.mark.parametrize(
    ("words", "frames", "skipped", "limit"),
    [
        ([], 24, {"throttle at or below 0.05": 16}, 0.05),
        (["--min-throttle", "-1"], 40, {}, -1.0),
        (["--min-throttle", "0.02"], 32, {"throttle at or below 0.02": 8}, 0.02),
        (["--min-throttle", "0.2", "--first", "4"], 20, {"throttle at or below 0.2": 16}, 0.2),
        (["--set", "data.min_throttle=0"], 40, {}, 0.0),
    ],
)
def test_the_throttle_given_stands_in_place_of_the_recipes(
    tmp_path: Path, words: list[str], frames: int, skipped: dict[str, int], limit: float
) -> None:
    tub = make.write_tub(tmp_path / "a", throttle=[0.3] * 24 + [0.04] * 8 + [0.0] * 8)
    request, recipe = request_of([str(tub), *TINY, *words])
    assert recipe.data.min_throttle == limit
    (drive,) = open_sides(request)[0]
    (pictures,) = load_sets([drive], recipe, request.filter, progress=False)
    assert (len(pictures.drive), pictures.drive.skipped) == (frames, skipped)


def request_of(words: list[str]) -> tuple[Request, Recipe]:
    from sepilot_train.commands import train

    return train._request(train._parser().parse_args(words))


def test_the_help_names_the_rule_of_the_throttle(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "data.min_throttle" in capsys.readouterr().out


def test_the_recipes_seed_is_the_default_of_the_option() -> None:
    for words, seed in (([], 0), (["--set", "training.seed=77"], 77), (["--seed", "9"], 9)):
        request, recipe = request_of(["tub", *words])
        assert (request.seed, recipe.training.seed) == (seed, seed)
        assert recipe.sha256 == load_recipe("swift").sha256


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--out", "OUT"], "at least one recording"),
        (["TUB"], "--out DIR"),
        (["TUB", "--out", "OUT", "--set", "training.epoch=1"], "training.epoch: unknown key"),
        (["TUB", "--out", "OUT", "--recipe", "swfit"], "no such recipe"),
        (["TUB", "--out", "OUT", "--min-throttle", "0.9"], "no frame is left"),
        (["NOWHERE", "--out", "OUT"], "no such file or folder"),
        (["TUB", "--out", "OUT", "--seed", "-1"], "--seed: 0 to 4294967295 expected, found -1"),
        (["TUB", "--out", "OUT", "--seed", "5000000000"], "--seed: 0 to 4294967295 expected, found 5000000000"),
        (["TUB", "--out", "OUT", "--set", "model.builder=foo"], "model.builder: expected one of v27"),
        (["TUB", "--out", "OUT", "--set", "model.options.foo=1"], "swift has no option 'foo'"),
        (["TUB", "--out", "OUT", "--recipe", "pilotnet", "--set", "picture.height=12"], "pilotnet cannot be built"),
        (["TUB", "--out", "OUT", "--set", "gates.int9.max_error=0.1"], "gates.int9: one of float32"),
        (["TUB", "--out", "OUT", "--set", "augmentation.mirror=7"], "mirror: expected a value from 0 to 1; found 7"),
        (["TUB", "--out", "OUT", "--seed", "9", "--set", "training.seed=7"], "training.seed=7: 9 expected"),
        (["TUB", "--out", "OUT", "--set", "training.seed=-1"], "training.seed: 0 to 4294967295 expected, found -1"),
        (["TUB", "--out", "OUT", "--min-throttle", "nan"], "--min-throttle: a finite number"),
        (["--resume", "--preview", "OUT"], "--out DIR"),
        (["TUB", "--resume", "--out", "OUT"], "request.json"),
        (["TUB", "--out", "FILE/run"], "cannot be written"),
    ],
)
def test_a_users_mistake_is_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    tub = make.write_tub(tmp_path / "tub")
    (tmp_path / "file").write_text("")
    places = {
        "TUB": tub,
        "OUT": tmp_path / "out",
        "NOWHERE": tmp_path / "nowhere",
        "FILE/run": tmp_path / "file" / "run",
    }
    assert main(["train", *(str(places.get(a, a)) for a in arguments)]) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "says"), [("old.png", "exists already"), ("sheet.jpg", "ends in .png expected")])
def test_a_preview_that_cannot_be_written_is_told_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, says: str
) -> None:
    (tmp_path / "old.png").write_bytes(b"mine")
    assert main(["train", str(tmp_path / "nowhere"), "--preview", str(tmp_path / name)]) == 2
    captured = capsys.readouterr()
    assert says in captured.err and captured.err.count("\n") == 1 and not captured.out
    assert (tmp_path / "old.png").read_bytes() == b"mine" and not (tmp_path / "sheet.jpg").exists()


def test_side_cameras_do_not_judge_in_blocks(tmp_path: Path) -> None:
    """They widen what is trained on; the car drives by the centre one."""
    log = make.write_udacity(tmp_path / "log", count=60)
    request = Request(
        drives=(str(log),), validation_drives=(), reader=ReaderOptions(cameras="all"), filter=DriveFilter(), seed=0
    )
    recipe = load_recipe("swift", ["picture.height=24", "picture.width=32", "data.guard_s=0.1", "data.block_s=0.5"])
    material = gather(request, recipe, progress=False)
    (pictures,), (train,), (held,) = material.sets, material.split.train, material.split.validation
    assert material.split.kind == "blocks" and set(pictures.drive.camera.tolist()) == {-1, 0, 1}
    assert set(pictures.drive.camera[held].tolist()) == {0} and set(pictures.drive.camera[train].tolist()) == {-1, 0, 1}
    named = gather(
        Request(
            drives=(str(make.write_tub(tmp_path / "tub")),), validation_drives=(str(log),),
            reader=ReaderOptions(cameras="all"), filter=DriveFilter(), seed=0,
        ),
        recipe, progress=False,
    )  # fmt: skip
    assert set(named.sets[1].drive.camera[named.split.validation[1]].tolist()) == {0}


def test_a_constant_throttle_says_nothing_about_standing_still(tmp_path: Path) -> None:
    """Not even where some frames have none."""
    drive = open_drives([make.write_tub(tmp_path / "tub", throttle=0.3)], ReaderOptions())[0]
    partly = np.where(np.arange(40) % 3, np.float32(0.3), np.float32(np.nan))
    some = dataclasses.replace(drive, labels={**drive.labels, "throttle": partly})
    for constant in (drive, some):
        assert standing_still_left_out(constant, 0.05) is constant
    varied = np.where(np.arange(40) % 3, np.float32(0.3), np.float32(0.2))
    varied[::2] = 0.05
    assert (
        len(standing_still_left_out(dataclasses.replace(drive, labels={**drive.labels, "throttle": varied}), 0.05))
        == 20
    )


def test_the_constant_to_beat_is_the_mean_that_training_saw(tmp_path: Path) -> None:
    """A constant that knows the held-out labels would look better than any that a car could have used."""
    left, right = make.write_tub(tmp_path / "a"), make.write_tub(tmp_path / "b")
    catalogs = sorted(right.glob("*.catalog"))
    for catalog in catalogs:
        rows = [json.loads(line) for line in catalog.read_text().splitlines()]
        catalog.write_text("".join(json.dumps(row | {"user/angle": 0.75}) + "\n" for row in rows))
    material = asked(left, val=(right,))
    history = History(rows=(), kept_epoch=0, stopped_early=False)
    answers = np.full(40, 0.5, np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sepilot_train.run.training.predict", lambda *_: {"steering": answers})
        for name in ("_contract", "_draw"):
            patch.setattr(f"sepilot_train.run.training.{name}", lambda *_: Plain())
        metrics = complete_run(tmp_path / "run", small(), material, Plain(), history, 1.0)
    mean = float(np.mean(make.angles(40)))
    found = metrics["steering"]
    assert found.constant == pytest.approx(mean) and found.constant_mae == pytest.approx(0.75 - mean)
    assert json.loads((tmp_path / "run" / "validation.json").read_text())["metrics"]["constant_mae"] == pytest.approx(
        0.75 - mean
    )


class Plain:
    """Stands for a net and for a contract."""

    def save(self, path: Path) -> None:
        path.write_bytes(b"")

    def to_json(self) -> str:
        return "{}"


def test_a_preview_says_nothing_but_its_name(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    words = [
        "train",
        str(make.write_tub(tmp_path / "tub")),
        *TINY,
        "--set",
        "data.guard_s=0.2",
        "--preview",
        str(sheet),
    ]
    code = f"import sys; from sepilot_runtime.cli import main; sys.exit(main({words!r}))"
    # A process of its own: the back end speaks once, when it is started.
    loud = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=loud)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{sheet}\n", "") and sheet.exists()


def test_a_net_that_cannot_be_built_is_told_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sepilot_train.run.material.gather", lambda *_, **__: pytest.fail("decoded"))
    tub = make.write_tub(tmp_path / "tub")
    assert main(["train", str(tub), "--set", "model.builder=foo", "--out", str(tmp_path / "out")]) == 2


@pytest.mark.parametrize("words", [["nowhere"], ["tub", "--val", "nowhere"]])
def test_a_wrong_path_is_told_before_the_back_end_is_imported(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make.write_tub(tmp_path / "tub")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sepilot_train.base.quiet.start_keras", lambda: pytest.fail("imported"))
    assert main(["train", *words, "--out", "out"]) == 2
    assert capsys.readouterr().err == f"sepilot: {tmp_path / 'nowhere'}: no such file or folder\n"


def test_a_run_that_is_not_one(tmp_path: Path) -> None:
    for path, expected in ((tmp_path / "no", "nothing"), (tmp_path, "not a run directory")):
        with pytest.raises(RunError, match=expected):
            open_run(path)


def test_a_tiny_training_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = make.write_tub(tmp_path / "a"), make.write_tub(tmp_path / "b", count=30)
    assert main(["train", str(a), "--val", str(b), *TINY, "--out", str(tmp_path / "run"), "--json"]) == 0
    said = capsys.readouterr()
    # Nobody sees a bar here.
    number = r"\d\.\d{4}"
    line = rf"^epoch 1/1: loss {number}, validation {number}, error {number}, \d+\.\d s$"
    assert re.search(line, said.err, re.MULTILINE)
    printed = json.loads(said.out)
    assert printed["validation_frames"] == 30 and printed["metrics"]["constant_mae"] > 0.3
    run = open_run(tmp_path / "run")
    frames = run.frames("validation", progress=False)
    predictions = run.predictions()
    assert frames.names == predictions.frames.names
    assert np.array_equal(frames.labels["steering"], predictions.frames.labels["steering"])
    # The golden frames answer as the training model does, through the car's own path.
    from sepilot_runtime.contract.contract import golden_frame
    from sepilot_runtime.contract.preprocess import picture_of
    from sepilot_train.fit.predict import predict

    net = run.load_model()
    for golden in run.contract.golden:
        picture = picture_of(golden_frame(golden), run.contract.picture)
        assert predict(net, picture[None])["steering"][0] == pytest.approx(golden.expected["steering"][0], abs=1e-6)


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tubs in the usual layout: every folder is called `data`."""
    folder = tmp_path_factory.mktemp("drives")
    for number, day in enumerate(("d/mon", "d/fri", "judge")):
        make.write_tub(folder / day / "data", count=40 - 5 * number)
    return folder


def begun(drives: Path, out: Path) -> list[str]:
    """The words of a training that judges on another folder's drive."""
    return [str(drives / "d"), "--val", str(drives / "judge" / "data"), *TINY, "--seed", "9", "--out", str(out)]


@pytest.fixture(scope="module")
def finished(drives: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("finished") / "run"
    assert main(["train", *begun(drives, out)]) == 0
    return open_run(out)


def require_whole(run: Run, moved_to: list[Path]) -> None:
    """The run finds all of its drives, under the names that they had in training."""
    saved = run.predictions().frames
    found = {side: run.frames(side, moved_to=moved_to, progress=False) for side in ("train", "validation")}
    assert found["validation"].drives == saved.drives and np.array_equal(
        found["validation"].labels["steering"], saved.labels["steering"]
    )
    assert [found["train"].drives.count(d) for d in ("mon/data", "fri/data")] == [40, 35]
    material = run.material(moved_to=moved_to)
    assert material.split.kind == "given" and material.ids("validation") == ("judge/data",)
    assert np.array_equal(material.frames("train").labels["steering"], found["train"].labels["steering"])


def test_a_run_finds_its_drives_as_the_training_named_them(finished: Run) -> None:
    require_whole(finished, [])


def test_a_run_finds_its_drives_where_they_have_moved(finished: Run, drives: Path, tmp_path: Path) -> None:
    for number, day in enumerate(("d/fri", "judge", "d/mon")):
        shutil.copytree(drives / day / "data", tmp_path / "moved" / f"tub{number}")
    make.write_tub(tmp_path / "moved" / "another", count=60)
    require_whole(finished, [tmp_path / "moved"])
    require_whole(finished, [tmp_path / "moved" / f"tub{i}" for i in range(3)])
    # Folders that have changed places.
    shutil.copytree(tmp_path / "moved" / "tub0", tmp_path / "mon" / "data")
    shutil.copytree(tmp_path / "moved" / "tub2", tmp_path / "fri" / "data")
    require_whole(finished, [tmp_path / "mon", tmp_path / "fri", tmp_path / "moved" / "tub1"])


def test_a_run_says_which_drive_is_not_there(finished: Run, drives: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"drive 'fri/data' expected, found mon/data, judge/data"):
        finished.material(moved_to=[drives / "d" / "mon" / "data", drives / "judge" / "data"], progress=False)
    grown = make.write_tub(tmp_path / "judge" / "data", count=33)
    frames = finished.frames("validation", moved_to=[grown, drives / "d"], progress=False)
    assert frames.names == finished.predictions().frames.names
    shorter = make.write_tub(tmp_path / "shorter" / "judge" / "data", count=20)
    with pytest.raises(RunError, match="drive judge/data has changed since training: 10 of its frames are gone"):
        finished.frames("validation", moved_to=[shorter, drives / "d"], progress=False)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--seed", "8"], "seed: 9 expected, found 8"),
        (["--min-throttle", "0.2"], "filter.min_throttle: None expected, found 0.2"),
        (["--cameras", "all"], "reader.cameras: 'centre' expected, found 'all'"),
        (["--val", "DRIVES/d/mon/data"], "validation_drives: ("),
        (["--recipe", "nosuch"], "no such recipe"),
        (["--recipe", "v27"], "another recipe"),
        (["--set", "training.epochs=3"], "another recipe or other overrides"),
        (["--set", "foo=bar"], "foo: unknown key"),
        (["--set", "training.seed=77"], "training.seed=77: 9 expected"),
        (["DRIVES/d/mon"], "drives: ("),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(
    finished: Run, drives: Path, words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [w.replace("DRIVES", str(drives)) for w in words]
    assert main(["train", "--resume", "--out", str(finished.path), *given]) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1


def test_a_run_is_resumed_with_its_own_settings_or_none(finished: Run, drives: Path) -> None:
    from sepilot_train.commands import train

    parser = train._parser()
    parser.set_defaults(**train._as_begun(finished.path))
    for words in (begun(drives, finished.path), [], ["--seed", "9"], ["--recipe", "swift", *TINY]):
        request, recipe = train._request(parser.parse_args([*words, "--resume"]))
        require_same(finished.path, request)
        require_same_recipe(finished.path, request, recipe)
        assert request == finished.request and recipe == finished.recipe


def test_what_a_run_has_seen_goes_along_with_its_export(finished: Run) -> None:
    seen = seen_drives(finished.path)
    assert {d.id: (d.train, d.validation) for d in seen.seen} == {
        "mon/data": (40, 0), "fri/data": (35, 0), "judge/data": (0, 30),
    }  # fmt: skip
    assert seen.reader == ReaderOptions() and all(len(d.fingerprint) == 64 for d in seen.seen)


def test_ctrl_c_while_decoding_leaves_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sepilot_train.base import cache

    def interrupted(*_: object) -> dict[int, str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "_decode_rows", interrupted)
    assert main(["train", str(make.write_tub(tmp_path / "a")), *TINY, "--out", str(tmp_path / "run")]) == 130
    assert not (tmp_path / "run").exists() and "interrupted" in capsys.readouterr().err

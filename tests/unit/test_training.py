"""What `sepilot train` does with drives before it trains, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import drive_factory as make
from sepilot_runtime.cli import main
from sepilot_runtime.errors import DriveError, RunError
from sepilot_train.drives import DriveFilter, ReaderOptions, open_drives
from sepilot_train.recipe import Recipe, load_recipe
from sepilot_train.run import Request, open_run, standing_still_left_out
from sepilot_train.training import Material, gather

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
    a, b = make.write_udacity(tmp_path / "a", count=10), make.write_udacity(tmp_path / "b", count=10)
    material = asked(a, val=(b,), cameras="all")
    assert material.split.counts() == (30, 10)


def test_a_drive_may_not_train_and_judge(tmp_path: Path) -> None:
    a = make.write_tub(tmp_path / "a")
    with pytest.raises(DriveError, match=r"must not train and judge|given twice"):
        asked(a, val=(a,))


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
    assert len(standing_still_left_out(drive, 0.05)) == left


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
    assert expected in error and "Traceback" not in error
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


def test_a_run_that_is_not_one(tmp_path: Path) -> None:
    for path, expected in ((tmp_path / "no", "nothing"), (tmp_path, "not a run directory")):
        with pytest.raises(RunError, match=expected):
            open_run(path)


def test_a_tiny_training_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = make.write_tub(tmp_path / "a"), make.write_tub(tmp_path / "b")
    assert main(["train", str(a), "--val", str(b), *TINY, "--out", str(tmp_path / "run"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["validation_frames"] == 40 and printed["metrics"]["constant_mae"] > 0.3
    run = open_run(tmp_path / "run")
    frames = run.frames("validation", progress=False)
    predictions = run.predictions()
    assert frames.names == predictions.names and np.array_equal(frames.labels, predictions.labels)
    # The golden frames answer as the training model does, through the car's own path.
    from sepilot_runtime.contract import golden_frame
    from sepilot_runtime.preprocess import picture_of
    from sepilot_train.learner import predict

    net = run.load_model()
    for golden in run.contract.golden:
        picture = picture_of(golden_frame(golden), run.contract.picture)
        assert predict(net, picture[None])[0] == pytest.approx(golden.expected["steering"], abs=1e-6)


def test_ctrl_c_while_decoding_leaves_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sepilot_train.drives import cache

    def interrupted(*_: object) -> dict[int, str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "_decode_rows", interrupted)
    assert main(["train", str(make.write_tub(tmp_path / "a")), *TINY, "--out", str(tmp_path / "run")]) == 130
    assert not (tmp_path / "run").exists() and "interrupted" in capsys.readouterr().err

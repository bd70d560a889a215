"""Settings of other software, a user without a home, two processes at one place, and wrong paths."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

import drive_factory as make
from sepilot_runtime import cli
from sepilot_runtime.base.claims import claimed
from sepilot_runtime.base.errors import OutputError, UsageError
from sepilot_runtime.contract.contract import Picture
from sepilot_runtime.device.slots import default_slots
from sepilot_runtime.recording.opening import open_drives
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_train.base import cache
from sepilot_train.base.cache import load_pictures
from sepilot_train.base.quiet import start_keras

# --- Two processes at one place -------------------------------------------------------------------------------------


def test_a_place_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "run"
    with claimed(place):
        with pytest.raises(OutputError, match="run: another process writes there"), claimed(place):
            pytest.fail("the block must not run")
        with claimed(tmp_path / "deep" / "other"):
            pass
        with pytest.raises(OutputError, match="another process"), claimed(tmp_path / "deep" / ".." / "deep" / "run"):
            pytest.fail("the block must not run")
    assert list((tmp_path / "deep").iterdir()) == []
    with claimed(place):
        pass


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    code = "import os, sys; from pathlib import Path; from sepilot_runtime.base.claims import claimed\n"
    code += "with claimed(Path(sys.argv[1])): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")]).returncode == 9
    assert [path.name for path in tmp_path.iterdir()] == [".run.lock"]
    with claimed(tmp_path / "run"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_claim_that_was_given_up_while_it_was_asked_for_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def late(path: object, *rest: int) -> int:
        handle = real(path, *rest)  # type: ignore[arg-type]
        (tmp_path / ".run.lock").unlink()
        return handle

    monkeypatch.setattr("sepilot_runtime.base.claims.os.open", late)
    with pytest.raises(OutputError, match="another process"), claimed(tmp_path / "run"):
        pytest.fail("the block must not run")


def test_a_file_system_without_locks_is_used_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with claimed(tmp_path / "run"):
        pass


@pytest.mark.parametrize(
    "argv",
    [
        ["train", "{tub}", "--out", "{out}"],
        ["train", "{tub}", "--resume", "--out", "{run}"],
        ["export", "{run}", "--out", "{out}"],
        ["compress", "{run}", "--recipe", "slim", "--out", "{out}"],
        ["tradeoff", "{run}", "--out", "{out}"],
        ["record", "--out", "{out}"],
    ],
    ids=lambda argv: " ".join(word for word in argv if "{" not in word),
)
def test_the_second_is_refused_at_once(argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tub, out, run = make.write_tub(tmp_path / "tub"), tmp_path / "out", tmp_path / "run"
    (tmp_path / "run").mkdir()
    if "--resume" in argv:
        _begun(run, tub)
    with ExitStack() as held:
        held.enter_context(claimed(out))
        held.enter_context(claimed(run))
        assert cli.main([word.format(tub=tub, out=out, run=run) for word in argv]) == 2
    assert "another process writes there at this moment" in capsys.readouterr().err
    assert not out.exists()


def _begun(run: Path, tub: Path) -> None:
    from sepilot_runtime.recording.options import DriveFilter
    from sepilot_train.run.recipe import load_recipe
    from sepilot_train.run.request import Request
    from sepilot_train.run.training import start_run

    request = Request(drives=(str(tub),), validation_drives=(), reader=ReaderOptions(), filter=DriveFilter(), seed=0)
    start_run(run, request, load_recipe("swift"), "sepilot train")


def test_two_that_decode_into_one_cache_are_both_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drive = open_drives([make.write_tub(tmp_path / "tub", count=3 * cache.CHUNK)], ReaderOptions())[0]
    picture, folder = Picture(height=20, width=30), tmp_path / "cache"
    alone = load_pictures(drive, picture, cache_dir=tmp_path / "alone", progress=False)
    real, second = cache._decode_rows, []

    def between(frames: object, picture_: object, target: object, sizes: object, rows: range) -> dict[int, str]:
        if rows.start == cache.CHUNK and not second:
            second.append(None)
            second[0] = load_pictures(drive, picture, cache_dir=folder, progress=False)
        return real(frames, picture_, target, sizes, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(cache, "_decode_rows", between)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    first = load_pictures(drive, picture, cache_dir=folder, progress=False)
    for found in (first, second[0], load_pictures(drive, picture, cache_dir=folder, progress=False)):
        assert found is not None and np.array_equal(found.pictures[:], alone.pictures[:])
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".u8"]


# --- No home, no folder ---------------------------------------------------------------------------------------------


def _homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", classmethod(unknown))
    for name in ("HOME", "SEPILOT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _homeless(monkeypatch)
    with pytest.raises(UsageError, match="no home folder; set HOME, or name a directory with --slots DIR"):
        default_slots()
    with pytest.raises(OutputError, match="no home folder; name a folder for them with SEPILOT_CACHE=DIR"):
        cache.default_cache()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.default_cache() == tmp_path / "sepilot"


def test_the_verbs_say_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _homeless(monkeypatch)
    tub = make.write_tub(tmp_path / "tub")
    for argv, word in (
        (["slots"], "--slots"),
        (["doctor"], "--slots"),
        (["rollback"], "--slots"),
        (["train", str(tub), "--out", str(tmp_path / "run")], "SEPILOT_CACHE"),
        (["train", str(tub), "--preview", str(tmp_path / "sheet.png")], "SEPILOT_CACHE"),
    ):
        assert cli.main(argv) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and word in error, argv
    assert not (tmp_path / "run").exists()


def test_a_cache_that_cannot_be_written_is_said_before_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "blocked").write_text("")
    monkeypatch.setenv("SEPILOT_CACHE", str(tmp_path / "blocked" / "cache"))
    monkeypatch.setattr("sepilot_train.base.quiet.start_keras", lambda: pytest.fail("the back end must not be started"))
    tub = make.write_tub(tmp_path / "tub")
    assert cli.main(["train", str(tub), "--out", str(tmp_path / "run")]) == 2
    assert "decoded pictures cannot be written: Not a directory; name a folder" in capsys.readouterr().err


# --- Settings of other software ---------------------------------------------------------------------------------------


def test_keras_reads_nothing_of_other_software(tmp_path: Path) -> None:
    folder = tmp_path / ".keras"
    folder.mkdir()
    (folder / "keras.json").write_text(
        '{"floatx": "float16", "epsilon": 0.5, "backend": "nonsense", "image_data_format": "channels_first"}'
    )
    code = "import sepilot_train.base.quiet as q; q.start_keras(); import keras, matplotlib; c = keras.config\n"
    code += "print(c.floatx(), c.epsilon(), c.backend(), c.image_data_format(), matplotlib.get_backend())\n"
    code += "print(c.max_epochs(), c.max_steps_per_epoch())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
        env={
            **os.environ, "HOME": str(tmp_path), "KERAS_HOME": str(folder), "KERAS_BACKEND": "",
            "KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "1",
            "MPLBACKEND": "nonsense",
        },
    )  # fmt: skip
    assert done.stdout == "float32 1e-07 tensorflow channels_last agg\nNone None\n", done.stderr


@pytest.mark.parametrize("backend", ["nonsense", "torch"])
def test_a_back_end_that_sepilot_does_not_train_with_is_one_line(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", backend)
    with pytest.raises(UsageError, match=f"KERAS_BACKEND: one of tensorflow, jax expected, found '{backend}'"):
        start_keras()


def test_flags_that_tensorflow_does_not_know_are_told_by_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sepilot_train.base.quiet as q; q.start_keras()"],
        capture_output=True, text=True, timeout=120, env={**os.environ, "TF_XLA_FLAGS": "--tf_nonsense"},
    )  # fmt: skip
    assert done.returncode != 0 and "Unknown flag in TF_XLA_FLAGS: --tf_nonsense" in done.stderr


def test_a_terminal_that_cannot_show_a_letter_gets_another(tmp_path: Path) -> None:
    tub = make.write_tub(tmp_path / "Fahrt-²-ü")
    for changes, name in (
        ({"PYTHONIOENCODING": "ascii"}, b"Fahrt-?-?"),
        # Here file names are no UTF-8 either.
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, rb"Fahrt-\udcc2\udcb2"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "sepilot_runtime", "drives", str(tub)],
            capture_output=True, env={**os.environ, **changes},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert name in done.stdout


# --- Paths first ----------------------------------------------------------------------------------------------------

HEAVY = ("tensorflow", "keras", "matplotlib", "tf2onnx", "onnx")

Given = Callable[[Path], list[str]]


@pytest.mark.parametrize(
    "argv",
    [
        ["train", "nowhere", "--out", "out"],
        ["train", "tub", "--val", "nowhere", "--out", "out"],
        ["train", "--resume", "--out", "nowhere"],
        ["export", "nowhere", "--out", "out"],
        ["check", "nowhere"],
        ["compress", "nowhere", "--recipe", "slim", "--out", "out"],
        ["closed-loop", "nowhere.tflite"],
        ["report", "nowhere", "--out", "out.html"],
        ["report", "nowhere", "--out", "."],
        ["tradeoff", "nowhere", "--out", "out"],
        ["inspect", "nowhere.keras"],
    ],
    ids=" ".join,
)
def test_a_wrong_path_costs_no_import_of_tensorflow(argv: list[str], tmp_path: Path) -> None:
    make.write_tub(tmp_path / "tub")
    code = "import sys; from sepilot_runtime.cli import main; code = main(sys.argv[1:])\n"
    code += f"print(code, [name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "2 []\n", done.stdout + done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("sepilot: ")
    assert "nowhere" in done.stderr or "a file expected, found a folder" in done.stderr

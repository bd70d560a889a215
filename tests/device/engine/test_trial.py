"""Files that hang or eat memory: a drive goes on beside them, and does not begin with them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostile import write_endless, write_greedy
from model_factory import contract_of, frames, write_frames, write_onnx, write_tflite
from sepilot_runtime.base.errors import ModelFileError
from sepilot_runtime.base.processes import own_environment
from sepilot_runtime.commands import drive_models
from sepilot_runtime.commands.drive_models import DriveModels
from sepilot_runtime.commands.drive_request import drive_request
from sepilot_runtime.device import installation
from sepilot_runtime.device.installation import install_model
from sepilot_runtime.device.slots import read_slots
from sepilot_runtime.drive.car_config import load_car
from sepilot_runtime.engine.trial import Proof, try_model

pytest.importorskip("onnxruntime", reason="the files that hang are ONNX files")
pytest.importorskip("onnx", reason="the files that hang are made with onnx")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DriveModels]:
    """What drives by `tmp_path / "slots"`, where files that nobody tried can become active."""
    monkeypatch.setattr(installation, "try_model", lambda *_, **__: None)
    slots = tmp_path / "slots"
    install_model(write_tflite(tmp_path / "good.tflite"), slots)
    models = DriveModels(drive_request(["--slots", str(slots), "--source", "0"]), load_car(None))
    yield models
    models.close()


def steps_until_it_ends(models: DriveModels) -> list[float]:
    """Seconds of each step of a loop that steers until what became active is taken or given up."""
    frame, gaps, last = frames(1)[0], [], time.perf_counter()
    pilot = models.driving()
    end = last + 60
    begun = False
    while last < end:
        pilot.predict(frame)
        new = models.newer()
        now = time.perf_counter()
        gaps.append(now - last)
        last = now
        running = models._follower is not None and models._follower._thread is not None
        if new is not None or (begun and not running):
            return gaps
        begun = begun or running
        time.sleep(0.005)
    raise AssertionError("neither taken nor given up")


@pytest.mark.parametrize(
    ("write", "words"),
    [(write_endless, "did not answer within 3 s"), (write_greedy, "ONNX Runtime cannot")],
)
def test_a_drive_goes_on_beside_a_file_that_hangs_or_eats_memory(
    write: object, words: str, models: DriveModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(drive_models, "try_model", lambda *a, **k: try_model(*a, limit_s=3, **k))
    before = models.driving()
    install_model(write(tmp_path / "bad.onnx"), tmp_path / "slots")  # type: ignore[operator]
    gaps = steps_until_it_ends(models)
    assert models.driving() is before and len(gaps) > 50
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and words in said and "driving on with" in said
    slots = read_slots(tmp_path / "slots")
    roles = {slots.role_of(slot): slot for slot in slots.models}
    assert roles["active"].file == "good.tflite" and roles["previous"].failed


def test_the_golden_frames_of_a_new_file_run_in_another_process(
    models: DriveModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Proof] = []
    monkeypatch.setattr(drive_models, "try_model", lambda *a, **k: tried.append(try_model(*a, **k)) or tried[-1])
    monkeypatch.setattr(
        "sepilot_runtime.engine.pilot.verify_golden", lambda _: pytest.fail("in the drive's own process")
    )
    slot = install_model(write_onnx(tmp_path / "new.onnx", contract_of(golden=5)), tmp_path / "slots")
    before = models.driving()
    steps_until_it_ends(models)
    assert models.driving() is not before
    assert [proof.checksum for proof in tried] == [slot.checksum]


def test_bytes_that_change_after_their_trial_are_not_opened(
    models: DriveModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(drive_models, "try_model", lambda *_, **__: Proof(checksum="0" * 64, opening_s=0.0))
    before = models.driving()
    install_model(write_onnx(tmp_path / "new.onnx"), tmp_path / "slots")
    steps_until_it_ends(models)
    assert models.driving() is before and "was changed while it was tried" in capsys.readouterr().err


def test_a_file_that_would_stop_the_drive_while_it_is_opened_waits_for_the_next(
    models: DriveModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(drive_models, "try_model", lambda *a, **_: Proof(checksum="0" * 64, opening_s=0.3))
    before = models.driving()
    install_model(write_tflite(tmp_path / "new.tflite", contract_of(golden=4)), tmp_path / "slots")
    steps_until_it_ends(models)
    assert models.driving() is before
    assert "opening it takes 300 ms, in which nothing would steer; drive anew" in capsys.readouterr().err
    # It is no fault of the file.
    assert read_slots(tmp_path / "slots").models[-1].failed == ""


def test_the_end_of_a_drive_ends_a_trial(models: DriveModels, tmp_path: Path) -> None:
    install_model(write_endless(tmp_path / "bad.onnx"), tmp_path / "slots")
    end = time.monotonic() + 30
    while models._trial is None and time.monotonic() < end:
        models.newer()
    models.close()
    assert models._trial is not None and models._trial.wait(10) == -9


def test_a_drive_does_not_begin_with_an_endless_file(tmp_path: Path) -> None:
    model = write_endless(tmp_path / "bad\x1b.onnx")
    source = write_frames(tmp_path / "frames", 1)
    command = [sys.executable, "-c", IMPATIENT, "drive", str(model), "--source", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=own_environment(), check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "no answer to its golden frames within 1 s" in done.stderr
    assert "\x1b" not in done.stderr


IMPATIENT = """
import sys
from sepilot_runtime import cli
from sepilot_runtime.commands import drive_models
from sepilot_runtime.engine import trial
drive_models.time_limit = lambda path: trial.time_limit(path, 1.0)
raise SystemExit(cli.main(sys.argv[1:]))
"""


def test_a_trial_gives_way_and_has_limits(tmp_path: Path) -> None:
    code = (
        "import os, resource; from sepilot_runtime.engine.trial import _give_way; _give_way(); "
        "print(os.nice(0), resource.getrlimit(resource.RLIMIT_DATA)[0], resource.getrlimit(resource.RLIMIT_CPU)[0], "
        "open('/proc/self/oom_score_adj').read().strip())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=own_environment(), check=True
    )
    assert done.stdout.split() == ["19", str(1 << 30), "60", "1000"]


def test_a_trial_names_the_file_once(tmp_path: Path) -> None:
    model = write_tflite(tmp_path / "m.tflite", bias=0.9)
    with pytest.raises(ModelFileError, match=r"^shown\.tflite: golden frame 0: ") as caught:
        try_model(model, shown_as=Path("shown.tflite"))
    assert "\n" not in str(caught.value)

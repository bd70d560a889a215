"""`sepilot drive` on a camera, from the command line on."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fake_capture import Act, FakeCamera, frames
from model_factory import PICTURE, contract_of, write_tflite
from sepilot_runtime import cli
from sepilot_runtime.contract.contract import FrameStatistics
from sepilot_runtime.contract.preprocess import picture_of
from sepilot_runtime.device import installation
from sepilot_runtime.device.installation import install_model
from sepilot_runtime.drive.novelty import statistics_of
from sepilot_runtime.source import camera as cameras
from sepilot_runtime.source.opening import open_source

CAMERA_HZ = 50.0
# For tests of something else than lateness: other work on the machine then holds a drive up for nobody.
PATIENT = ["--set", "limits.max_gap_periods=50", "--set", "limits.max_age_ms=1000", "--set", "limits.deadline_ms=1000"]
STEERED = {"driving", "degraded"}


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Drive on a camera by script, with the arguments given, and read the lines back."""

    def drive(*arguments: object, script: list[list[Act]] | None = None, expected: int = 0, **about: Any) -> list[Any]:
        options: dict[str, Any] = {"rate_hz": CAMERA_HZ, "formats": {"NV12": CAMERA_HZ}, "width": 64, **about}
        camera = FakeCamera(script=script or [frames(2000)], **options)
        monkeypatch.setattr(cameras, "camera_opener", lambda where: camera.open)
        output = tmp_path / f"{len(list(tmp_path.glob('*.jsonl')))}.jsonl"
        try:
            assert cli.main(["drive", "--source", "0", "--output", str(output), *map(str, arguments)]) == expected
        finally:
            camera.release_hangs()
        return [json.loads(line) for line in output.read_text().splitlines()]

    return drive


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "try_model", lambda *_, **__: None)


def test_a_covered_lens_never_leaves_waiting(lines: Callable[..., Any], tmp_path: Path) -> None:
    """Also the second black frame, which is the same as the first."""
    file = write_tflite(tmp_path / "m.tflite")
    black = [Act(look=0)] * 20
    script = [black, frames(400)]
    found = lines(file, "--max-frames", 30, "--set", "actuation.throttle=0.3", *PATIENT, script=script)
    dark = [line for line in found if line.get("reason") == "the picture is black"]
    assert len(dark) > 3
    assert {(line["state"], line["throttle"]) for line in dark} == {("waiting", 0.0)}
    assert found[-2]["state"] in STEERED


def test_a_lower_rate_takes_the_newest_frames_and_counts_in_its_own_periods(
    lines: Callable[..., Any], tmp_path: Path
) -> None:
    file = write_tflite(tmp_path / "m.tflite")
    begin_s = time.monotonic()
    # 0.4 s in periods of this drive, in those of the camera less than the drive's own period.
    found = lines(file, "--rate-hz", 10, "--max-frames", 8, "--set", "limits.max_gap_periods=4")
    assert time.monotonic() - begin_s > 7 / 10
    driven = [line for line in found if "age_ms" in line]
    assert driven[-1]["frame"] - driven[0]["frame"] > 3 * 7, "frames in between were passed over"
    # What was taken up a period before would be 80 ms old; each of them.
    assert min(line["age_ms"] for line in driven) < 25, "and what is taken is new"
    assert "neutral" not in {line["state"] for line in found}


def test_a_higher_rate_than_the_camera_has_changes_nothing(lines: Callable[..., Any], tmp_path: Path) -> None:
    # 0.3 s in the camera's periods, in those of 1 ms less than one of the camera's.
    limits = ["--set", "limits.max_gap_periods=15", "--set", "limits.deadline_ms=300"]
    found = lines(write_tflite(tmp_path / "m.tflite"), "--rate-hz", 1000, "--max-frames", 20, *limits)
    assert sum(line["state"] in STEERED for line in found) > 15


def test_a_rate_at_which_outputs_would_take_the_drive_for_dead_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cameras, "camera_opener", lambda where: FakeCamera(script=[frames(9)]).open)
    argv = ["drive", str(write_tflite(tmp_path / "m.tflite")), "--source", "0", "--rate-hz", "3"]
    assert cli.main(argv) == 2
    assert "--rate-hz 3: at least 5 expected for a camera" in capsys.readouterr().err


def test_a_camera_that_is_slower_than_it_says_is_named(
    lines: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_tflite(tmp_path / "m.tflite")
    dim = [Act(after_s=0.05)] * 80
    found = lines(file, "--max-frames", 25, script=[dim])
    assert sum(line["state"] == "neutral" for line in found) > 10
    told = capsys.readouterr().err
    assert "frames/s where 50 were expected" in told and "with --rate-hz 1" in told
    # A quarter of a second in periods of this drive, in those that the camera claims less than one of its true ones.
    found = lines(file, "--max-frames", 15, "--rate-hz", 12, "--set", "limits.max_gap_periods=3", script=[dim])
    assert "neutral" not in {line["state"] for line in found}


def test_what_a_model_does_not_know_of_its_training_is_told_at_the_start(
    lines: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines(write_tflite(tmp_path / "old.tflite"), "--max-frames", 3)
    assert "old.tflite: knows no limit for novel pictures" in capsys.readouterr().err
    lines(write_tflite(tmp_path / "m.tflite"), "--max-frames", 3, "--set", "limits.max_novelty=off")
    assert "knows no limit" not in capsys.readouterr().err


def test_what_was_installed_as_a_shadow_runs_beside_the_active_model(
    lines: Callable[..., Any], tmp_path: Path, untried: None, capsys: pytest.CaptureFixture[str]
) -> None:
    slots = tmp_path / "slots"
    install_model(write_tflite(tmp_path / "a.tflite"), slots)
    # Of another picture, so that frames which only serve the first would not do.
    other = contract_of(dataclasses.replace(PICTURE, color="bgr", height=16))
    install_model(write_tflite(tmp_path / "b.tflite", other), slots, shadow=True)
    lines("--slots", slots, "--max-frames", 30, *PATIENT)
    told = capsys.readouterr().err
    assert "frames: mean" in told and "failed" not in told
    (line,) = (line for line in told.splitlines() if line.startswith("shadow "))
    assert line.count("shadow") == 1
    # A damaged one is told about and keeps nobody from driving.
    for path in (slots / "models").glob("*"):
        if path.read_bytes() == (tmp_path / "b.tflite").read_bytes():
            path.write_bytes(b"broken")
    found = lines("--slots", slots, "--max-frames", 5, *PATIENT)
    assert "warning: shadow: " in capsys.readouterr().err
    assert found[-2]["state"] in STEERED


def test_a_shadow_of_a_recording_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_tflite(tmp_path / "m.tflite")
    cv2.imwrite(str(tmp_path / "f.png"), np.zeros((48, 64, 3), np.uint8))
    assert cli.main(["drive", str(file), "--source", str(tmp_path / "f.png"), "--shadow", str(file)]) == 2
    assert "for a camera, or a recording with --as-camera" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("other", "options", "reason"),
    [
        (contract_of(dataclasses.replace(PICTURE, color="bgr")), [], "needs other frames than the camera gives now"),
        (contract_of(tolerance=2e-4), ["--set", "limits.max_novelty=1.5"], "statistics"),
    ],
    ids=["picture", "novelty"],
)
def test_an_installed_model_that_does_not_fit_the_running_drive_is_told_and_not_taken(
    lines: Callable[..., Any],
    tmp_path: Path,
    untried: None,
    capsys: pytest.CaptureFixture[str],
    other: Any,
    options: list[str],
    reason: str,
) -> None:
    slots = tmp_path / "slots"
    first = contract_of(statistics=statistics()) if options else contract_of()
    install_model(write_tflite(tmp_path / "a.tflite", first), slots)
    second = write_tflite(tmp_path / "b.tflite", other)

    def picture(number: int) -> NDArray[np.uint8]:
        # The camera waits, so that the drive has its second to notice however long the installation takes.
        if number == 10:
            install_model(second, slots)
        return noise(np.random.default_rng(number))

    found = lines("--slots", slots, "--max-frames", 90, *options, picture=picture)
    assert reason in capsys.readouterr().err
    assert not [line for line in found if line.get("reason") == "wrong shape"]
    assert sum("frame" in line for line in found) >= 90


def noise(rng: np.random.Generator) -> NDArray[np.uint8]:
    """What the camera here shows."""
    return rng.integers(40, 200, (48, 64, 3), np.uint8)


def statistics() -> FrameStatistics:
    rng = np.random.default_rng(0)
    return statistics_of(np.stack([picture_of(noise(rng), PICTURE) for _ in range(100)]))


def test_a_recording_holds_what_a_net_is_to_learn_and_not_what_this_servo_gets(
    lines: Callable[..., Any], tmp_path: Path
) -> None:
    """A servo that turns the other way would teach the next net to steer into the wall; so would zeros in neutral."""
    tub = tmp_path / "tub"
    servo = ["--set", "actuation.gain=-0.5", "--set", "actuation.trim=0.25"]
    script = [frames(15), [Act(look="same")] * 12, frames(400)]
    file = write_tflite(tmp_path / "m.tflite")
    found = lines(file, *servo, "--record", tub, "--max-frames", 50, *PATIENT, script=script)
    assert "neutral" in {line["state"] for line in found}
    steered = [line for line in found if line["state"] in STEERED]
    with open_source(str(tub)) as source:
        labels = [frame.labels["steering"] for frame in source]
    assert labels == pytest.approx([min(max(line["raw"], -1), 1) for line in steered], abs=1e-6)
    rows = [json.loads(line) for line in (tub / "catalog_0.catalog").open()]
    assert [row["servo/angle"] for row in rows] == pytest.approx([line["steering"] for line in steered], abs=1e-6)
    assert {row["user/mode"] for row in rows} <= STEERED
    named = json.loads((tub / "manifest.json").read_text().splitlines()[0])
    assert set(named) == {key for key in rows[0] if not key.startswith("_")}

"""`sepilot drive` on a camera, from the command line on."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fake_capture import Act, FakeCamera, frames
from model_factory import PICTURE, contract_of, write_tflite
from sepilot_runtime import cameras, cli, installation
from sepilot_runtime.contract import FrameStatistics
from sepilot_runtime.installation import install_model
from sepilot_runtime.novelty import statistics_of
from sepilot_runtime.preprocess import picture_of
from sepilot_runtime.sources import open_source

CAMERA_HZ = 50.0


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
    found = lines(file, "--max-frames", 30, "--set", "actuation.throttle=0.3", script=script)
    dark = [line for line in found if line.get("reason") == "the picture is black"]
    assert len(dark) > 3
    assert {(line["state"], line["throttle"]) for line in dark} == {("waiting", 0.0)}
    assert found[-2]["state"] == "driving"


def test_a_lower_rate_takes_the_newest_frames_and_counts_in_its_own_periods(
    lines: Callable[..., Any], tmp_path: Path
) -> None:
    file = write_tflite(tmp_path / "m.tflite")
    begin_s = time.monotonic()
    found = lines(file, "--rate-hz", 10, "--max-frames", 8)
    assert time.monotonic() - begin_s > 7 / 10
    driven = [line for line in found if "age_ms" in line]
    assert driven[-1]["frame"] - driven[0]["frame"] > 3 * 7, "frames in between were passed over"
    assert sorted(line["age_ms"] for line in driven)[4] < 25, "and what is taken is new"
    assert "neutral" not in {line["state"] for line in found}


def test_a_higher_rate_than_the_camera_has_changes_nothing(lines: Callable[..., Any], tmp_path: Path) -> None:
    found = lines(write_tflite(tmp_path / "m.tflite"), "--rate-hz", 1000, "--max-frames", 20)
    assert sum(line["state"] == "driving" for line in found) > 15


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
    found = lines(file, "--max-frames", 15, "--rate-hz", 12, script=[dim])
    assert "neutral" not in {line["state"] for line in found}


def test_what_was_installed_as_a_shadow_runs_beside_the_active_model(
    lines: Callable[..., Any], tmp_path: Path, untried: None, capsys: pytest.CaptureFixture[str]
) -> None:
    slots = tmp_path / "slots"
    install_model(write_tflite(tmp_path / "a.tflite"), slots)
    # Of another picture, so that frames which only serve the first would not do.
    other = contract_of(dataclasses.replace(PICTURE, color="bgr", height=16))
    install_model(write_tflite(tmp_path / "b.tflite", other), slots, shadow=True)
    lines("--slots", slots, "--max-frames", 30)
    told = capsys.readouterr().err
    assert "frames: mean" in told and "failed" not in told
    (line,) = (line for line in told.splitlines() if line.startswith("shadow "))
    assert line.count("shadow") == 1
    # A damaged one is told about and keeps nobody from driving.
    for path in (slots / "models").glob("*"):
        if path.read_bytes() == (tmp_path / "b.tflite").read_bytes():
            path.write_bytes(b"broken")
    found = lines("--slots", slots, "--max-frames", 5)
    assert "warning: shadow: " in capsys.readouterr().err
    assert found[-2]["state"] == "driving"


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
    later = threading.Timer(0.5, lambda: install_model(second, slots))
    later.start()
    found = lines("--slots", slots, "--max-frames", 110, *options)
    later.join()
    assert reason in capsys.readouterr().err
    assert not [line for line in found if line.get("reason") == "wrong shape"]
    assert sum("frame" in line for line in found) >= 110


def statistics() -> FrameStatistics:
    """Of what the camera here shows."""
    rng = np.random.default_rng(0)
    return statistics_of(
        np.stack([picture_of(rng.integers(40, 200, (48, 64, 3), np.uint8), PICTURE) for _ in range(100)])
    )


def test_a_recording_holds_what_a_net_is_to_learn_and_not_what_this_servo_gets(
    lines: Callable[..., Any], tmp_path: Path
) -> None:
    """A servo that turns the other way would teach the next net to steer into the wall; so would zeros in neutral."""
    tub = tmp_path / "tub"
    servo = ["--set", "actuation.gain=-0.5", "--set", "actuation.trim=0.25"]
    script = [frames(15), [Act(look="same")] * 12, frames(400)]
    found = lines(write_tflite(tmp_path / "m.tflite"), *servo, "--record", tub, "--max-frames", 50, script=script)
    assert "neutral" in {line["state"] for line in found}
    steered = [line for line in found if line["state"] in ("driving", "degraded")]
    with open_source(str(tub)) as source:
        labels = [frame.label for frame in source]
    assert labels == pytest.approx([min(max(line["raw"], -1), 1) for line in steered], abs=1e-6)
    rows = [json.loads(line) for line in (tub / "catalog_0.catalog").open()]
    assert [row["servo/angle"] for row in rows] == pytest.approx([line["steering"] for line in steered], abs=1e-6)
    assert {row["user/mode"] for row in rows} <= {"driving", "degraded"}
    named = json.loads((tub / "manifest.json").read_text().splitlines()[0])
    assert set(named) == {key for key in rows[0] if not key.startswith("_")}

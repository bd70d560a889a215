"""What surrounds the benchmark's figures: the floor, references, cold starts, pacing and the profile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest

from fakes import ConstantEngine
from model_factory import PICTURE, contract_of, frames, write_onnx, write_tflite
from sepilot_runtime import cli
from sepilot_runtime.base.errors import ModelFileError, OutputError, UsageError
from sepilot_runtime.base.files import sha256_of
from sepilot_runtime.bench.cold_start import cold_start
from sepilot_runtime.bench.latency_bench import Variant
from sepilot_runtime.bench.profile import read_profile, require_eligible
from sepilot_runtime.bench.roofline import floor_us, gemm_rate, model_macs
from sepilot_runtime.bench.soak import MemoryCamera, soak_test
from sepilot_runtime.device.conditions import conditions_now, throttling
from sepilot_runtime.drive.supervisor import Control
from sepilot_runtime.engine.model_file import read_model_file
from sepilot_runtime.engine.pilot import Pilot

QUICK = ("--rounds", "5", "--calls", "5", "--cold-starts", "0")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little noise in memory, and no process to measure the machine in."""
    monkeypatch.setattr("sepilot_runtime.bench.latency_bench.last_level_cache_bytes", lambda: 1 << 20)
    monkeypatch.setattr("sepilot_runtime.bench.roofline.gemm_rate", lambda: 50.0)


def test_the_floor_is_the_work_over_the_rate(tmp_path: Path) -> None:
    file = read_model_file(write_tflite(tmp_path / "m.tflite"))
    assert model_macs(file.path) == PICTURE.height * PICTURE.width, "one dense layer"
    assert model_macs(write_tflite(tmp_path / "i.tflite", int8=True)) == PICTURE.height * PICTURE.width
    assert model_macs(write_onnx(tmp_path / "m.onnx")) is None
    assert floor_us(2_000_000, 50.0) == 40.0
    rate = gemm_rate()
    assert rate is not None and 0.1 < rate < 1000


def test_references_stand_beside_the_files_and_are_never_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx, tflite = write_onnx(tmp_path / "m.onnx"), write_tflite(tmp_path / "m.tflite")
    assert cli.main(["bench", str(tflite), str(onnx), "--references", "--json", *QUICK]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["engine"], row["reference"]) for row in rows] == [
        ("litert", False), ("onnxruntime", False), ("opencv-dnn", True),
    ]  # fmt: skip
    assert {row["macs"] for row in rows} == {PICTURE.height * PICTURE.width}, "known from the .tflite of the recipe"
    assert all(row["infer_over_floor"] > 0 for row in rows)
    assert cli.main(["bench", str(tflite), "--references", *QUICK]) == 0
    assert "not measured: opencv-dnn" in capsys.readouterr().out


def test_a_cold_start_is_a_whole_process(tmp_path: Path) -> None:
    found = cold_start(Variant(path=write_tflite(tmp_path / "m.tflite"), threads=1), 1, height=48, width=64)
    assert 0.02 < found.best_s <= found.seconds < 30
    # numpy and OpenCV alone take more than this; a test process that counted itself would be far above.
    assert 30e6 < found.peak_rss_bytes < 200e6
    with pytest.raises(ModelFileError, match="no answer"):
        cold_start(Variant(path=write_tflite(tmp_path / "bad.tflite", gain=2.0), threads=1), 1)


class Clock:
    def __init__(self) -> None:
        self.now_ns = self.cpu_ns = 1_000_000_000

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


def camera(clock: Clock, **changes: Any) -> MemoryCamera:
    return MemoryCamera(
        frames(4), Control(), rate_hz=100, clock_ns=lambda: clock.now_ns, cpu_ns=lambda: clock.cpu_ns,
        sleep=clock.sleep, **changes,
    )  # fmt: skip


def turn(source: MemoryCamera, clock: Clock, *, wall_ms: float, cpu_ms: float) -> None:
    while source.newest(1.0) is None:
        pass
    clock.now_ns += round(wall_ms * 1e6)
    clock.cpu_ns += round(cpu_ms * 1e6)


def test_a_miss_is_ours_only_where_the_work_itself_took_too_long() -> None:
    clock = Clock()
    source = camera(clock)
    for wall_ms, cpu_ms in ((1, 1), (1, 1), (15, 1), (1, 1), (15, 14), (1, 1)):
        turn(source, clock, wall_ms=wall_ms, cpu_ms=cpu_ms)
    source.newest(1.0)
    assert (source.missed, source.missed_by_us) == (2, 1)
    assert source.count == 6


def test_frames_that_are_replaced_while_the_loop_is_busy_are_dropped() -> None:
    clock = Clock()
    source = camera(clock)
    turn(source, clock, wall_ms=1, cpu_ms=1)
    turn(source, clock, wall_ms=35, cpu_ms=1)
    turn(source, clock, wall_ms=1, cpu_ms=1)
    assert source.lost == {"dropped": 2}


def test_a_rehearsal_drives_and_meters_every_turn() -> None:
    pilot = Pilot(ConstantEngine(contract_of(), 0.1))
    found = soak_test(pilot, frames(8), count=400)
    assert found.frames == found.turn.count == found.own.count == 400
    assert found.own.p50_us < found.turn.p50_us
    assert found.wake is None and found.seconds_in["driving"] > 0
    paced = soak_test(pilot, frames(8), rate_hz=200, count=20)
    assert paced.wake is not None and paced.frames == paced.wake.count == 20 and paced.seconds >= 19 / 200
    assert paced.resources and paced.resources[-1].threads >= 1


def test_paced_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_tflite(tmp_path / "m.tflite")
    assert cli.main(["bench", str(file), "--paced", "100", "--minutes", "0.005", *QUICK]) == 0
    printed = capsys.readouterr().out
    assert "paced at 100 Hz" in printed
    assert max(map(len, printed[printed.index("file ") :].splitlines())) <= 80


def checked(file: Path, **changes: Any) -> None:
    row = {"file": file.name, "engine": "litert", "passed": True, "sha256": sha256_of(file), **changes}
    (file.parent / "check.json").write_text(json.dumps({"files": [row]}), encoding="utf-8")


def test_the_profile_holds_the_quickest_that_passed_and_drive_uses_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, profile = write_tflite(tmp_path / "m.tflite"), tmp_path / "car.json"
    checked(file)
    argv = ["bench", str(file), "--engine", "litert,openvino", "--write-profile", str(profile), *QUICK]
    assert cli.main(argv) == 0
    assert "m.tflite on openvino: check.json says nothing" in capsys.readouterr().err
    found, path = read_profile(profile)
    assert (found.file, found.engine, found.threads, path) == ("m.tflite", "litert", 1, file)
    cv2.imwrite(str(tmp_path / "f.png"), frames(1)[0])
    source = ["--source", str(tmp_path / "f.png"), "--quiet"]
    assert cli.main(["drive", "--profile", str(profile), *source]) == 0
    assert '"steering"' in capsys.readouterr().out
    assert cli.main(["drive", str(file), "--profile", str(profile), *source]) == 2
    assert "leave that out" in capsys.readouterr().err
    write_tflite(file, int8=True)
    assert cli.main(["drive", "--profile", str(profile), *source]) == 2
    assert "another file than the one that was measured" in capsys.readouterr().err


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gets as far as measuring has failed."""

    def measure(*arguments: Any, **options: Any) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr("sepilot_runtime.bench.latency_bench.measure", measure)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"passed": False}, "failed its accuracy gate"),
        ({"sha256": "0" * 64}, "about another file of this name"),
        ({"engine": "openvino"}, "says nothing about it"),
        (None, "no check.json beside it"),
    ],
)
def test_a_file_without_a_passed_check_is_not_chosen(
    changes: dict[str, Any] | None,
    why: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    unmeasured: None,
) -> None:
    file = write_tflite(tmp_path / "m.tflite")
    if changes is not None:
        checked(file, **changes)
    assert cli.main(["bench", str(file), "--write-profile", str(tmp_path / "p.json"), *QUICK]) == 2
    assert why in capsys.readouterr().err and not (tmp_path / "p.json").exists()


def test_files_with_one_reason_are_one_line(tmp_path: Path) -> None:
    files = [tmp_path / name / "m.tflite" for name in "ab"]
    with pytest.raises(UsageError, match=r"eligible: b/m.tflite on litert: not checked.*; a/m.tflite on .*: not") as e:
        require_eligible(tmp_path / "p.json", [(files[1], "litert"), (files[0], "litert"), (files[0], "openvino")])
    assert "a/m.tflite on litert, a/m.tflite on openvino: not checked" in str(e.value)


def test_what_was_measured_is_printed_before_what_fails_afterwards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_tflite(tmp_path / "m.tflite")
    checked(file)

    def full(*arguments: Any) -> None:
        raise OutputError("p.json: cannot be written: disk full")

    monkeypatch.setattr("sepilot_runtime.bench.profile.write_json", full)
    assert cli.main(["bench", str(file), "--write-profile", str(tmp_path / "p.json"), "--json", *QUICK]) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["rows"][0]["file"] == "m.tflite" and "disk full" in printed.err


def test_a_directory_stands_for_its_model_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("week-export-1", "week-export-2"):
        (tmp_path / name).mkdir()
        write_tflite(tmp_path / name / "swift-float32.tflite")
        (tmp_path / name / "calibration.json").write_text("{}")
    only = write_onnx(tmp_path / "week-export-1" / "swift-float32.onnx")
    folders = [str(tmp_path / "week-export-1"), str(tmp_path / "week-export-2")]
    assert cli.main(["bench", *folders, str(only), "--json", *QUICK]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["file"] for row in rows] == [
        "swift-float32.onnx", "week-export-1/swift-float32.tflite", "week-export-2/swift-float32.tflite",
    ]  # fmt: skip
    assert [row["sha256"] for row in rows] == [sha256_of(Path(row["path"])) for row in rows]
    assert cli.main(["bench", *folders, *QUICK]) == 0
    table = capsys.readouterr().out
    table = table[table.index("file ") :]
    assert table.count("file 1 ") == table.count("file 2 ") == 2, "cut to 22 characters they are the same"
    assert "file 1: week-export-1/swift-float32.tflite\nfile 2: week-export-2/swift-float32.tflite" in table
    (tmp_path / "empty").mkdir()
    assert cli.main(["bench", str(tmp_path / "empty")]) == 2
    assert "empty: .tflite or .onnx files expected, found none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--minutes", "5"], "--minutes: --paced expected with it, found none"),
        (["--tolerance", "0.2"], "--tolerance: --against expected with it, found none"),
    ],
)
def test_options_that_nothing_would_read_are_refused(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], unmeasured: None
) -> None:
    assert cli.main(["bench", str(write_tflite(tmp_path / "m.tflite")), *options]) == 2
    assert capsys.readouterr().err == f"sepilot: {message}\n"


def test_a_broken_profile_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"version": 2}', encoding="utf-8")
    with pytest.raises(UsageError, match=r"p\.json"):
        read_profile(tmp_path / "p.json")


def test_conditions_of_a_pi(tmp_path: Path) -> None:
    def plant(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    assert throttling(tmp_path) is None
    plant("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n")
    plant("proc/device-tree/model", "Raspberry Pi 5 Model B\0")
    plant("sys/class/thermal/thermal_zone0/temp", "61234\n")
    plant("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "ondemand\n")
    now = conditions_now(tmp_path)
    assert (now.board, now.governor, now.temperature_c) == ("Raspberry Pi 5 Model B", "ondemand", 61.234)
    assert now.throttled == "voltage too low, slowed down, voltage was too low, was slowed down"
    plant("sys/devices/platform/soc/soc:firmware/get_throttled", "0")
    assert throttling(tmp_path) == "no"

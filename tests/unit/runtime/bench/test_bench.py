"""The benchmark measures what it says, in an order that is fair, and reports it so that a machine can read it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from model_factory import contract_of, frames, write_classes, write_frames, write_onnx, write_tflite
from sepilot_runtime import cli
from sepilot_runtime.base.errors import ModelFileError
from sepilot_runtime.base.latency import Way, interleave
from sepilot_runtime.bench.latency_bench import Variant, measure, synthetic_frames
from sepilot_runtime.contract.contract import Picture
from sepilot_runtime.device.conditions import conditions_now, last_level_cache_bytes

QUICK = ("--cold-starts", "0")
"""A fresh process takes longer than all the rest."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process to measure the machine in."""
    monkeypatch.setattr("sepilot_runtime.bench.roofline.gemm_rate", lambda: 50.0)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    small = write_tflite(tmp_path / "small.tflite")
    large = write_tflite(
        tmp_path / "a-much-longer-name-than-fits-large.tflite", contract_of(Picture(height=150, width=300))
    )
    return [str(small), str(large), str(write_onnx(tmp_path / "small.onnx"))]


def test_the_table_fits_a_terminal(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", *files, "--threads", "1,2", "--rounds", "3", "--calls", "10", *QUICK]) == 0
    printed = capsys.readouterr().out
    table = printed[printed.index("file ") :].splitlines()
    assert max(map(len, table)) <= 80
    assert sum(line.startswith("small.tflite") for line in table) == 4
    assert any("…" in line and "large.tflite" in line for line in table), "both ends of a long name are shown"
    assert "interleaved" in printed and "Python" in printed


def test_decoding_has_a_column_where_it_takes_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a file of classes, which runs from a cold start as well; a steering file has none."""
    classes = write_classes(tmp_path / "a-name-that-is-longer-than-its-column.tflite")
    assert cli.main(["bench", str(classes), "--rounds", "2", "--calls", "5", "--cold-starts", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    head = next(line for line in lines if " prep infer " in line)
    row = lines[lines.index(head) + 1]
    assert "  post " in head and len(head) <= 80 and len(row) <= 80
    assert row[head.index("post") - 1 :].split()[0].replace(".", "").isdecimal()


def test_json_holds_every_figure_and_the_conditions(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", *files, "--rounds", "4", "--calls", "12", "--json", *QUICK]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {"cpu", "cores", "governor", "load", "load_after", "temperature_c", "versions"} <= set(
        document["conditions"]
    )
    assert document["settings"]["frame_width"] == 640
    rows = document["rows"]
    assert [row["file"] for row in rows] == [Path(file).name for file in files]
    assert [row["engine"] for row in rows] == ["litert", "litert", "onnxruntime"]
    for row in rows:
        assert row["count"] == 48 and row["preprocess"]["count"] == 48
        assert 0 < row["us_min"] <= row["us_p50"] <= row["us_p90"] <= row["us_p99"] <= row["us_max"]
        assert row["preprocess"]["min_us"] + row["infer"]["min_us"] <= row["us_max"]
        assert row["load_ms"] > 0 and row["first_us"] > 0
        assert row["ratio"] == pytest.approx(row["us_p50"] / rows[0]["us_p50"])
    assert rows[0]["ratio"] == 1.0
    assert rows[1]["us_p50"] > rows[0]["us_p50"], "forty times the pixels take longer"


def test_every_round_visits_each_way_once_in_changing_order() -> None:
    def visits(seed: int) -> tuple[list[tuple[str, int]], list[int]]:
        called: list[tuple[str, int]] = []
        counted: list[int] = []

        def run(name: str, item: int) -> int:
            called.append((name, item))
            return item

        ways = [
            Way(run=partial(run, name), items=range(1000), calls=2, warm_up=3, took=counted.append) for name in "abc"
        ]
        times = interleave(ways, rounds=12, seed=seed)
        assert [us.shape for us in times] == [(12, 2)] * 3 and all((us > 0).all() for us in times)
        return called, counted

    called, counted = visits(0)
    rounds = [tuple(name for name, _ in called[i : i + 15 : 5]) for i in range(0, len(called), 15)]
    assert len(rounds) == 12 and all(len(set(order)) == 3 for order in rounds) and len(set(rounds)) > 2
    assert [item for _, item in called] == list(range(180)), "no way reads what another has just read"
    assert counted == [i for i in range(180) if i % 5 >= 3], "the first calls of a visit do not count"
    assert visits(0)[0] == called != visits(1)[0], "the order comes from the seed"


def test_frames_of_a_source_are_used(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_frames(tmp_path / "frames", 5)
    argv = ["bench", files[0], "--frames", str(tmp_path / "frames"), "--rounds", "1", "--calls", "5", "--json", *QUICK]
    assert cli.main(argv) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert (settings["frame_width"], settings["frame_height"], settings["frame_count"]) == (64, 48, 5)


def test_synthetic_frames_exceed_the_cache_and_come_from_the_seed() -> None:
    made = synthetic_frames(height=480, width=640)
    assert sum(frame.nbytes for frame in made) > 0.95 * min(last_level_cache_bytes(), 256 << 20)
    assert np.array_equal(made[1], synthetic_frames(height=480, width=640)[1])
    assert not np.array_equal(made[0], made[1])


def test_a_file_that_fails_its_golden_frames_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="golden frame"):
        measure([Variant(path=write_tflite(tmp_path / "m.tflite", gain=2.0), threads=1)], frames(2))


@pytest.mark.parametrize("argv", [["--threads", "0"], ["--threads", "two"], ["--rounds", "-1"], []])
def test_nonsense_is_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["bench", *argv, *(["x.tflite"] if argv else [])])
    assert caught.value.code == 2
    assert "usage: sepilot bench" in capsys.readouterr().err


def test_a_missing_file_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "nowhere.tflite"]) == 2
    assert capsys.readouterr().err == "sepilot: nowhere.tflite: no such file\n"


def test_conditions_never_fail_and_print_short() -> None:
    now = conditions_now()
    assert now.cores >= 1 and now.cpu and "numpy" in now.versions
    assert len(str(now).splitlines()) == 4

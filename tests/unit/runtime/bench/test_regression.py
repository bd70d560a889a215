"""Comparing two benchmarks: a planted slowdown is found, noise is not taken for one."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from model_factory import frames, write_tflite
from sepilot_runtime import cli
from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.base.latency import latency_of
from sepilot_runtime.bench.record import BenchConditions, Benchmark, BenchRow
from sepilot_runtime.bench.regression import RegressionOutcome, compare


def benchmark(us: float, *, noise: float, seed: int, rounds: int = 20, drift: float = 0.0) -> Benchmark:
    rng = np.random.default_rng(seed)
    medians = us * np.exp(noise * rng.standard_normal(rounds) + np.linspace(0, drift, rounds))
    some = latency_of([us])
    row = BenchRow(
        file="m.tflite", path="m.tflite", engine="litert", precision="float32", threads=1, reference=False, bytes=1,
        load_ms=1, first_us=us, us_min=us, us_p50=us, us_p90=us, us_p99=us, us_max=us, count=1, preprocess=some,
        infer=some, ratio=1, us_p50_by_round=tuple(medians.tolist()),
    )  # fmt: skip
    conditions = BenchConditions(
        board=None, cpu="a", int8_kernels="", cores=2, affinity=None, clock_mhz=None, governor=None, load=None,
        temperature_c=None, throttled=None, system="", python="3", versions={},
    )  # fmt: skip
    settings = {"frame_width": 640, "frame_height": 480, "frames": "synthetic"}
    return Benchmark(settings=settings, conditions=conditions, gemm_gmacs=80.0, rows=(row,))


def outcome(old: Benchmark, new: Benchmark) -> RegressionOutcome:
    (found,), _ = compare(old, new)
    return found.outcome


def test_the_same_machine_twice_is_seldom_called_different() -> None:
    wrong = sum(
        outcome(benchmark(50, noise=0.05, seed=2 * i), benchmark(50, noise=0.05, seed=2 * i + 1))
        is not RegressionOutcome.SAME
        for i in range(60)
    )
    assert wrong <= 60 * 0.05


@pytest.mark.parametrize("seed", range(5))
def test_a_tenth_slower_or_faster_is_seen_through_little_noise(seed: int) -> None:
    old = benchmark(50, noise=0.02, seed=100 + seed)
    assert outcome(old, benchmark(55, noise=0.02, seed=seed)) is RegressionOutcome.SLOWER
    assert outcome(old, benchmark(45, noise=0.02, seed=seed)) is RegressionOutcome.FASTER


def test_noise_and_drift_hide_a_tenth() -> None:
    noisy = benchmark(55, noise=0.5, seed=3)
    assert outcome(benchmark(50, noise=0.5, seed=2), noisy) is RegressionOutcome.SAME
    drifting = benchmark(52, noise=0.01, seed=5, drift=0.3)
    assert outcome(benchmark(50, noise=0.01, seed=4, drift=0.3), drifting) is RegressionOutcome.SAME


def test_slower_within_the_tolerance_does_not_fail() -> None:
    old, new = benchmark(50, noise=0.002, seed=0), benchmark(51.5, noise=0.002, seed=1)
    (found,), remarks = compare(old, new, tolerance=0.05)
    assert found.outcome is RegressionOutcome.SLOWER and not found.failed
    assert found.ratio == pytest.approx(1.03, abs=0.005) and 1 < found.low < found.ratio < found.high
    assert remarks == ["the machine itself: 80.0 GMAC/s there, 80.0 here"]
    assert compare(old, new, tolerance=0.01)[0][0].failed


def test_what_does_not_compare_is_said() -> None:
    old, new = benchmark(50, noise=0.01, seed=0), benchmark(50, noise=0.01, seed=1)
    new = replace(new, conditions=replace(new.conditions, cpu="b"))
    new = replace(new, rows=(*new.rows, replace(new.rows[0], file="n.tflite")))
    _, remarks = compare(old, new)
    assert "cpu: a there, b here" in remarks and "only in the new run: n.tflite litert 1" in remarks
    new = replace(new, settings={**new.settings, "frame_width": 320})
    with pytest.raises(UsageError, match="frame_width: 640 there, 320 here"):
        compare(old, new)
    with pytest.raises(UsageError, match="at least 5 rounds"):
        compare(old, benchmark(50, noise=0.01, seed=1, rounds=4))
    other = benchmark(50, noise=0.01, seed=1)
    other = replace(other, rows=(replace(other.rows[0], threads=2),))
    with pytest.raises(UsageError, match="no file with the same engine"):
        compare(old, other)


def test_files_of_one_name_are_paired_or_refused() -> None:
    def named(us: float, *files: str) -> Benchmark:
        made = benchmark(us, noise=0.002, seed=len(files))
        return replace(made, rows=tuple(replace(made.rows[0], file=file) for file in files))

    new = named(50, "a/m.tflite", "b/m.tflite")
    slow = replace(new.rows[0], us_p50_by_round=tuple(2 * us for us in new.rows[0].us_p50_by_round))
    new = replace(new, rows=(slow, *new.rows[1:]))
    first, second = compare(named(50, "a/m.tflite", "b/m.tflite"), new)[0]
    assert (first.file, first.failed, second.failed) == ("a/m.tflite", True, False)
    with pytest.raises(UsageError, match=r"m\.tflite litert 1: one row expected, found several there"):
        compare(named(50, "m.tflite", "m.tflite"), new)
    with pytest.raises(UsageError, match=r"m.tflite: m.tflite there, a/m.tflite, b/m.tflite here; several files"):
        compare(named(50, "m.tflite", "n.tflite"), new)
    _, remarks = compare(named(50, "a/m.tflite", "b/m.tflite", "n.tflite"), new)
    assert "only in the old run: n.tflite litert 1" in remarks


def written(folder: Path, name: str, document: Benchmark | object) -> str:
    plain = asdict(document) if isinstance(document, Benchmark) else document
    (folder / name).write_text(json.dumps(plain), encoding="utf-8")
    return str(folder / name)


def test_two_documents_compare_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = written(tmp_path, "old.json", benchmark(50, noise=0.01, seed=0))
    slower = written(tmp_path, "slower.json", benchmark(60, noise=0.01, seed=1))
    assert cli.main(["bench", slower, "--against", old]) == 1
    printed = capsys.readouterr().out
    assert "slower" in printed and "slower by more than 5%" in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert cli.main(["bench", slower, "--against", old, "--tolerance", "0.5"]) == 0
    capsys.readouterr()
    assert cli.main(["bench", old, "--against", slower, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["against"][0]["outcome"] == "faster"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rounds", "3"], "m.tflite: at least 5 rounds in both runs expected, found 3"),
        (["--threads", "2"], "no file with the same engine and threads in both"),
        (["--frames", "frames"], "frame_width: 640 there, 64 here"),
    ],
)
def test_what_cannot_compare_is_said_before_it_is_measured(
    options: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "frames").mkdir()
    cv2.imwrite(str(tmp_path / "frames" / "0.png"), frames(1)[0])
    monkeypatch.chdir(tmp_path)
    old, file = written(tmp_path, "old.json", benchmark(50, noise=0.01, seed=0)), write_tflite(tmp_path / "m.tflite")
    monkeypatch.setattr("sepilot_runtime.bench.latency_bench.measure", None)
    assert cli.main(["bench", str(file), "--against", old, *options]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1


@pytest.mark.parametrize("option", ["--write-profile", "--frames"])
def test_two_documents_measure_nothing(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = written(tmp_path, "old.json", benchmark(50, noise=0.01, seed=0))
    new = written(tmp_path, "new.json", benchmark(50, noise=0.01, seed=1))
    assert cli.main(["bench", new, "--against", old, option, str(tmp_path / "made.png")]) == 2
    expected = f"sepilot: {option}: model files to measure expected, found {new}, which is compared as it is\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("document", [[], {"rows": 3}, {"settings": {}, "rows": [{"file": "m"}]}, {"settings": {}}])
def test_foreign_documents_are_one_line(document: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "x.tflite", "--against", written(tmp_path, "old.json", document)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1

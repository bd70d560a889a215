"""`sepilot tradeoff` from end to end, on exports of a tiny model."""

from __future__ import annotations

import dataclasses
import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from device.conftest import BLOCKER
from sepilot_export.commands.tradeoff import main
from sepilot_export.tradeoff import auto_export
from sepilot_runtime.cli import run_verb
from tradeoff_factory import write_export

SHORT = ["--rounds", "3", "--calls", "5"]


def tradeoff(*words: object) -> int:
    return run_verb(lambda: main([*map(str, words), *SHORT]))


@dataclasses.dataclass(frozen=True)
class Made:
    out: Path
    page: str
    printed: str
    record: dict  # type: ignore[type-arg]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("tradeoff")
    good, bad = write_export(folder / "exports" / "good"), write_export(folder / "exports" / "bad <b>", broken=True)
    (good / "command.txt").write_text("sepilot export runs/week --out 'good & <i>cheap</i>'\n")
    (bad / "ramp-float32.tflite").write_bytes(b"\x1c\0\0\0TFL3 nothing of a model")
    # As on a car: what trains and exports cannot be imported.
    blocker = folder / "blocker"
    blocker.mkdir()
    blocked = {"tensorflow", "keras", "tf_keras", "jax", "tf2onnx", "ai_edge_quantizer"}
    (blocker / "sitecustomize.py").write_text(BLOCKER.format(blocked=blocked))
    code = "import sys; from sepilot_runtime.cli import run_verb; from sepilot_export.commands.tradeoff import main; "
    code += "sys.exit(run_verb(lambda: main(sys.argv[1:])))"
    words = [sys.executable, "-c", code, str(folder / "exports"), "--out", str(folder / "out"), *SHORT]
    environment = {**os.environ, "PYTHONPATH": str(blocker), "COLUMNS": "80"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    out = folder / "out"
    return Made(
        out=out,
        page=(out / "report.html").read_text(encoding="utf-8"),
        printed=done.stdout,
        record=json.loads((out / "tradeoff.json").read_text()),
    )


def text_of(page: str) -> str:
    """What a reader sees, with single spaces."""
    body = re.sub(r"<style>.*?</style>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", body)).split())


def test_every_file_is_judged_timed_and_listed(made: Made) -> None:
    files = {row["name"]: row for row in made.record["files"]}
    assert set(files) == {f"{name}/{form}.tflite" for name in ("good", "bad <b>") for form in ("float32", "int8")}
    good = files["good/float32.tflite"]
    assert good["passed"] and good["timing"]["low_us"] <= good["timing"]["high_us"]
    assert good["mae_deg"]["low"] <= good["mae_deg"]["mean"] <= good["mae_deg"]["high"] < good["constant_mae_deg"]
    assert good["parameters"] == 241 and good["macs"] == 240 and good["sparsity"] == 0.25
    assert made.record["conditions"]["cores"] > 0 and made.record["settings"]["rounds"] == 3


def test_what_fails_is_shown_with_its_reason_and_never_picked(made: Made) -> None:
    files = {row["name"]: row for row in made.record["files"]}
    for name, word in (("bad <b>/int8.tflite", "golden"), ("bad <b>/float32.tflite", "damaged")):
        assert not files[name]["passed"] and word in files[name]["reasons"][0] and files[name]["timing"] is None
        assert name in text_of(made.page) and files[name]["reasons"][0] in text_of(made.page)
    assert {pick["file"].split("/")[0] for pick in made.record["picks"]} == {"good"}
    failed = {line.split(":")[0] for line in made.printed.splitlines() if line.startswith("FAIL")}
    assert failed == {"FAIL bad <b>/float32.tflite", "FAIL bad <b>/int8.tflite"}


def test_the_page_shows_the_picks_with_their_commands_and_stands_by_itself(made: Made) -> None:
    shown = text_of(made.page)
    assert "sepilot export runs/week --out 'good & <i>cheap</i>'" in shown
    assert "Most accurate" in shown and "constant answer" in shown and "of this machine" in shown
    assert "<i>cheap" not in made.page and "bad <b>" not in made.page
    assert not re.search(r"<(script|link|iframe|img)\b", made.page)
    assert not re.search(r"(src|href)=\"(?!#)", made.page)
    assert made.page.count('<svg role="img"') == 6, "three charts, each for desktop and phone"


def test_the_picture_and_the_table_are_there(made: Made) -> None:
    assert (made.out / "tradeoff.png").read_bytes().startswith(b"\x89PNG")
    head = next(i for i, line in enumerate(made.printed.splitlines()) if line.startswith("file"))
    table = made.printed.splitlines()[head : head + 5]
    assert max(map(len, table)) <= 80 and any(line.startswith("good/int8.tflite") for line in table)
    assert "$ sepilot export runs/week" in made.printed


def test_an_existing_output_is_refused(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert tradeoff(made.out, "--out", made.out) == 2
    assert "exists already" in capsys.readouterr().err


def test_exports_judged_on_different_frames_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = write_export(tmp_path / "a"), write_export(tmp_path / "b", drive="other")
    assert tradeoff(a, b, "--out", tmp_path / "out") == 2
    message = capsys.readouterr().err
    assert "a and b were judged on different frames" in message and message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_json_is_what_was_written_and_no_pick_is_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Labels that have nothing to do with the pictures: both files run as they should and are of no use.
    assert tradeoff(write_export(tmp_path / "a", blur=3.0), "--out", tmp_path / "out", "--json") == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out" / "tradeoff.json").read_text()) and printed["picks"] == []
    assert "No file to recommend" in text_of((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))


def test_the_same_file_twice_is_compared_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = write_export(tmp_path / "a")
    shutil.copytree(export, tmp_path / "b")
    assert tradeoff(export, tmp_path / "b", "--out", tmp_path / "out") == 0
    assert "left out b/int8.tflite: the same file as a/int8.tflite" in capsys.readouterr().out


def test_a_run_without_an_export_is_exported_or_left_out_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("good", "gone"):
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        (run / "model.keras").write_bytes(name.encode())
        (run / "request.json").write_text("{}")
        (run / "command.txt").write_text(f"sepilot train tubs --out runs/{name}")

    def export(words: list[str]) -> str:
        if words[1].endswith("gone"):
            return f"{words[1]}: the drive is no longer there"
        write_export(Path(words[-1]))
        return ""

    monkeypatch.setattr(auto_export, "_run", export)
    out = tmp_path / "out"
    assert tradeoff(tmp_path / "runs", "--out", out) == 0
    printed = capsys.readouterr().out
    assert "gone: cannot be exported: the drive is no longer there" in printed
    assert "had no export; made for this" in printed
    command = f"sepilot export {tmp_path}/runs/good --formats float32.tflite,int8.tflite --out {out}/exports/good"
    assert (out / "exports" / "good" / "command.txt").read_text().strip() == command
    assert command in text_of((out / "report.html").read_text(encoding="utf-8"))
    record = json.loads((out / "tradeoff.json").read_text())
    assert all((tmp_path / row["file"]).exists() for row in record["files"]), "paths of where the files lie in the end"


def test_a_run_that_exports_without_one_of_its_formats_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "request.json").write_text("{}")
    (run / "model.keras").write_bytes(b"")
    (run / "command.txt").write_text("sepilot train tubs --out run")

    def export(words: list[str]) -> str:
        record = write_export(Path(words[-1])) / "export.json"
        lost = {"format": "int8.onnx", "reason": "the quantizer crashed", "way_out": "take int8.tflite"}
        record.write_text(json.dumps(json.loads(record.read_text()) | {"failed": [lost]}))
        return "exit code 1: FAIL"

    monkeypatch.setattr(auto_export, "_run", export)
    assert tradeoff(run, "--out", tmp_path / "out") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "run/int8.onnx: was not exported: the quantizer crashed" in said and "cannot be exported" not in said


def test_the_reason_of_a_failed_export_comes_from_the_verb_itself(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "request.json").write_text("{}")
    (run / "model.keras").write_bytes(b"")
    made, left_out = auto_export.export_runs([(run, "run")], tmp_path / "part", tmp_path / "out")
    assert made == [] and "contract.json: cannot be read" in left_out[0].reason

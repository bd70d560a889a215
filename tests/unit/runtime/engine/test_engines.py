"""Every interpreter gives the right numbers, and a file that breaks its contract is not opened."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes import ConstantEngine
from model_factory import INT8_TOLERANCE, PICTURE, contract_of, frames, steering_of, write_onnx, write_tflite
from repository import ROOT
from sepilot_runtime.base.errors import MissingExtraError, ModelFileError, SepilotError, UsageError
from sepilot_runtime.contract.contract import Picture
from sepilot_runtime.contract.preprocess import picture_of, write_input
from sepilot_runtime.engine.engines import Engine, open_engine
from sepilot_runtime.engine.pilot import load_pilot


def answer(engine: Engine, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> float:
    write_input(pixels, engine.input_tensor())
    return float(engine.run()["steering"][0])


def int8(path: Path) -> Path:
    return write_tflite(path, int8=True)


@pytest.mark.parametrize(
    ("write", "name", "tolerance", "dtype"),
    [
        (write_tflite, "m.tflite", 1e-6, np.float32),
        (int8, "m.tflite", INT8_TOLERANCE / 4, np.int8),
        (write_onnx, "m.onnx", 1e-6, np.float32),
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_answers_are_right(
    write: Callable[[Path], Path], name: str, tolerance: float, dtype: type, threads: int, tmp_path: Path
) -> None:
    engine = open_engine(write(tmp_path / name), threads=threads)
    assert engine.threads == threads
    assert engine.input_dtype == dtype
    assert engine.contract.picture == PICTURE
    answers = []
    for frame in frames(24):
        pixels = picture_of(frame, PICTURE)
        answers.append(answer(engine, pixels))
        assert answers[-1] == pytest.approx(steering_of(pixels), abs=tolerance)
    assert max(answers) - min(answers) > 0.5, "the frames must be told apart"


def test_colour_pictures(tmp_path: Path) -> None:
    picture = Picture(height=9, width=14, color="bgr")
    contract = contract_of(picture)
    for path in (write_tflite(tmp_path / "m.tflite", contract), write_onnx(tmp_path / "m.onnx", contract)):
        engine = open_engine(path)
        pixels = picture_of(frames(3)[2], picture)
        assert answer(engine, pixels) == pytest.approx(steering_of(pixels, picture), abs=1e-6)


def test_a_number_stays_until_the_next_run(tmp_path: Path) -> None:
    for path in (write_tflite(tmp_path / "m.tflite"), write_onnx(tmp_path / "m.onnx")):
        engine = open_engine(path)
        first, last = (picture_of(frame, PICTURE) for frame in (frames(5)[0], frames(5)[4]))
        before = answer(engine, first)
        given = engine.run()
        write_input(last, engine.input_tensor())
        assert given["steering"][0] == before
        assert engine.run()["steering"] is given["steering"], "no memory is taken per frame"
        assert given["steering"][0] != before


@pytest.mark.parametrize(
    ("write", "name", "words"),
    [
        (
            lambda p: write_tflite(p, int8=True, input_scale=1 / 128),
            "m.tflite",
            "scale 1/255 and zero point -128 expected",
        ),
        (
            lambda p: write_tflite(p, input_name="frame"),
            "m.tflite",
            "input 'image' expected by its contract, found 'frame'",
        ),
        (
            lambda p: write_onnx(p, input_name="frame"),
            "m.onnx",
            "input 'image' expected by its contract, found 'frame'",
        ),
        (lambda p: write_tflite(p, output_name="angle"), "m.tflite", "output 'steering' expected by its contract"),
        (lambda p: write_onnx(p, output_name="angle"), "m.onnx", "output 'steering' expected by its contract"),
        (
            lambda p: write_tflite(p, contract_of(), text=contract_of(Picture(height=12, width=21)).to_json()),
            "m.tflite",
            "shape (1, 12, 21, 1) expected by its contract, found (1, 12, 20, 1)",
        ),
        (
            lambda p: write_onnx(p, contract_of(), text=contract_of(Picture(height=12, width=21)).to_json()),
            "m.onnx",
            "shape (1, 12, 21, 1) expected by its contract, found (1, 12, 20, 1)",
        ),
    ],
)
def test_a_file_that_breaks_its_contract_is_refused(
    write: Callable[[Path], Path], name: str, words: str, tmp_path: Path
) -> None:
    path = write(tmp_path / name)
    with pytest.raises(ModelFileError) as caught:
        open_engine(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)


def test_threads_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="threads"):
        open_engine(write_tflite(tmp_path / "m.tflite"), threads=0)


def test_without_onnx_runtime_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_onnx(tmp_path / "m.onnx")
    real_import = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == "onnxruntime":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'sepilot\[onnx\]'"):
        open_engine(path)


def test_nothing_is_printed_while_a_model_opens(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_pilot(write_tflite(tmp_path / "m.tflite"))
    load_pilot(write_onnx(tmp_path / "m.onnx"))
    broken = tmp_path / "m.tflite"
    broken.write_bytes(broken.read_bytes()[:-40])
    with pytest.raises(SepilotError):
        load_pilot(broken)
    assert capfd.readouterr() == ("", "")


def test_the_constant_engine_gives_its_constant() -> None:
    engine = ConstantEngine(contract_of(), 0.25)
    assert answer(engine, picture_of(frames(1)[0], PICTURE)) == 0.25


LOADER = """
import os, signal, sys
from pathlib import Path

import ai_edge_litert.interpreter
import onnxruntime

from sepilot_runtime.base.errors import SepilotError
from sepilot_runtime.engine.pilot import load_pilot

for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        code = 7
        try:
            load_pilot(Path(name))
            code = 0
        except SepilotError:
            code = 2
        finally:
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_a_damaged_file_never_takes_the_process_down(suffix: str, tmp_path: Path) -> None:
    """Cut and changed files go all the way through the interpreter, each in a process of its own."""
    path = tmp_path / f"m.{suffix}"
    (write_tflite if suffix == "tflite" else write_onnx)(path)
    content = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(3)
    cases = []
    for case in range(120):
        spoilt = content.copy()
        if case % 3:
            spoilt[rng.integers(0, len(spoilt), rng.integers(1, 4))] ^= rng.integers(1, 256, dtype=np.uint8)
        else:
            spoilt = spoilt[: rng.integers(1, len(spoilt))]
        cases.append(tmp_path / f"{case}.{suffix}")
        cases[-1].write_bytes(spoilt.tobytes())
    done = subprocess.run(
        [sys.executable, "-c", LOADER, *map(str, cases)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "runtime")},
        check=True,
    )
    outcomes = [int(line) for line in done.stdout.split()]
    assert len(outcomes) == len(cases)
    assert set(outcomes) == {2}, outcomes

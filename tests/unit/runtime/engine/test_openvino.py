"""OpenVINO runs the same files to the same numbers, with the same proofs at load, and says what it cannot do."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_factory import (
    INT8_TOLERANCE,
    PICTURE,
    contract_of,
    frames,
    steering_of,
    write_frames,
    write_onnx,
    write_tflite,
)
from sepilot_runtime.base.errors import ModelFileError, SepilotError, UsageError
from sepilot_runtime.cli import main
from sepilot_runtime.contract.contract import Picture
from sepilot_runtime.contract.preprocess import picture_of, write_input
from sepilot_runtime.engine.engines import Engine, engine_of, open_engine
from sepilot_runtime.engine.model_file import ModelFile, read_model_file
from sepilot_runtime.engine.names import engine_named
from sepilot_runtime.engine.pilot import load_pilot

openvino = pytest.importorskip("openvino", reason="openvino is not installed: pip install 'sepilot[openvino]'")

WRITERS: dict[str, Any] = {
    "float32.tflite": write_tflite,
    "int8.tflite": lambda path, *rest, **kwargs: write_tflite(path, *rest, int8=True, **kwargs),
    "float32.onnx": write_onnx,
}


def answer(engine: Engine, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> float:
    write_input(pixels, engine.input_tensor())
    return float(engine.run()["steering"][0])


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("threads", [1, 2])
def test_answers_are_right(name: str, threads: int, tmp_path: Path) -> None:
    engine = open_engine(WRITERS[name](tmp_path / name), threads=threads, engine="openvino")
    assert (engine.name, engine.threads) == ("openvino", threads)
    assert engine.input_dtype == (np.int8 if "int8" in name else np.float32)
    answers = []
    for frame in frames(24):
        pixels = picture_of(frame, PICTURE)
        answers.append(answer(engine, pixels))
        assert answers[-1] == pytest.approx(steering_of(pixels), abs=INT8_TOLERANCE / 4 if "int8" in name else 1e-6)
    assert max(answers) - min(answers) > 0.5, "the frames must be told apart"


def test_a_number_stays_until_the_next_run(tmp_path: Path) -> None:
    for name, write in WRITERS.items():
        engine = open_engine(write(tmp_path / name), engine="openvino")
        first, last = (picture_of(frame, PICTURE) for frame in (frames(5)[0], frames(5)[4]))
        before = answer(engine, first)
        given = engine.run()
        write_input(last, engine.input_tensor())
        assert given["steering"][0] == before
        assert engine.run()["steering"] is given["steering"] and given["steering"][0] != before


def test_golden_frames_are_run(tmp_path: Path) -> None:
    for name, write in WRITERS.items():
        assert load_pilot(write(tmp_path / name), engine="openvino").engine.name == "openvino"
        with pytest.raises(ModelFileError, match=r"golden frame .* on openvino"):
            load_pilot(write(tmp_path / name, gain=1.5), engine="openvino")


@pytest.mark.parametrize(
    ("name", "planted", "words"),
    [
        ("int8.tflite", {"input_scale": 1 / 128}, "scale 1/255 and zero point -128 expected"),
        ("float32.tflite", {"input_name": "frame"}, "input 'image' expected by its contract, found 'frame'"),
        ("float32.onnx", {"output_name": "angle"}, "output 'steering' expected by its contract, found 'angle'"),
        ("float32.onnx", {"text": contract_of(Picture(height=12, width=21)).to_json()}, "shape (1, 12, 21, 1)"),
    ],
)
def test_a_file_that_breaks_its_contract_is_refused(name: str, planted: Any, words: str, tmp_path: Path) -> None:
    path = WRITERS[name](tmp_path / name, **planted)
    with pytest.raises(ModelFileError) as caught:
        open_engine(path, engine="openvino")
    assert str(caught.value).startswith(f"{path}: ") and words in str(caught.value)


def test_an_engine_that_does_not_run_a_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"litert does not run \.onnx files; one of onnxruntime, openvino"):
        open_engine(write_onnx(tmp_path / "m.onnx"), engine="litert")
    with pytest.raises(UsageError, match="one of litert, onnxruntime, openvino"):
        engine_named("openvion")


def test_bfloat16_only_where_it_is_asked_for(tmp_path: Path) -> None:
    path = write_tflite(tmp_path / "m.tflite")
    exact, pixels = open_engine(path, engine="openvino"), picture_of(frames(3)[2], PICTURE)
    assert answer(exact, pixels) == pytest.approx(steering_of(pixels), abs=1e-6)
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(UsageError, match="no bfloat16"):
            open_engine(path, engine="openvino-bf16")
        return
    rough = load_pilot(path, engine="openvino-bf16").engine
    assert 1e-6 < abs(answer(rough, pixels) - steering_of(pixels)) < 0.05


def test_nothing_is_printed_and_no_copy_is_left(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name, write in WRITERS.items():
        load_pilot(write(tmp_path / name), engine="openvino")
    assert capfd.readouterr() == ("", "")


def test_a_damaged_model_never_takes_the_process_down(tmp_path: Path) -> None:
    """Behind the checksum, which finds all of these: what OpenVINO itself makes of cut and changed models."""
    rng = np.random.default_rng(3)
    for name in ("float32.tflite", "float32.onnx"):
        whole = read_model_file(WRITERS[name](tmp_path / name))
        for case in range(8):
            spoilt = np.frombuffer(whole.content, np.uint8).copy()
            if case % 2:
                spoilt[rng.integers(0, len(spoilt), 3)] = rng.integers(0, 256)
            else:
                spoilt = spoilt[: rng.integers(1, len(spoilt))]
            file = ModelFile(path=whole.path, kind=whole.kind, content=spoilt.tobytes(), contract=whole.contract)
            assert _opened_in_a_child(file) in ((0, 2) if case % 2 else (2,))


def _opened_in_a_child(file: ModelFile) -> int:
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        code = 7
        try:
            engine_of(file, engine="openvino").run()
            code = 0
        except SepilotError:
            code = 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_the_quantizers_old_field_is_filled_in(tmp_path: Path) -> None:
    """An operation that only the newer of the schema's two fields names is another one to OpenVINO."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    from sepilot_export.convert.embed import embed_tflite, tflite_model

    path = write_tflite(tmp_path / "m.tflite")
    model = tflite_model(path.read_bytes())
    for code in model.operatorCodes:
        code.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    whole = read_model_file(path)
    planted = ModelFile(path=path, kind=whole.kind, content=bytes(builder.Output()), contract=whole.contract)
    with pytest.raises(ModelFileError, match="OpenVINO cannot open it"):
        engine_of(planted, engine="openvino")
    path.write_bytes(embed_tflite(planted.content, contract_of()))
    assert load_pilot(path, engine="openvino")


def test_drive_and_bench_through_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_frames(tmp_path / "frames", 6)
    lite, onnx = str(write_tflite(tmp_path / "m.tflite")), str(write_onnx(tmp_path / "m.onnx"))
    for path in (lite, onnx):
        assert main(["drive", path, "--engine", "openvino", "--source", str(tmp_path / "frames")]) == 0
        printed = capsys.readouterr()
        steering = [json.loads(line)["steering"] for line in printed.out.splitlines()]
        assert steering == pytest.approx([steering_of(picture_of(f, PICTURE)) for f in frames(6)], abs=1e-5)
        assert "on openvino" in printed.err
    argv = ["bench", lite, onnx, "--rounds", "2", "--calls", "5", "--engine"]
    assert main([*argv, "litert,onnxruntime,openvino", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["file"], row["engine"]) for row in rows] == [
        ("m.tflite", "litert"), ("m.onnx", "onnxruntime"), ("m.tflite", "openvino"), ("m.onnx", "openvino"),
    ]  # fmt: skip
    assert main([*argv, "litert,onnxruntime,openvino"]) == 0
    assert max(map(len, capsys.readouterr().out.split("file ", 1)[1].splitlines())) <= 80
    assert main([*argv, "litert"]) == 2
    assert capsys.readouterr().err.startswith(f"sepilot: --engine: for {onnx} one of onnxruntime")

"""A format that cannot be made is named, and the others are written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest

from parity.bar_nets import GRAY, Bench, source_for
from sepilot_export.commands import export as verb
from sepilot_export.convert import int8_as_onnx
from sepilot_export.convert.formats import choose_formats
from sepilot_export.pipeline import export
from sepilot_export.pipeline.export import LAYERS_NAME, export_source
from sepilot_export.quantize.int8 import Int8, Int8Options
from sepilot_export.quantize.quantizers import OnnxQuantizer
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.cli import run_verb

OPTIONS = Int8Options(calibration_frames=60)


def mirrored(content: bytes) -> bytes:
    """An ONNX file that steers to the other side."""
    model = onnx.load_model_from_string(content)
    (head,) = model.graph.output
    for node in model.graph.node:
        node.output[:] = ["before" if name == head.name else name for name in node.output]
    model.graph.node.append(onnx.helper.make_node("Neg", ["before"], [head.name], name="mirror"))
    return bytes(model.SerializeToString())


def crash(*arguments: object, **named: object) -> bytes:
    raise KeyError("nobody knows this operation")


@pytest.fixture
def mirrored_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """int8.onnx comes out of its quantizer with the sign turned round."""
    plain: Callable[..., bytes] = OnnxQuantizer.quantize
    monkeypatch.setattr(OnnxQuantizer, "quantize", lambda self, kept: mirrored(plain(self, kept)))


def exported(bench: Bench, out: Path, *words: str) -> export.Written:
    return export_source(bench.source, choose_formats(words), out, int8=OPTIONS)


@pytest.mark.usefixtures("mirrored_onnx")
@pytest.mark.parametrize("as_json", [False, True])
def test_eight_files_are_written_and_the_ninth_is_named(
    v27: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], as_json: bool
) -> None:
    monkeypatch.setattr("sepilot_train.run.run.open_run", lambda path: SimpleNamespace(contract=v27.source.contract))
    monkeypatch.setattr(export, "source_of", lambda run, **more: v27.source)
    out = tmp_path / "out"
    words = [str(tmp_path), "--out", str(out), "--calibration-frames", "60", *(["--json"] if as_json else [])]
    assert run_verb(lambda: verb.main(words)) == 1
    said = capfd.readouterr().out
    record = json.loads((out / "export.json").read_text())
    (lost,) = record["failed"]
    assert lost["format"] == "int8.onnx" and "does not pass its own golden frames: golden frame 0" in lost["reason"]
    assert lost["way_out"].startswith("take int8-twin.onnx or int8.tflite, or keep its worst layers in float32")
    files = sorted(p.name for p in out.iterdir() if p.suffix in (".tflite", ".onnx"))
    assert files == sorted(f["file"] for f in record["files"]) and len(files) == 8
    assert "v27-int8.onnx" not in files and record["processor"]["int8_kernels"]
    if as_json:
        assert json.loads(said)["failed"] == [lost] and len(json.loads(said)["files"]) == 8
    else:
        assert f"FAIL int8.onnx: {lost['reason']}" in said and said.count(lost["reason"]) == 1


def test_a_crash_in_a_converter_fails_what_is_made_by_it(
    v27: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tf2onnx.convert.from_function", crash)
    written = exported(v27, tmp_path / "out", "float32", "float16.onnx")
    assert [f.format for f in written.files] == ["float32.tflite"]
    first, second = written.failed
    assert (first.format, second.format, second.reason) == ("float32.onnx", "float16.onnx", first.reason)
    # Only other formats help: no layer is to blame.
    assert first.way_out == "take float32.tflite"
    log = Path(first.reason.partition("log: ")[2])
    assert "nobody knows this operation" in log.read_text()
    log.unlink()


def test_a_twin_fails_with_the_file_that_it_is_made_from(
    v27: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sepilot_export.pipeline.export_table import print_files

    monkeypatch.setattr("ai_edge_quantizer.quantizer.Quantizer.quantize", crash)
    written = exported(v27, tmp_path / "out", "float32.onnx", "int8.tflite", "int8-twin.onnx")
    assert [f.format for f in written.files] == ["float32.onnx"]
    print_files(written.files, written.failed, tmp_path / "out", v27.source.contract.outputs[0])
    said = capsys.readouterr().out
    assert said.count("FAIL") == 1 and "FAIL int8.tflite, int8-twin.onnx (made from it): conversion to" in said
    # What int8 does to its layers cannot be told either, and that is no reason to lose the rest.
    assert any(w.startswith(f"{LAYERS_NAME}: without int8.tflite: ") for w in written.warnings)
    for failure in written.failed[:1]:
        Path(failure.reason.partition("log: ")[2]).unlink()


def test_a_twin_too_far_from_its_file_fails_alone(v27: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8_as_onnx, "ALLOWED_STEPS", -100)
    written = exported(v27, tmp_path / "out", "int8.tflite", "int8-twin.onnx")
    assert [f.format for f in written.files] == ["int8.tflite"]
    (failure,) = written.failed
    assert re.match(r"at most -\d+ output steps from the int8 TFLite file expected, found ", failure.reason)
    assert failure.way_out == "take int8.tflite"


@pytest.mark.usefixtures("mirrored_onnx")
def test_where_no_file_can_be_made_nothing_is_written(v27: Bench, tmp_path: Path) -> None:
    expected = r"no file could be made: int8\.onnx: the file does not pass .* or keep its worst layers .* --max-drop"
    with pytest.raises(RunError, match=expected):
        exported(v27, tmp_path / "out", "int8.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", [KeyboardInterrupt, MemoryError])
def test_what_is_no_fault_of_a_format_ends_the_export(
    v27: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: type[BaseException]
) -> None:
    def stop(self: Int8, *arguments: object, **named: object) -> bytes:
        raise fault

    monkeypatch.setattr(Int8, "file", stop)
    with pytest.raises(fault):
        exported(v27, tmp_path / "out", "float32.tflite", "int8.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_fault_of_our_own_keeps_its_traceback(v27: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sepilot_export.convert.embed.sparsity", crash)
    with pytest.raises(KeyError):
        exported(v27, tmp_path / "out", "float32.tflite")


def test_a_layer_that_a_format_breaks_costs_only_that_format(tmp_path: Path) -> None:
    import keras

    K = keras.layers
    image = K.Input(GRAY.shape, name="image")
    inner = K.Conv2D(4, 3, strides=2, activation="gelu", name="smooth")(image)
    model = keras.Model(image, K.Dense(1, name="steering")(K.Flatten()(inner)))
    written = export_source(source_for(model, tmp_path, GRAY, "smooth"), choose_formats(["float32"]), tmp_path / "out")
    assert [f.format for f in written.files] == ["float32.tflite"]
    (failure,) = written.failed
    assert failure.reason.startswith("layer smooth (Conv2D, activation gelu)") and "relu" in failure.way_out

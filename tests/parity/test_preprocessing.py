"""Preprocessing inside the files: OpenCV's pictures in every interpreter, and no fault in it that `check` lets pass."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from parity.bar_nets import GRAY, MADE, bar_frames, fitted, source_for
from sepilot_export.commands.check import main as check_main
from sepilot_export.convert import preprocessing
from sepilot_export.convert.embed import embed_onnx, embed_tflite
from sepilot_export.convert.formats import Format, choose_formats, format_named
from sepilot_export.convert.preprocessing import ARITHMETIC, Taps, picture_graph, taps, to_onnx, to_tflite
from sepilot_export.pipeline import frame_input
from sepilot_export.pipeline.export import export_source
from sepilot_export.quantize.int8 import Int8Options
from sepilot_export.record.exports import Preprocessing
from sepilot_export.verify.check import candidates_of, check_file, check_files
from sepilot_export.verify.file_check import Candidate, FileCheck
from sepilot_export.verify.raw_frames import RawFrames, spread
from sepilot_export.verify.reference import Reference, read_reference
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.contract.contract import Contract, FrameInput, Picture
from sepilot_runtime.contract.preprocess import picture_of
from sepilot_runtime.engine.model_file import read_model_file
from sepilot_runtime.engine.pilot import load_pilot
from sepilot_train.base.quiet import quiet

SMALL_SWIFT = {"stem": 8, "widths": [8, 16], "repeats": [1, 1], "dense": [8]}

ROUNDING = 1
"""Gray levels by which OpenCV builds differ among themselves in the "linear" resize."""

SIZES = [
    ((120, 160), Picture(height=64, width=96, crop_top=0.25)),
    ((480, 640), Picture(height=64, width=96, crop_top=0.25)),
    ((240, 320), Picture(height=66, width=100, color="bgr", crop_bottom=0.1, crop_left=0.2)),
    ((120, 160), Picture(height=60, width=80, color="bgr")),
    ((121, 163), Picture(height=64, width=96, crop_right=0.3)),
    ((541, 963), Picture(height=66, width=100, crop_left=0.1)),
    ((48, 64), Picture(height=66, width=100)),
    ((30, 37), Picture(height=64, width=96, crop_top=0.3, color="bgr")),
    ((64, 96), Picture(height=64, width=96)),
    ((5, 3), Picture(height=2, width=2)),
    ((1, 2), Picture(height=2, width=3)),
]


def difference_of(levels: int) -> Preprocessing:
    return Preprocessing(height=1, width=1, frames=1, largest_difference_levels=levels, differing_pixels=0.0)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Sharp noise on one half, smooth on the other."""
    frame = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    frame[:, : width // 2] = cv2.GaussianBlur(frame[:, : width // 2], (5, 5), 0)
    return frame


@pytest.mark.parametrize("resize", ["exact", "linear"])
@pytest.mark.parametrize(("size", "picture"), SIZES)
def test_the_graph_makes_opencvs_pictures(size: tuple[int, int], picture: Picture, resize: Any) -> None:
    import tensorflow as tf

    picture = dataclasses.replace(picture, resize=resize)
    graph = picture_graph(picture, FrameInput(height=size[0], width=size[1]))
    for seed in range(3):
        frame = noise(*size, seed)
        found = graph(tf.constant(frame[None])).numpy()
        assert found.shape == (1, *picture.shape) and found.dtype == np.float32
        levels = np.rint(found[0] * 255)
        assert np.abs(found[0] * 255 - levels).max() < 1e-4, "whole gray levels"
        difference = np.abs(levels - picture_of(frame, picture))
        if resize == "exact":
            assert difference.max() == 0
        assert difference.max() <= ROUNDING
        assert difference.mean() < 0.15, "an OpenCV that rounds otherwise differs in one pixel of eleven"


@pytest.mark.parametrize("resize", ["exact", "linear"])
@pytest.mark.parametrize("size", [(120, 160), (121, 163), (480, 640)], ids=["groups", "gather", "colour first"])
def test_every_interpreter_makes_the_same_picture(size: tuple[int, int], resize: Any) -> None:
    import onnxruntime
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    picture = Picture(height=64, width=96, crop_top=0.25, resize=resize)
    frame = FrameInput(height=size[0], width=size[1])
    graph = picture_graph(picture, frame)
    with quiet("preprocessing"):
        lite, onnx = to_tflite(graph, picture, frame), to_onnx(graph, picture, frame)
        interpreter = Interpreter(model_content=lite)
        interpreter.allocate_tensors()
    session = onnxruntime.InferenceSession(onnx)
    for seed in range(3):
        image = noise(*size, seed)[None]
        expected = graph(tf.constant(image)).numpy()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
        interpreter.invoke()
        found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        assert np.array_equal(found, expected)
        assert np.array_equal(session.run(["image"], {"frame": image})[0], expected)


# --- A whole export ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Export:
    """An export of files that take frames; `plain`, what they were before the preprocessing came in."""

    folder: Path
    model: Any
    source: Any
    raw: RawFrames
    reference: Reference
    plain: dict[str, bytes]
    scratch: Path

    def candidate(self, name: str) -> Candidate:
        return next(c for c in candidates_of(self.folder) if c.form.name == name)

    def plain_contract(self, name: str) -> Contract:
        contract = read_model_file(self.candidate(name).path).contract
        return dataclasses.replace(contract, frame=None, golden=self.source.contract.golden)

    def write(self, path: Path, content: bytes, contract: Contract) -> Path:
        path.write_bytes((embed_tflite if path.suffix == ".tflite" else embed_onnx)(content, contract))
        return path

    def plant(self, **changes: Any) -> tuple[list[FileCheck], str]:
        """Check files with other parts of `preprocessing` in them, and what exporting them says."""
        said = ""

        def difference(*arguments: Any) -> Preprocessing:
            nonlocal said
            try:
                return real_difference(*arguments)
            except RunError as e:
                said = str(e)
                return difference_of(0)

        checks = []
        with pytest.MonkeyPatch.context() as patch:
            for key, value in changes.items():
                patch.setattr(preprocessing, key, value)
            patch.setattr(frame_input, "_difference", difference)
            files = frame_input.FrameFiles(self.model, self.source, self.raw)
            for name in ("float32.tflite", "float32.onnx", "int8.tflite"):
                content, *_ = files.put_in(self.plain[name], self.plain_contract(name), format_named(name))
                honest = self.candidate(name)
                path = self.write(self.scratch / f"planted-{name}", content, read_model_file(honest.path).contract)
                checks.append(check_file(dataclasses.replace(honest, path=path), self.reference))
        return checks, said


real_difference = frame_input._difference


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    folder = tmp_path_factory.mktemp("frames")
    model = fitted("swift", GRAY, SMALL_SWIFT, seed=1, epochs=3)
    source = source_for(model, folder, GRAY, "swift")
    frames, _ = bar_frames(500, 1)
    index = spread(source.saved["steering"], 120)
    raw = RawFrames(input=FrameInput(height=48, width=64), frames=frames[index], index=index)
    plain: dict[str, bytes] = {}
    put_in = frame_input.FrameFiles.put_in

    def noted(self: Any, content: bytes, contract: Contract, form: Format) -> Any:
        plain[form.name] = content
        return put_in(self, content, contract, form)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frame_input.FrameFiles, "put_in", noted)
        formats = choose_formats(["all"])
        export_source(source, formats, folder / "export", int8=Int8Options(calibration_frames=30), raw=raw)
    return Export(folder / "export", model, source, raw, read_reference(folder / "export"), plain, folder)


def test_every_format_takes_frames_and_passes(export: Export, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_main([str(export.folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["format"] for row in found["files"]] == [form.name for form in MADE]
    assert found["reference"]["frames"] == 120
    for candidate in candidates_of(export.folder):
        assert "-frame-" in candidate.path.name
        contract = read_model_file(candidate.path).contract
        assert contract.frame == FrameInput(height=48, width=64) and contract.picture == GRAY
        assert load_pilot(candidate.path).engine.input_dtype == np.uint8
    record = json.loads((export.folder / "export.json").read_text())["preprocessing"]
    assert (record["height"], record["frames"]) == (48, 120)
    assert record["largest_difference_levels"] == 0, "the pictures are exact"


def test_frames_give_what_pictures_give_without_the_preprocessing(export: Export) -> None:
    for name in ("float32.tflite", "int8.tflite", "float32.onnx"):
        path = export.write(export.scratch / f"plain-{name}", export.plain[name], export.plain_contract(name))
        plain, inside = load_pilot(path), load_pilot(export.candidate(name).path)
        for frame in bar_frames(60, 7)[0]:
            assert inside.infer(frame)["steering"] == pytest.approx(plain.infer(frame)["steering"], abs=1e-6)


def test_the_reference_holds_the_frames_and_opencvs_pictures(export: Export) -> None:
    reference = export.reference
    assert reference.frames is not None and reference.frames.shape == (120, 48, 64, 3)
    for frame, picture in zip(reference.frames, reference.pictures, strict=True):
        assert np.array_equal(picture_of(frame, GRAY), picture)
    assert set(reference.plain) == {form.name for form in MADE}
    assert reference.names == tuple(export.source.held_out.names[i] for i in export.raw.index)
    path = export.scratch / "reference.npz"
    dataclasses.replace(reference, frames=reference.frames[:, :40]).save(path)
    with pytest.raises(RunError, match=r"frames .* expected"):
        read_reference(path.parent)


def test_openvino_runs_them(export: Export, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    assert check_main([str(export.folder), "--engine", "openvino", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["engines"]["openvino"]
    assert {row["engine"] for row in found["files"]} == {"openvino"} and len(found["files"]) == len(MADE)


def nearest(size: int, result: int, resize: str, *, rows: bool) -> Taps:
    place = ((np.arange(result) + 0.5) * size / result).astype(np.int64)
    one = np.full(result, ARITHMETIC[resize].one)
    return Taps(first=place, second=place, first_weight=one, second_weight=0 * one)


def corner_aligned(size: int, result: int, resize: str, *, rows: bool) -> Taps:
    """Pixel centres at whole numbers: what a resize does that knows nothing of half pixels."""
    position = np.arange(result) * (size / result)
    first = position.astype(np.int64)
    second = np.minimum(first + 1, size - 1)
    one = ARITHMETIC[resize].one
    weight = np.rint((position - first) * one).astype(np.int64)
    return Taps(first=first, second=second, first_weight=one - weight, second_weight=weight)


def off_by(rows: int) -> Callable[[int, int, Picture], tuple[int, int, int, int]]:
    def box(height: int, width: int, picture: Picture) -> tuple[int, int, int, int]:
        top, bottom, left, right = preprocessing_crop_box(height, width, picture)
        return top + rows, bottom, left, right

    return box


preprocessing_crop_box = preprocessing.crop_box

FAULTS: dict[str, dict[str, Any]] = {
    "red and blue swapped": {"GRAY": preprocessing.GRAY[::-1].copy()},
    "crop two rows lower": {"crop_box": off_by(2)},
    "nearest": {"taps": nearest},
    "half pixels": {"taps": corner_aligned},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_preprocessing_is_caught(fault: str, export: Export) -> None:
    checks, said = export.plant(**FAULTS[fault])
    assert "differs from OpenCV's by" in said, "the export itself refuses it"
    for check in checks:
        assert check.opened and not check.passed, f"{check.candidate.form.name}: {check.outputs}"


def test_without_a_fault_the_same_way_passes(export: Export) -> None:
    checks, said = export.plant()
    assert said == "" and [check.reasons for check in checks] == [(), (), ()]


def test_int8_gates_alone_would_let_a_fault_pass(export: Export) -> None:
    """The gates allow int8 some error; only its own answers without the preprocessing tell that it is another one."""
    honest = export.candidate("int8.tflite")
    wide = dataclasses.replace(
        honest, limits={"steering": {**honest.limits["steering"], "max_error": 1.0, "mae_increase": 1.0}}
    )
    wrong = export.reference.plain["int8.tflite"]["steering"] + np.float32(0.05)
    answers = {**export.reference.plain, "int8.tflite": {"steering": wrong}}
    (check,) = check_files([wide], dataclasses.replace(export.reference, plain=answers))
    assert any("crop, resize or colours inside the file are not OpenCV's" in reason for reason in check.reasons)


def test_room_for_rounding_only_where_it_is_needed(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = format_named("float32.tflite").limits
    for levels, allowed in ((0, limits["max_error"]), (1, limits["max_error"] + frame_input.ROUNDING_ERROR)):
        found = difference_of(levels)
        monkeypatch.setattr(frame_input, "_difference", lambda *_, found=found: found)
        files = frame_input.FrameFiles(export.model, export.source, export.raw)
        assert files.limits({"steering": limits})["steering"]["max_error"] == allowed


def test_a_plain_file_among_frame_files_is_told(export: Export) -> None:
    name = "float32.tflite"
    path = export.write(export.scratch / "among.tflite", export.plain[name], export.plain_contract(name))
    check = check_file(dataclasses.replace(export.candidate(name), path=path), export.reference)
    assert any("frame" in reason for reason in check.reasons) and not check.outputs


@pytest.mark.parametrize(("resize", "one"), [("exact", 32), ("linear", 2048)])
def test_taps_are_opencvs(resize: str, one: int) -> None:
    found = taps(160, 96, resize, rows=False)
    assert found.first[:3].tolist() == [0, 2, 3] and found.second[:3].tolist() == [1, 3, 4]
    assert (found.first_weight + found.second_weight == one).all()

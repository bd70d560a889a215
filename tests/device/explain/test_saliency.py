"""Occlusion saliency says what the weights say, of every format, and another model gives another map."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fakes import ConstantEngine
from model_factory import (
    PICTURE,
    STEERING,
    THROTTLE_BIAS,
    contract_of,
    frames,
    steering_of,
    steering_output,
    two_output_contract,
    weights_of,
    write_onnx,
    write_tflite,
)
from sepilot_runtime.base.errors import OutputError, UsageError
from sepilot_runtime.commands.explain import main
from sepilot_runtime.contract.contract import FrameInput, FrameStatistics, Picture
from sepilot_runtime.contract.preprocess import picture_of
from sepilot_runtime.contract.window import crop_box
from sepilot_runtime.engine.pilot import Pilot, load_pilot
from sepilot_runtime.explain import heatmap
from sepilot_runtime.explain.explanation import Survey, choose
from sepilot_runtime.explain.saliency import Fill, Occlusion, influence_of, occlusion_for, saliency_of

# Black and white, for an int8 file to have something to tell.
FRAMES = [np.where(frame > 100, 255, 0).astype(np.uint8) for frame in frames(3)]
FULL_SCALE_DEG = 25.0


def dictated(frame: NDArray[np.uint8], weights: NDArray[np.floating], occlusion: Occlusion) -> NDArray[np.float64]:
    """The saliency of a linear model, by hand: under a patch, what the pixels less their cover weigh."""
    pixels = picture_of(frame, PICTURE).astype(np.float64)
    cover: NDArray[np.floating] = np.full_like(pixels, np.round(pixels.mean()))
    if occlusion.fill == "blur":
        cover = cv2.GaussianBlur(
            pixels.astype(np.uint8), (0, 0), occlusion.patch, borderType=cv2.BORDER_REPLICATE
        ).astype(np.float64)[:, :, None]
    change = ((pixels - cover) / 255 * weights).sum(axis=2) * FULL_SCALE_DEG
    total, times = np.zeros(change.shape), np.zeros(change.shape)
    for top in range(0, PICTURE.height - occlusion.patch + 1, occlusion.stride):
        for left in range(0, PICTURE.width - occlusion.patch + 1, occlusion.stride):
            window = np.s_[top : top + occlusion.patch, left : left + occlusion.patch]
            total[window] += change[window].sum()
            times[window] += 1
    result: NDArray[np.float64] = total / times
    return result


@pytest.mark.parametrize("fill", ["mean", "blur"])
@pytest.mark.parametrize(("name", "within"), [("float32.tflite", 1e-3), ("float32.onnx", 1e-3), ("int8.tflite", 0.2)])
def test_the_ramp_is_found(name: str, within: float, fill: Fill, files: dict[str, Path]) -> None:
    occlusion = Occlusion(patch=6, stride=2, fill=fill)
    pilot = load_pilot(files[name])
    for frame in FRAMES:
        found = saliency_of(pilot, frame, occlusion, STEERING)
        expected = dictated(frame, weights_of(PICTURE), occlusion)
        assert found.moved.shape == (PICTURE.height, PICTURE.width)
        np.testing.assert_allclose(found.moved, expected, atol=within)
        # Far larger than what an int8 output can tell, or the comparison says nothing.
        assert np.abs(expected).max() > 0.8
        assert found.inferences == 1 + 4 * 8


def test_the_sides_of_the_ramp_steer_to_their_sides(files: dict[str, Path]) -> None:
    pilot = load_pilot(files["float32.tflite"])
    # Bright ends on a dark floor: each pulls to its own side, and what lies between hardly pulls.
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:, :8] = frame[:, -8:] = 255
    degrees = saliency_of(pilot, frame, Occlusion(patch=4, stride=2, fill="mean"), STEERING).moved
    assert (degrees[:, 0] < -0.5).all() and (degrees[:, -1] > 0.5).all()
    assert np.abs(degrees[:, 9:11]).max() < 0.2 * np.abs(degrees).max()


def test_every_pixel_is_covered(files: dict[str, Path]) -> None:
    pilot = load_pilot(files["float32.tflite"])
    # 12x20 pixels are no multiple of the stride.
    degrees = saliency_of(pilot, FRAMES[0], Occlusion(patch=5, stride=5), STEERING).moved
    assert np.isfinite(degrees).all()


def test_the_picture_of_the_pilot_is_left_as_it_was(files: dict[str, Path]) -> None:
    pilot = load_pilot(files["int8.tflite"])
    before = pilot.predict(FRAMES[0]).raw
    frame = FRAMES[0].copy()
    saliency_of(pilot, frame, occlusion_for(PICTURE), STEERING)
    assert pilot.predict(FRAMES[0]).raw == before
    np.testing.assert_array_equal(frame, FRAMES[0])


def test_another_model_gives_another_map(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of Adebayo et al. 2018, "Sanity checks for saliency maps" (arXiv 1810.03292): a map that stays when
    the weights are drawn anew shows the picture, not the model."""
    occlusion = Occlusion(patch=4, stride=2)
    ours = saliency_of(load_pilot(files["float32.onnx"]), FRAMES[1], occlusion, STEERING).moved
    random = np.random.default_rng(1).normal(0, 0.02, (*PICTURE.shape,)).astype(np.float32)
    monkeypatch.setattr("model_factory.weights_of", lambda picture: random)
    path = write_onnx(tmp_path / "random.onnx", contract_of(golden=0))
    theirs = saliency_of(load_pilot(path, verify=False), FRAMES[1], occlusion, STEERING).moved
    np.testing.assert_allclose(theirs, dictated(FRAMES[1], random, occlusion), atol=1e-3)
    assert abs(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]) < 0.3


def test_a_model_that_makes_its_picture_is_covered_on_the_frame(files: dict[str, Path]) -> None:
    class FromFrames(ConstantEngine):
        def run(self) -> Mapping[str, NDArray[np.float32]]:
            self.answers["steering"][0] = steering_of(picture_of(self.input_tensor()[0], PICTURE))
            return self.answers

    engine = FromFrames(contract_of(frame=FrameInput(height=48, width=64)))
    occlusion = Occlusion(patch=4, stride=2)
    for frame in FRAMES:
        found = saliency_of(Pilot(engine), frame, occlusion, STEERING).moved
        expected = saliency_of(load_pilot(files["float32.tflite"]), frame, occlusion, STEERING).moved
        # The cover is blurred before the picture is made rather than after.
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9


def test_a_model_that_ignores_its_picture_has_no_map() -> None:
    pilot = Pilot(ConstantEngine(contract_of(), 0.3))
    maps = [saliency_of(pilot, frame, occlusion_for(PICTURE), STEERING) for frame in FRAMES]
    assert not influence_of(maps).moved.any()
    assert all(share == 0 for _, _, share in influence_of(maps).shares("rows"))


def test_degrees_go_by_the_contract() -> None:
    contract = contract_of(outputs=(steering_output(scale=50.0),))
    pilot = Pilot(ConstantEngine(contract, 0.5))
    assert saliency_of(pilot, FRAMES[0], occlusion_for(PICTURE), STEERING).prediction.in_unit("steering") == 25.0


def test_shares_add_up(files: dict[str, Path]) -> None:
    pilot = load_pilot(files["float32.tflite"])
    influence = influence_of([saliency_of(pilot, frame, occlusion_for(PICTURE), STEERING) for frame in FRAMES])
    for axis, size in (("rows", PICTURE.height), ("columns", PICTURE.width)):
        bands = influence.shares(axis)  # type: ignore[arg-type]
        assert sum(share for _, _, share in bands) == pytest.approx(1)
        assert bands[0][0] == 0 and bands[-1][1] == size
        assert all(a[1] == b[0] for a, b in pairwise(bands))


@pytest.mark.parametrize(("patch", "stride"), [(0, 1), (4, 0), (4, 5)])
def test_impossible_patches_are_refused(patch: int, stride: int) -> None:
    with pytest.raises(UsageError, match="occlusion"):
        Occlusion(patch=patch, stride=stride)


def test_a_patch_larger_than_the_picture_is_refused(files: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="12 pixels"):
        saliency_of(load_pilot(files["int8.tflite"]), FRAMES[0], Occlusion(patch=13, stride=2), STEERING)


# --- The drawing ----------------------------------------------------------------------------------------------------


def test_only_what_the_model_sees_is_painted() -> None:
    picture = Picture(height=10, width=20, crop_top=0.3, crop_bottom=0.1, crop_left=0.2, crop_right=0.1)
    frame = np.full((100, 200, 3), 120, np.uint8)
    drawn = heatmap.painted(frame, np.full((10, 20), 2.0, np.float32), picture, 2.0).astype(int)
    top, bottom, left, right = crop_box(100, 200, picture)
    warm = drawn[:, :, 2] - drawn[:, :, 0] > 60
    assert warm[top:bottom, left:right].all()
    warm[top:bottom, left:right] = False
    assert not warm.any()
    outside = np.ones((100, 200), bool)
    outside[top:bottom, left:right] = False
    assert (drawn[outside] < 60).all()


def test_left_and_right_have_their_colours() -> None:
    degrees = np.zeros((10, 20), np.float32)
    degrees[:, :5], degrees[:, 15:] = -2, 2
    frame = np.full((100, 200, 3), 90, np.uint8)
    drawn = heatmap.painted(frame, degrees, Picture(height=10, width=20), 2.0).astype(int)
    assert (drawn[:, 10, 0] > drawn[:, 10, 2] + 60).all() and (drawn[:, 190, 2] > drawn[:, 190, 0] + 60).all()
    assert (np.ptp(drawn[:, 100], axis=1) < 5).all()


# --- Which frames ---------------------------------------------------------------------------------------------------


def test_frames_spread_over_the_steering_and_the_novel_one_is_among_them() -> None:
    steering = np.concatenate([np.zeros(80), np.linspace(-1, 1, 21)])
    novelty = np.full(101, 0.2)
    novelty[40] = 3.0
    found = Survey(ids=np.arange(101), times_s=np.arange(101) / 20, said=steering, novelty=novelty, output=STEERING)
    chosen = choose(found, 6)
    shown = [float(steering[i]) for i, why in chosen.items() if why == "steering"]
    np.testing.assert_allclose(shown, [-1, -0.5, 0, 0.5, 1])
    assert [i for i, why in chosen.items() if why == "novelty"] == [40]


def test_fewer_frames_than_asked_for_are_all_shown() -> None:
    found = Survey(ids=np.arange(3), times_s=np.arange(3.0), said=np.zeros(3), novelty=np.zeros(3), output=STEERING)
    assert set(choose(found, 12)) == {0, 1, 2}


# --- The verb -------------------------------------------------------------------------------------------------------

STATISTICS = FrameStatistics(brightness=(20.0, 60.0, 120.0), contrast=(10.0, 40.0, 70.0), sharpness=(5.0, 20.0, 40.0))


def test_the_table_the_sheet_and_the_document(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_tflite(tmp_path / "m.tflite", contract_of(statistics=STATISTICS), int8=True)
    out = tmp_path / "sheet.png"
    assert main([str(file), "--frames", str(images), "--out", str(out), "--count", "4", "--patch", "4"]) == 0
    table = capsys.readouterr().out
    assert max(map(len, table.splitlines())) <= 80
    assert "mean of 6 frames" in table and "novelty" in table
    assert cv2.imread(str(out)).shape[1] > 1000
    assert main([str(file), "--frames", str(images), "--count", "4", "--patch", "4", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["occlusion"] == {"patch": 4, "stride": 1, "fill": "blur"}
    assert len(document["row_influence_deg"]) == PICTURE.height
    assert len(document["column_influence_deg"]) == PICTURE.width
    angles = [row["steering_deg"] for row in document["shown"] if row["chosen_for"] == "steering"]
    assert angles == sorted(angles) and len(angles) == 3


def test_the_video_has_every_frame(files: dict[str, Path], images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    assert main([str(files["float32.onnx"]), "--frames", str(images), "--out", str(out), "--stride", "3"]) == 0
    capture = cv2.VideoCapture(str(out))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 6
    assert capture.read()[1].shape == (720, 960, 3)


def test_it_refuses_what_it_cannot_do_before_any_work(files: dict[str, Path], images: Path, tmp_path: Path) -> None:
    file = str(files["int8.tflite"])
    with pytest.raises(UsageError, match="live source"):
        main([file, "--frames", "0"])
    with pytest.raises(UsageError, match=r"\.png"):
        main([file, "--frames", str(images), "--out", str(tmp_path / "sheet.gif")])
    taken = tmp_path / "sheet.png"
    taken.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        main([file, "--frames", str(images), "--out", str(taken)])
    assert taken.read_text() == "mine"


def test_another_answer_is_explained_on_asking(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_tflite(tmp_path / "m.tflite", two_output_contract(), more={"throttle": THROTTLE_BIAS})
    argv = [str(path), "--frames", str(images), "--count", "3", "--patch", "4", "--stride", "4"]
    documents = []
    for more in ((), ("--output", "throttle")):
        assert main([*argv, *more, "--json", "--out", str(tmp_path / f"{len(more)}.png")]) == 0
        documents.append(json.loads(capsys.readouterr().out))
    steering, throttle = documents
    assert (steering["output"], throttle["output"]) == ("steering", "throttle")
    # Both are the same ramp; 25 degrees are its full scale.
    assert steering["mean_influence_deg"] == pytest.approx(25 * throttle["mean_influence"], rel=1e-4)
    assert {row["chosen_for"] for row in throttle["shown"]} <= {"throttle", "novelty"}
    with pytest.raises(UsageError, match="--output: one of steering, throttle expected, found 'brake'"):
        main([*argv, "--output", "brake"])

"""How points are learned: moved as their pixels are, NaN teaching nothing, figures beside the mean shape's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sepilot_runtime.base.errors import DriveError, RecipeError
from sepilot_runtime.contract.picture import Picture
from sepilot_runtime.recording.opening import open_drives
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_train.fit import strengths
from sepilot_train.fit.augment import Augmentation, apply, draw_uniforms, motion_of
from sepilot_train.fit.outputs.points.target import PointsTarget
from sepilot_train.run.recipe import load_recipe
from sepilot_train.run.recipe_toml import to_toml
from set_factory import disc_scenes, write_coco, write_pictures, write_points_csv

PAIR = PointsTarget(names=("left", "right", "middle"), flip_pairs=(("left", "right"),), presence=True)
NAN = np.float32(np.nan)
PICTURE = Picture(height=24, width=32)


def dots(points: NDArray[np.float32], size: tuple[int, int] = (60, 80)) -> NDArray[np.uint8]:
    """(n, h, w, 3): the first point blue, the second green, the third red."""
    pictures = np.zeros((len(points), *size, 3), np.uint8)
    for picture, shape in zip(pictures, points, strict=True):
        for channel, (x, y) in enumerate(shape):
            column, row = int(x * size[1]), int(y * size[0])
            picture[row - 2 : row + 3, column - 2 : column + 3, channel] = 255
    return pictures


def centres(pictures: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, 3, 2): the middle of each channel's light."""
    _, height, width, _ = pictures.shape
    mass = pictures.sum(axis=(1, 2))
    x = (pictures.sum(axis=1) * ((np.arange(width) + 0.5) / width)[:, None]).sum(axis=1) / mass
    y = (pictures.sum(axis=2) * ((np.arange(height) + 0.5) / height)[:, None]).sum(axis=1) / mass
    return np.stack([x, y], axis=-1)


@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_points_go_where_their_pixels_go_and_pairs_change_places_in_a_mirror(mirror: float) -> None:
    labels = np.tile(np.array([[0.38125, 0.425], [0.60625, 0.425], [0.48125, 0.675]], np.float32), (8, 1, 1))
    settings = Augmentation(mirror=mirror, rotate_deg=25, zoom=0.2, shear_deg=8, shift_x=0.1, shift_y=0.1)
    numbers = draw_uniforms(np.random.default_rng(0), (8,), settings)
    moved = PAIR.moved(labels, motion_of(numbers, settings, (60, 80)))
    seen = centres(np.asarray(apply(dots(labels), numbers, settings)))
    # What was called left is seen on the right of a mirrored picture, and is called right there.
    order = [1, 0, 2] if mirror else [0, 1, 2]
    np.testing.assert_allclose(moved, seen[:, order], atol=0.002)
    assert np.abs(moved - labels).max() > 0.05
    wrong = PointsTarget(names=PAIR.names, flip_pairs=()).moved(labels, motion_of(numbers, settings, (60, 80)))
    assert (np.abs(wrong - seen[:, order]).max() > 0.1) == bool(mirror), "the fault that pairs are there to prevent"


def test_two_flips_are_a_turn_and_what_leaves_the_picture_is_unknown() -> None:
    labels = np.array([[[0.1, 0.5], [0.9, 0.5], [NAN, NAN]]], np.float32)
    turned = Augmentation(mirror=1.0, flip_vertical=1.0)
    numbers = draw_uniforms(np.random.default_rng(0), (1,), turned)
    assert PAIR.moved(labels, motion_of(numbers, turned, (60, 80)))[0, 0] == pytest.approx([0.9, 0.5], abs=1e-5)
    shifted = Augmentation(mirror=0.0, shift_x=0.5)
    numbers[:, strengths.SHIFT_X] = 0.8
    moved = PAIR.moved(labels, motion_of(numbers, shifted, (60, 80)))
    assert moved[0, 0] == pytest.approx([0.4, 0.5]) and np.isnan(moved[0, 1:]).all()
    wanted = PAIR.wanted("face", np.concatenate([moved, np.full_like(moved, NAN)]))
    assert wanted["face.presence"].tolist() == [[1.0], [0.0]] and wanted["face.places"].shape == (2, 6)


def test_what_is_unknown_teaches_nothing() -> None:
    import keras

    from sepilot_train.fit.outputs.points.loss import Wing

    wanted = np.array([[0.5, NAN], [NAN, NAN], [0.5, 0.9]], np.float32)
    said = np.array([[0.52, 7.0], [3.0, -3.0], [0.52, 0.9]], np.float32)
    loss = Wing(reduction=None)
    found = np.asarray(loss(wanted, said))
    assert found == pytest.approx([found[0], 0.0, found[0] / 2], abs=1e-6) and found[0] > 0
    assert np.asarray(loss(wanted, np.array([[0.52, -1.0]] * 3, np.float32)))[:2] == pytest.approx(found[:2])
    layer = keras.layers.Dense(2, use_bias=False, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(optimizer=keras.optimizers.SGD(0.01), loss=Wing())
    model.train_on_batch(np.ones((3, 1), np.float32), wanted)
    assert np.isfinite(np.asarray(layer.kernel)).all(), "NaN spoils no gradient"


def test_recordings_say_the_names_and_whether_pictures_may_be_empty(tmp_path: Path) -> None:
    scenes = disc_scenes(12, np.random.default_rng(0))
    coco = open_drives([write_coco(tmp_path / "coco", scenes, points=True)], ReaderOptions(labels=("points",)))
    (tmp_path / "csv").mkdir()
    table = open_drives([write_points_csv(tmp_path / "csv", scenes)], ReaderOptions(labels=("points",)))
    settled = PointsTarget().settled("points", coco, PICTURE)
    assert settled.names == ("corner", "other", "middle") and settled.presence
    assert PointsTarget(presence=False).settled("points", coco, PICTURE).presence is False
    always = PointsTarget().settled("points", table, PICTURE)
    assert always.names == ("0", "1", "2") and always.presence is False
    assert always.output("points", 1.0).normalize_by == "box"
    with pytest.raises(DriveError, match=r"the point corner expected, found 0, 1, 2"):
        PointsTarget().settled("points", [*coco, *table], PICTURE)
    with pytest.raises(DriveError, match=r"outputs.points.flip_pairs: points among 0, 1, 2 expected, found left"):
        PointsTarget(flip_pairs=(("left", "right"),)).settled("points", table, PICTURE)
    one = PointsTarget(names=("2",), flip_pairs=()).settled("points", table, PICTURE)
    assert one.output("points", 1.0).normalize_by == "picture", "one point has no box"
    assert always.remarks(np.full((2, 3, 2), NAN), np.zeros((2, 3, 2), np.float32)) == [
        "0, 1, 2: in no picture to train on"
    ]


def test_a_table_of_image_x_y_teaches_where_a_car_drives_to(tmp_path: Path) -> None:
    scenes = [scene for scene in disc_scenes(12, np.random.default_rng(0)) if scene.points]
    rows = [
        f"{n},{s.points[2][0]},{s.points[2][1]}" for n, s in zip(write_pictures(tmp_path, scenes), scenes, strict=True)
    ]
    (tmp_path / "targets.csv").write_text("\n".join(["image,x,y", *rows]))
    (drive,) = open_drives([tmp_path / "targets.csv"], ReaderOptions(labels=("points",)))
    target = PointsTarget(flip_pairs=()).settled("target", [drive], PICTURE)
    output = target.output("target", 1.0)
    assert (output.names, output.normalize_by, dict(output.tensors)) == (("point",), "picture", {"target": (2,)})
    assert drive.labels["points"][0, 0] * (32, 24) == pytest.approx(scenes[0].points[2], abs=1e-3)


def test_mirrors_ask_for_pairs(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"outputs.points.flip_pairs, the points that change places"):
        load_recipe("landmarks", ["augmentation.mirror=0.5"])
    assert load_recipe("landmarks").augmentation.mirror == 0
    recipe = load_recipe("landmarks", ["augmentation.mirror=0.5", "outputs.points.flip_pairs=[]"])
    (tmp_path / "again.toml").write_text(to_toml(recipe))
    assert load_recipe(str(tmp_path / "again.toml")) == recipe
    with pytest.raises(RecipeError, match="mixed"):
        load_recipe("landmarks", ["augmentation.mixup=0.2"])
    with pytest.raises(
        RecipeError, match=r"outputs.points: flip_pairs: each point in one pair expected, found a twice"
    ):
        load_recipe("landmarks", ['outputs.points.flip_pairs=[["a","b"],["a","c"]]'])


def test_the_68_points_of_faces_are_whole() -> None:
    output = load_recipe("faces68").targets["points"].output("points", 1.0)
    assert sorted(output.names, key=int) == [str(n) for n in range(68)]  # type: ignore[attr-defined]
    paired = [int(name) for pair in output.flip_pairs for name in pair]  # type: ignore[attr-defined]
    middle = {8, 27, 28, 29, 30, 33, 51, 57, 62, 66}
    assert set(paired) == set(range(68)) - middle, "only what lies in the middle has no partner"


def test_figures_of_points_by_hand() -> None:
    labels = np.tile(np.array([[0.2, 0.5], [0.6, 0.5], [0.4, 0.9]], np.float32), (4, 1, 1))
    labels[3] = NAN
    target = PointsTarget(names=PAIR.names, presence=True, normalize_by=("left", "right"))
    shapes = labels.copy()
    shapes[3] = 0.5
    shapes[1] += [0.02, 0.0]
    shapes[2, 2] += [0.12, 0.0]
    answers = np.c_[shapes.reshape(4, -1), [5.0, 5.0, 5.0, -5.0]].astype(np.float32)
    found = target.metrics(labels, answers, [0.0] * 6 + [5.0])
    assert (found.mae, found.nme) == (pytest.approx(0.15 / 4), pytest.approx(0.05)) and found.constant_mae > 0.9
    assert found.pck == pytest.approx(8 / 9) and found.presence_accuracy == 1.0
    assert found.failures == pytest.approx(1 / 3) and found.auc == pytest.approx((1 + (1 - 0.05 / 0.08)) / 3)
    assert found.by_point == pytest.approx((0.05 / 3, 0.05 / 3, 0.35 / 3), rel=1e-4)
    output = target.output("points", 1.0)
    assert [told.value for told in found.told(output)][-1] == "11.7%"
    assert {plot.name for plot in target.plots(labels, answers, found, output)} == {"errors", "points", "examples"}
    nobody = target.metrics(labels[3:], answers[3:], [0.0] * 6 + [-5.0])
    assert nobody.nme is None and nobody.mae == 0 and nobody.by_point == (None,) * 3

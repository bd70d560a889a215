"""Augmentation: each kind does what its name says, and nothing when it is off."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sepilot_runtime.base.errors import RecipeError
from sepilot_train.fit import strengths
from sepilot_train.fit.augment import UNIFORM_COUNT, Augmentation, apply, draw_uniforms, motion_of, shares_of, stated

OFF = Augmentation(mirror=0.0)
EVERYTHING = Augmentation(
    mirror=0.5, shift_x=0.1, shift_x_label=1.0, shift_y=0.1, brightness=0.2, contrast=0.3, gamma=0.4, shadow=0.5,
    blur=0.5, noise=0.05,
)  # fmt: skip


def pictures(count: int = 4, channels: int = 1, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 12, 20, channels), np.uint8)


def uniforms(count: int = 4, seed: int = 1, **columns: float) -> NDArray[np.float32]:
    drawn = np.random.default_rng(seed).random((count, 2 * UNIFORM_COUNT), dtype=np.float32)
    for name, value in columns.items():
        drawn[:, getattr(strengths, name)] = value
    return drawn


def run(
    frames: NDArray[np.uint8], numbers: NDArray[np.float32], settings: Augmentation
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    motion = motion_of(numbers, settings, frames.shape[1:])
    return np.asarray(apply(frames, numbers, settings)), motion.sign, motion.turned


def test_off_gives_exactly_what_the_runtime_feeds() -> None:
    changed, sign, offset = run(pictures(), uniforms(), OFF)
    np.testing.assert_array_equal(changed, pictures() * np.float32(1 / 255))
    assert (sign == 1).all()
    assert (offset == 0).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_mirror_flips_the_picture_and_negates_the_label(channels: int) -> None:
    frames = pictures(channels=channels)
    changed, sign, offset = run(frames, uniforms(), Augmentation(mirror=1.0))
    np.testing.assert_allclose(changed, frames[:, :, ::-1] * np.float32(1 / 255), atol=1e-6)
    assert (sign == -1).all()
    assert (offset == 0).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_shift_right_moves_content_right_and_label_right(channels: int) -> None:
    frames = pictures(channels=channels)
    settings = Augmentation(mirror=0.0, shift_x=0.2, shift_x_label=1.5)
    changed, sign, offset = run(frames, uniforms(SHIFT_X=1.0), settings)  # 0.2 of 20 columns: four
    np.testing.assert_allclose(changed[:, :, 4:], frames[:, :, :-4] * np.float32(1 / 255), atol=1e-5)
    np.testing.assert_allclose(offset, 0.2 * 1.5, atol=1e-6)
    assert (sign == 1).all()


def test_mirrored_and_shifted_label_follows_the_picture() -> None:
    """A bright column at x = 3 with label f(x): mirrored to 16, shifted to 18; the label must be f(18)."""
    frames = np.zeros((1, 12, 20, 1), np.uint8)
    frames[:, :, 3] = 255
    slope = 2.0  # label per picture width
    settings = Augmentation(mirror=1.0, shift_x=0.1, shift_x_label=slope)
    changed, sign, offset = run(frames, uniforms(1, SHIFT_X=1.0), settings)
    place = int(changed[0, 0, :, 0].argmax())
    label = slope * (3 - 9.5) / 20
    assert place == 18
    assert sign[0] * label + offset[0] == pytest.approx(slope * (place - 9.5) / 20)


def test_vertical_shift_moves_down() -> None:
    frames = pictures()
    changed, _, offset = run(frames, uniforms(SHIFT_Y=1.0), Augmentation(mirror=0.0, shift_y=0.25))
    np.testing.assert_allclose(changed[:, 3:], frames[:, :-3] * np.float32(1 / 255), atol=1e-5)
    assert (offset == 0).all()


def test_blur_smooths_and_keeps_the_mean_of_a_flat_picture() -> None:
    frames = pictures()
    changed, _, _ = run(frames, uniforms(BLUR=0.0, BLUR_WIDTH=0.99), Augmentation(mirror=0.0, blur=1.0, blur_width=3.0))
    assert changed.std() < 0.6 * (frames / 255).std()
    flat, _, _ = run(np.full((2, 12, 20, 1), 99, np.uint8), uniforms(2), Augmentation(mirror=0.0, blur=1.0))
    np.testing.assert_allclose(flat, 99 / 255, atol=1e-5)


def test_light_goes_both_ways() -> None:
    frames = np.full((2, 12, 20, 1), 100, np.uint8)
    for settings, column in (
        (Augmentation(mirror=0.0, brightness=0.2), "BRIGHTNESS"),
        (Augmentation(mirror=0.0, gamma=0.5), "GAMMA"),
        (Augmentation(mirror=0.0, contrast=0.5), "CONTRAST"),
    ):
        low, high = (run(frames, uniforms(2, **{column: u}), settings)[0].mean() for u in (0.0, 0.999))
        assert min(low, high) < 100 / 255 - 0.02 < 100 / 255 + 0.02 < max(low, high), column


def test_gamma_keeps_black_and_white_and_meets_the_power_law_in_the_middle() -> None:
    levels = np.array([0, 255], np.uint8).reshape(1, 1, 2, 1)
    ends, _, _ = run(levels, uniforms(1, GAMMA=0.999), Augmentation(mirror=0.0, gamma=1.0))
    np.testing.assert_allclose(ends.ravel(), [0, 1], atol=1e-6)
    middle, _, _ = run(
        np.full((1, 2, 2, 1), 128, np.uint8), uniforms(1, GAMMA=1.0), Augmentation(mirror=0.0, gamma=0.5)
    )
    assert middle.mean() == pytest.approx((128 / 255) ** 1.5, abs=2e-3)


def test_shadow_darkens_a_part() -> None:
    frames = np.full((8, 12, 20, 1), 200, np.uint8)
    numbers = uniforms(8, SHADOW=0.0, SHADOW_PLACE=0.5, SHADOW_WIDTH=0.1, SHADOW_DARKNESS=0.9)
    changed, _, _ = run(frames, numbers, Augmentation(mirror=0.0, shadow=1.0))
    flat = changed.reshape(8, -1)
    assert (flat.min(axis=1) < 0.6 * 200 / 255).all()
    assert (flat.max(axis=1) > 0.999 * 200 / 255).all()


def test_noise_has_its_strength_and_differs_between_pictures() -> None:
    frames = np.full((2, 66, 100, 1), 128, np.uint8)
    numbers = uniforms(2, NOISE=1.0)
    numbers[:, strengths.NOISE_PLANE] = [0.1, 0.9]
    changed, _, _ = run(frames, numbers, Augmentation(mirror=0.0, noise=0.05))
    assert changed.std() == pytest.approx(0.05, rel=0.1)
    assert np.abs(np.corrcoef(changed[0].ravel(), changed[1].ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("channels", [1, 3])
def test_everything_at_once_is_repeatable_and_stays_in_range(channels: int) -> None:
    frames = pictures(32, channels)
    first, second = run(frames, uniforms(32), EVERYTHING), run(frames, uniforms(32), EVERYTHING)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert first[0].dtype == np.float32
    assert first[0].shape == frames.shape
    assert first[0].min() >= 0
    assert first[0].max() <= 1
    assert set(np.unique(first[1])) == {-1.0, 1.0}


def test_one_kind_off_leaves_the_others() -> None:
    """Each kind has its own uniforms, so comparing recipes compares the kind alone."""
    frames = pictures(16)
    with_noise = run(frames, uniforms(16), Augmentation(mirror=0.5, brightness=0.05, noise=1e-6))[0]
    without = run(frames, uniforms(16), Augmentation(mirror=0.5, brightness=0.05))[0]
    np.testing.assert_allclose(with_noise, without, atol=1e-4)


GEOMETRY = {
    "mirror": 1.0, "shift_x": 0.2, "shift_y": 0.2, "rotate_deg": 40.0, "zoom": 0.5, "shear_deg": 25.0,
    "flip_vertical": 1.0,
}  # fmt: skip
"""Each strong enough that labels which stay, or move the wrong way, are more than a pixel off."""

MOVING = {
    **{name: Augmentation(**{"mirror": 0.0, name: strength}) for name, strength in GEOMETRY.items()},
    "all": Augmentation(**{**GEOMETRY, "mirror": 0.5, "flip_vertical": 0.5}, blur=0.5),
}


def pixels_off(settings: Augmentation, told: tuple[int, int] = (24, 40)) -> NDArray[np.float64]:
    """How far dots lie from where `motion_of`, told that size, says; of those that stay well inside the picture."""
    count, height, width = 64, 24, 40
    random = np.random.default_rng(5)
    x, y = random.integers(4, width - 4, count), random.integers(4, height - 4, count)
    frames = np.zeros((count, height, width, 1), np.uint8)
    for dx, dy in np.ndindex(3, 3):
        frames[np.arange(count), y + dy - 1, x + dx - 1] = 255
    numbers = draw_uniforms(random, (count,), settings)
    seen = np.asarray(apply(frames, numbers, settings))[..., 0]
    mass = np.maximum(seen.sum(axis=(1, 2)), 1e-6)
    found_x = (seen.sum(axis=1) * np.arange(width)).sum(axis=1) / mass
    found_y = (seen.sum(axis=2) * np.arange(height)).sum(axis=1) / mass
    place = np.stack([(x + 0.5) / width, (y + 0.5) / height, np.ones(count)], axis=1)
    said = np.einsum("nij,nj->ni", motion_of(numbers, settings, told).matrix, place) * (width, height) - 0.5
    inside = ((said > 4) & (said < (width - 5, height - 5))).all(axis=1)
    assert inside.sum() > 20
    return np.asarray(np.hypot(found_x - said[:, 0], found_y - said[:, 1])[inside])


@pytest.mark.parametrize("name", MOVING)
def test_places_move_as_pixels_do(name: str) -> None:
    assert pixels_off(MOVING[name]).max() < 1
    assert motion_of(uniforms(), MOVING[name], (24, 40)).matrix.dtype == np.float32


@pytest.mark.parametrize("name", ["rotate_deg", "shear_deg", "all"])
def test_places_of_another_shape_of_picture_do_not(name: str) -> None:
    assert pixels_off(MOVING[name], told=(24, 24)).max() > 1


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (2, 2)])
def test_tiny_pictures_turn(size: tuple[int, int]) -> None:
    flat = np.full((2, *size, 3), 99, np.uint8)
    np.testing.assert_allclose(run(flat, uniforms(2), MOVING["all"])[0], 99 / 255, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_flips_are_exact_and_told(channels: int) -> None:
    frames = pictures(channels=channels)
    settings = Augmentation(mirror=1.0, flip_vertical=1.0)
    changed, sign, _ = run(frames, uniforms(), settings)
    np.testing.assert_allclose(changed, frames[:, ::-1, ::-1] * np.float32(1 / 255), atol=1e-6)
    assert (sign == -1).all() and motion_of(uniforms(), settings, (12, 20)).vertical.all()
    assert not motion_of(uniforms(), Augmentation(mirror=1.0), (12, 20)).vertical.any()


def test_the_edge_is_repeated_where_a_picture_is_made_smaller() -> None:
    frames = np.zeros((2, 12, 20, 1), np.uint8)
    frames[:, 0] = 200
    changed, _, _ = run(frames, uniforms(2, ZOOM=0.0), Augmentation(mirror=0.0, zoom=1.0))
    np.testing.assert_allclose(changed[:, :3], 200 / 255, atol=1e-5)


def luma(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values @ np.float32([0.114, 0.587, 0.299])


def test_hue_and_saturation_keep_the_luma_and_leave_gray() -> None:
    frames = np.full((4, 6, 6, 3), (100, 120, 140), np.uint8)
    for settings, columns in (
        (Augmentation(mirror=0.0, hue_deg=60.0), {"HUE": 1.0}),
        (Augmentation(mirror=0.0, saturation=0.5), {"SATURATION": 1.0}),
    ):
        changed, _, _ = run(frames, uniforms(**columns), settings)
        np.testing.assert_allclose(luma(changed), luma(frames / np.float32(255)), atol=1e-5)
        assert np.abs(changed - frames / 255).max() > 0.03
        for gray in (np.full((4, 6, 6, 3), 90, np.uint8), pictures()):
            np.testing.assert_allclose(run(gray, uniforms(**columns), settings)[0], gray / 255, atol=1e-5)
    # Three turns of a third each are none; one makes another channel the strongest.
    third, _, _ = run(frames, uniforms(HUE=1.0), Augmentation(mirror=0.0, hue_deg=120.0))
    assert frames[0, 0, 0].argmax() != third[0, 0, 0].argmax()


def test_no_saturation_is_gray() -> None:
    changed, _, _ = run(pictures(channels=3), uniforms(SATURATION=0.0), Augmentation(mirror=0.0, saturation=1.0))
    np.testing.assert_allclose(
        changed, np.repeat(luma(pictures(channels=3) / np.float32(255))[..., None], 3, 3), atol=1e-5
    )


def test_cutout_hides_a_square_of_its_size() -> None:
    frames = np.full((2, 12, 20, 3), 255, np.uint8)
    settings = Augmentation(mirror=0.0, cutout=1.0, cutout_size=0.5, noise=0.001)
    changed, _, _ = run(frames, uniforms(2, CUTOUT=0.0, CUTOUT_X=0.5, CUTOUT_Y=0.0), settings)
    hidden = (changed == 0.5).all(axis=-1)
    assert hidden[:, :3, 7:13].all() and hidden.sum() == 2 * 3 * 6
    assert (run(frames, uniforms(2, CUTOUT=0.9), Augmentation(mirror=0.0, cutout=0.5))[0] == 1).all()


def test_mixed_pictures_have_the_shares_that_labels_are_told() -> None:
    """A label that can be read from the picture is right for the mixture, when mixed by the same shares."""
    levels = np.linspace(0, 250, 8).astype(np.uint8)
    frames = np.broadcast_to(levels[:, None, None, None], (8, 6, 6, 1))
    settings = Augmentation(mirror=0.5, mixup=0.5)
    numbers = uniforms(8)
    share, labels = shares_of(numbers, settings), levels / np.float32(255)
    changed = run(frames, numbers, settings)[0]
    np.testing.assert_allclose(changed[:, 2, 3, 0], (1 - share) * labels + share * labels[::-1], atol=1e-6)
    assert share.dtype == np.float32 and 0 <= share.min() < share.max() <= 0.5
    assert (shares_of(numbers[:, :UNIFORM_COUNT], OFF) == 0).all()


def test_trainings_keep_the_random_numbers_that_they_had() -> None:
    """Kinds that came later draw theirs behind those that were there; sums of recipes do not know them."""
    former = np.random.default_rng([3, 1]).random((2, 4, 16), dtype=np.float32)
    np.testing.assert_array_equal(draw_uniforms(np.random.default_rng([3, 1]), (2, 4), EVERYTHING), former)
    turning = draw_uniforms(np.random.default_rng([3, 1]), (2, 4), Augmentation(rotate_deg=5.0))
    np.testing.assert_array_equal(turning[..., :16], former)
    assert turning.shape == (2, 4, 32)
    assert set(stated(EVERYTHING)) == {
        "mirror", "shift_x", "shift_x_label", "shift_y", "brightness", "contrast", "gamma", "shadow",
        "shadow_darkness", "blur", "blur_width", "noise",
    }  # fmt: skip
    assert stated(Augmentation(zoom=0.1))["zoom"] == 0.1


def test_a_strength_out_of_range_is_told() -> None:
    with pytest.raises(RecipeError, match=r"mixup: expected a value from 0 to 0.5; found 0.6"):
        Augmentation(mixup=0.6)

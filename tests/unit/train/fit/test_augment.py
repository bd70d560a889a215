"""Augmentation: each kind does what its name says, and nothing when it is off."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sepilot_train.fit import augment
from sepilot_train.fit.augment import UNIFORM_COUNT, Augmentation, apply, motion_of

OFF = Augmentation(mirror=0.0)
EVERYTHING = Augmentation(
    mirror=0.5, shift_x=0.1, shift_x_label=1.0, shift_y=0.1, brightness=0.2, contrast=0.3, gamma=0.4, shadow=0.5,
    blur=0.5, noise=0.05,
)  # fmt: skip


def pictures(count: int = 4, channels: int = 1, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 12, 20, channels), np.uint8)


def uniforms(count: int = 4, seed: int = 1, **columns: float) -> NDArray[np.float32]:
    drawn = np.random.default_rng(seed).random((count, UNIFORM_COUNT), dtype=np.float32)
    for name, value in columns.items():
        drawn[:, getattr(augment, f"_{name}")] = value
    return drawn


def run(
    frames: NDArray[np.uint8], numbers: NDArray[np.float32], settings: Augmentation
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    motion = motion_of(numbers, settings)
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
    numbers[:, augment._NOISE_PLANE] = [0.1, 0.9]
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

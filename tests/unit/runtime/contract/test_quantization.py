from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sepilot_runtime.contract.quantization import INT8_INPUT, Affine

affines = st.builds(Affine, scale=st.floats(1e-4, 10), zero_point=st.integers(-128, 127))


@given(affines)
def test_every_stored_number_survives_the_round_trip(affine: Affine) -> None:
    stored = np.arange(-128, 128, dtype=np.int8)
    assert np.array_equal(affine.quantize(affine.dequantize(stored), np.int8), stored)


@given(affines)
def test_what_is_read_per_frame_is_what_is_stored(affine: Affine) -> None:
    stored = np.arange(-128, 128, dtype=np.int8)
    scale = float(np.float32(affine.scale))  # As files have it.
    file = Affine(scale=scale, zero_point=affine.zero_point)
    expected = ((stored.astype(float) - affine.zero_point) * scale).astype(np.float32)
    whole, one = np.zeros((16, 16), np.float32), np.zeros(1, np.float32)
    file.reader(lambda: stored.reshape(1, 16, 16), whole)()
    assert np.array_equal(whole.reshape(-1), expected) and np.array_equal(file.dequantize(stored), expected)
    for place in (0, 5, 255):
        file.reader(lambda place=place: stored[place : place + 1], one)()
        assert one[0] == expected[place]


def test_the_widest_difference_does_not_wrap() -> None:
    affine = Affine(scale=1.0, zero_point=-128)
    assert affine.dequantize(np.array([127], np.int8))[0] == 255.0


def test_values_beyond_the_range_saturate() -> None:
    affine = Affine(scale=0.1, zero_point=0)
    assert list(affine.quantize(np.array([-1e9, 1e9, 0.25]), np.int8)) == [-128, 127, 2]


def test_inputs_are_exact_for_every_pixel() -> None:
    pixels = np.arange(256)
    assert np.array_equal(INT8_INPUT.quantize(pixels / 255, np.int8), pixels - 128)

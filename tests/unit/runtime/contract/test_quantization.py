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


def test_the_widest_difference_does_not_wrap() -> None:
    affine = Affine(scale=1.0, zero_point=-128)
    assert affine.dequantize(np.array([127], np.int8))[0] == 255.0


def test_values_beyond_the_range_saturate() -> None:
    affine = Affine(scale=0.1, zero_point=0)
    assert list(affine.quantize(np.array([-1e9, 1e9, 0.25]), np.int8)) == [-128, 127, 2]


def test_inputs_are_exact_for_every_pixel() -> None:
    pixels = np.arange(256)
    assert np.array_equal(INT8_INPUT.quantize(pixels / 255, np.int8), pixels - 128)

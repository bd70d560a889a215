"""What is read per frame is what the interpreter holds."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sepilot_runtime.contract.quantization import Affine
from sepilot_runtime.engine.buffers import reader

affines = st.builds(Affine, scale=st.floats(1e-4, 10), zero_point=st.integers(-128, 127))


@given(affines)
def test_what_is_read_per_frame_is_what_is_stored(affine: Affine) -> None:
    stored = np.arange(-128, 128, dtype=np.int8)
    scale = float(np.float32(affine.scale))  # As files have it.
    file = Affine(scale=scale, zero_point=affine.zero_point)
    expected = ((stored.astype(float) - affine.zero_point) * scale).astype(np.float32)
    whole, one = np.zeros((16, 16), np.float32), np.zeros(1, np.float32)
    reader(lambda: stored.reshape(1, 16, 16), whole, file)()
    assert np.array_equal(whole.reshape(-1), expected) and np.array_equal(file.dequantize(stored), expected)
    for place in (0, 5, 255):
        reader(lambda place=place: stored[place : place + 1], one, file)()
        assert one[0] == expected[place]


def test_numbers_are_copied() -> None:
    stored, whole = np.arange(6, dtype=np.float32), np.zeros((2, 3), np.float32)
    reader(lambda: stored.reshape(1, 1, 6), whole, None)()
    assert whole.tolist() == [[0, 1, 2], [3, 4, 5]]
    stored[4] = -1
    assert whole[1, 1] == 4, "the interpreter's memory is not held on to"

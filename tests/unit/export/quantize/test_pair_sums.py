"""Kernels whose products fit into 16 bits, two at a time, however an engine lays them out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from sepilot_export.quantize.pair_sums import LARGEST_PAIR, fitted, kernel_bits, largest_pairs

ACTIVATION = 255
"""The largest unsigned activation."""


def kernel(*rows: list[list[int]]) -> NDArray[np.int8]:
    """(outputs, places, inputs)"""
    return np.array(rows, np.int8)


def vpmaddubsw(activations: NDArray[np.int64], weights: NDArray[np.int64]) -> int:
    """What a processor without VNNI makes of a dot product: pairs are added in 16 bits, and cut off there."""
    pairs = (activations * weights).reshape(-1, 2).sum(axis=1)
    return int(np.clip(pairs, -32768, 32767).sum())


@pytest.mark.parametrize(
    ("weights", "largest"),
    [
        ([[100, 60, -5, -7]], 160),
        ([[100, -60, 5, 7]], 100),
        ([[0, -127, -127, 0]], 127),
        ([[-127, -2]], 129),
        # Neighbours only where the inputs are innermost, over the places, …
        ([[100], [90], [3]], 190),
        # … and only where the places are.
        ([[100, 1], [90, 2]], 190),
        # An odd number of inputs: the last of one place stands beside the first of the next.
        ([[0, 0, 100], [100, 0, 0]], 200),
    ],
)
def test_the_largest_pair_of_any_layout(weights: list[list[int]], largest: int) -> None:
    assert largest_pairs(kernel(weights)).tolist() == [largest]


@given(arrays(np.float32, (3, 4, 6), elements=st.floats(-1, 1, width=16)))
def test_what_comes_out_fits_and_no_scale_is_wider_than_it_must(real: NDArray[np.float32]) -> None:
    scale = np.maximum(np.abs(real).max(axis=(1, 2)), 1e-3).astype(np.float32) / np.float32(127)
    rounded, found = fitted(real, scale)
    assert (largest_pairs(rounded) <= LARGEST_PAIR).all() and (found >= scale).all()
    # Half a step is the most that rounding may take, and a channel with a wider step has used what it may.
    assert (np.abs(rounded * found[:, None, None] - real) <= 0.502 * found[:, None, None]).all()
    wider = found > scale
    assert (largest_pairs(rounded)[wider] >= LARGEST_PAIR - 3).all()
    # No activation can make such a kernel overflow, whatever way it is laid out.
    for row in rounded.astype(np.int64):
        for flat in (row.ravel(), row.T.ravel()):
            for activations in (np.full(flat.size, ACTIVATION), np.where(flat > 0, ACTIVATION, 0),
                                np.where(flat < 0, ACTIVATION, 0)):  # fmt: skip
                assert vpmaddubsw(activations, flat) == int((activations * flat).sum())


def test_the_check_of_overflow_knows_one() -> None:
    weights = np.full(8, 127)
    assert vpmaddubsw(np.full(8, ACTIVATION), weights) != int((np.full(8, ACTIVATION) * weights).sum())


def test_one_scale_for_all_outputs_stays_one() -> None:
    real = np.array([[[1.0, 0.9]], [[0.1, -0.2]]], np.float32)
    rounded, found = fitted(real, np.array([1 / 127], np.float32))
    assert found.shape == (1,) and found[0] > 1 / 127
    assert (largest_pairs(rounded) <= LARGEST_PAIR).all()
    assert np.allclose(rounded * found[0], real, atol=0.51 * found[0])


def test_kernels_that_fit_stay_to_the_bit() -> None:
    real = np.array([[[127.0, -127.0, 64.0, 64.0, 1.0, 127.0]]], np.float32)
    rounded, found = fitted(real, np.ones(1, np.float32))
    assert rounded.tolist() == real.tolist() and found.tolist() == [1.0]


def test_bits_are_those_that_are_used() -> None:
    assert kernel_bits(kernel([[127, 0]], [[-127, 3]])) == pytest.approx(8.0)
    assert kernel_bits(kernel([[63, 0]], [[1, 63]])) == pytest.approx(7.0)
    assert kernel_bits(kernel([[127, 0]], [[0, 0]])) == pytest.approx(8.0)  # A dead channel says nothing.
    assert kernel_bits(kernel([[0, 0]])) == 0.0

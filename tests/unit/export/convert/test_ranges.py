"""Activation ranges: rounding against cutting, zero inside, halves that disagree."""

from __future__ import annotations

import numpy as np
import pytest

from sepilot_export.convert.ranges import Fitted, fit_ranges, output_range


def fit(values: np.ndarray) -> Fitted:
    """Ranges for a model whose one tensor takes a row of `values` for each picture."""
    pictures = np.arange(len(values), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return fit_ranges(lambda picture: {"x": values[int(picture[0, 0, 0])].astype(np.float32)}, pictures)


def squared_error(values: np.ndarray, low: float, high: float) -> float:
    step = (high - low) / 255
    rounded = np.clip(np.rint((values - low) / step), 0, 255) * step + low
    return float(((rounded - values) ** 2).mean())


def test_even_values_keep_their_whole_range() -> None:
    values = np.random.default_rng(0).uniform(-1, 3, (100, 400))
    low, high = fit(values).ranges["x"]
    assert (low, high) == pytest.approx((values.min(), values.max()), rel=0.03)


def test_a_single_outlier_does_not_cost_the_others_their_steps() -> None:
    values = np.random.default_rng(0).uniform(0, 1, (100, 4000))
    values[50, 7] = 4.0
    found = fit(values)
    low, high = found.ranges["x"]
    assert found.seen["x"] == pytest.approx((0.0, 4.0), abs=1e-3)
    assert 0.95 < high < 3.0 and low == 0.0
    assert squared_error(values, low, high) < 0.75 * squared_error(values, 0.0, 4.0)


def test_zero_is_always_inside() -> None:
    low, high = fit(np.random.default_rng(0).uniform(2, 3, (20, 50))).ranges["x"]
    assert low == 0.0 and high > 2.5
    assert fit(np.zeros((20, 50))).ranges["x"] == (0.0, 0.0)


def test_the_output_range_has_headroom_and_zero() -> None:
    assert output_range((-0.5, 0.5)) == pytest.approx((-0.6, 0.6))
    assert output_range((0.2, 0.4)) == pytest.approx((0.0, 0.42))
    assert output_range((-0.5, 0.5), asked=(-0.55, 0.9)) == pytest.approx((-0.6, 0.9))
    low, high = output_range((0.0, 0.0))
    assert low < 0 < high

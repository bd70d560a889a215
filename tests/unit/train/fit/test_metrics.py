from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from sepilot_train.fit.outputs.scalar.metrics import BIN_EDGES, scalar_metrics


def test_values_by_hand() -> None:
    y = np.array([-0.5, 0.0, 0.5, 1.0], np.float32)
    p = np.array([-0.4, 0.1, 0.5, 0.6], np.float32)
    m = scalar_metrics(y, p, constant=0.1)
    assert m.mae == pytest.approx((0.1 + 0.1 + 0.0 + 0.4) / 4, abs=1e-6)
    assert m.mae_nonzero == pytest.approx((0.1 + 0.0 + 0.4) / 3, abs=1e-6)
    assert m.constant_mae == pytest.approx((0.6 + 0.1 + 0.4 + 0.9) / 4, abs=1e-6)
    assert m.r2 == pytest.approx(1 - (0.01 + 0.01 + 0.16) / 1.25, abs=1e-6)


def test_the_constant_prediction_scores_zero() -> None:
    y = np.random.default_rng(0).uniform(-1, 1, 500)
    m = scalar_metrics(y, np.full_like(y, y.mean()), constant=float(y.mean()))
    assert m.r2 == pytest.approx(0.0, abs=1e-12) and m.mae == m.constant_mae


def test_every_frame_falls_into_one_bin() -> None:
    y = np.concatenate([np.array(BIN_EDGES), np.random.default_rng(1).uniform(-1, 1, 300)])
    assert sum(b.count for b in scalar_metrics(y, y, 0.0).bins) == len(y)


def test_mirrored_predictions_are_sign_errors() -> None:
    y = np.array([-0.5, 0.5, 0.8, 0.0])
    assert scalar_metrics(y, y, 0.0).sign_errors == 0.0
    assert scalar_metrics(y, -y, 0.0).sign_errors == 1.0


def test_labels_that_never_vary_have_no_r2_and_still_make_json() -> None:
    m = scalar_metrics(np.zeros(5), np.full(5, 0.1), 0.0)
    text = json.dumps(dataclasses.asdict(m), allow_nan=False)
    assert json.loads(text)["r2"] is None and json.loads(text)["mae_nonzero"] is None

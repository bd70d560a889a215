"""The training model in the three ways that people run one says what its files say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model_factory import BIAS, PICTURE, contract_of, frames, steering_of, weights_of
from sepilot_export.verify.keras_engine import keras_engines
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.contract.contract import Picture
from sepilot_runtime.engine.golden import verify_golden
from sepilot_runtime.engine.pilot import Pilot


def ramp_model(path: Path) -> Path:
    """The factory's model in Keras."""
    import keras

    model = keras.Sequential([keras.Input(PICTURE.shape), keras.layers.Flatten(), keras.layers.Dense(1)])
    model.layers[-1].set_weights([weights_of(PICTURE).reshape(-1, 1), np.array([BIAS], np.float32)])
    model.save(path)
    return path


def test_all_three_answer_as_the_file_would(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    ramp_model(run / "model.keras")
    engines = keras_engines(run, contract_of())
    assert [engine.name for engine in engines] == ["keras predict", "keras call", "tf.function"]
    for engine in engines:
        assert verify_golden(engine)["steering"] < 1e-5
        pilot = Pilot(engine)
        assert pilot.predict(frames(1)[0]).raw["steering"] == pytest.approx(steering_of(pilot.seen), abs=1e-5)


def test_what_does_not_compare_is_refused(tmp_path: Path) -> None:
    file = ramp_model(tmp_path / "m.keras")
    with pytest.raises(RunError, match="do not compare"):
        keras_engines(file, contract_of(Picture(height=20, width=20)))
    with pytest.raises(RunError, match="no such file"):
        keras_engines(tmp_path / "nowhere", contract_of())
    (tmp_path / "bad.keras").write_bytes(b"no")
    with pytest.raises(RunError, match="cannot be read as a Keras model"):
        keras_engines(tmp_path / "bad.keras", contract_of())

"""Who drives in the closed loop: model files, the training model, and the two controls.

A model's steering is taken as the share of full scale that it is, as a car's controller takes it; the degrees of its
contract are not converted to the simulated car's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import RunError
from sepilot_runtime.base.unique_names import names_of
from sepilot_runtime.contract.preprocess import Preprocessor, write_input
from sepilot_runtime.drive.actuation import STEERING, require_drivable
from sepilot_runtime.engine.pilot import Pilot, load_pilot
from sepilot_runtime.engine.trial import time_limit
from sepilot_train.closed_loop.evaluation import DriverKind

if TYPE_CHECKING:
    from sepilot_train.run.run import Run
    from sepilot_train.simulator.protocol import Simulator

__all__ = ["ConstantDriver", "ExpertDriver", "FileDriver", "ModelDriver", "open_file_drivers"]


class FileDriver:
    """A model file, run by the runtime as it runs on a car."""

    kind = DriverKind.FILE

    def __init__(self, pilot: Pilot, name: str) -> None:
        self.name = name
        self._pilot = pilot

    def steer(self, frame: NDArray[np.uint8]) -> float:
        return float(self._pilot.predict(frame).values[STEERING])

    def reset(self) -> None:
        """A pilot keeps nothing between frames."""


def open_file_drivers(paths: Sequence[Path]) -> list[FileDriver]:
    """Load model files and run their golden frames. Files of one name are told apart by their directories.

    Raises:
        ModelFileError, ContractError, MissingExtraError: as `load_pilot`.
    """
    drivers = []
    for path, name in zip(paths, names_of(paths), strict=True):
        with time_limit(path):
            pilot = load_pilot(path)
        require_drivable(pilot.contract, path)
        drivers.append(FileDriver(pilot, name))
    return drivers


class ModelDriver:
    """The training model of a run, with the preprocessing of its contract."""

    kind = DriverKind.MODEL

    def __init__(self, run: Run, name: str = "Keras") -> None:
        """
        Raises:
            RunError: the model cannot be loaded.
        """
        self.name = name
        self._where = run.model_path
        self._output = run.contract.output(STEERING)
        self._preprocessor = Preprocessor(run.contract.picture)
        self._input = np.empty((1, *run.contract.picture.shape), np.float32)
        self._net = run.load_model()
        # Compiles, which must not count as the first frame's latency.
        self._net.predict_on_batch(np.zeros_like(self._input))

    def steer(self, frame: NDArray[np.uint8]) -> float:
        """
        Raises:
            RunError: the model answered with NaN or infinity.
        """
        write_input(self._preprocessor.picture_of(frame), self._input)
        value = float(np.asarray(self._net.predict_on_batch(self._input)).reshape(-1)[0])
        if not math.isfinite(value):
            raise RunError(f"{self._where}: the model answered {value}, not a steering number")
        return min(max(value, self._output.low), self._output.high)

    def reset(self) -> None:
        """A model keeps nothing between frames."""


class ExpertDriver:
    """The simulator's own expert, who knows the track: what is possible in these worlds."""

    name = "expert"
    kind = DriverKind.CONTROL

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def steer(self, frame: NDArray[np.uint8]) -> float:
        return self._simulator.expert()

    def reset(self) -> None:
        """The expert keeps nothing."""


class ConstantDriver:
    """Holds the wheel. One that survives shows that the worlds ask for nothing, or that leaving goes unnoticed."""

    kind = DriverKind.CONTROL

    def __init__(self, steering: float = 0.0) -> None:
        self.name = f"steering = {steering:g}"
        self._steering = steering

    def steer(self, frame: NDArray[np.uint8]) -> float:
        return self._steering

    def reset(self) -> None:
        """Nothing to forget."""

"""Who drives in the closed loop: model files, the training model, and the two controls.

A model's steering is taken as the share of full scale that it is, as a car's controller takes it; the degrees of its
contract are not converted to the simulated car's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import RunError
from sepilot_runtime.base.unique_names import names_of
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.preprocess import Preprocessor, write_input
from sepilot_runtime.drive.actuation import STEERING, require_drivable
from sepilot_runtime.engine.pilot import Pilot, load_pilot
from sepilot_runtime.engine.trial import time_limit
from sepilot_train.closed_loop.evaluation import Command, DriverKind
from sepilot_train.fit.predict import by_name

if TYPE_CHECKING:
    from sepilot_train.run.run import Run
    from sepilot_train.simulator.protocol import Simulator

THROTTLE = "throttle"
"""Name of the output that a car's speed is asked by."""

__all__ = ["ConstantDriver", "ExpertDriver", "FileDriver", "ModelDriver", "open_file_drivers"]


class FileDriver:
    """A model file, run by the runtime as it runs on a car."""

    kind = DriverKind.FILE

    def __init__(self, pilot: Pilot, name: str) -> None:
        self.name = name
        self.throttle = any(output.name == THROTTLE for output in pilot.contract.outputs)
        self._pilot = pilot

    def command(self, frame: NDArray[np.uint8]) -> Command:
        values = self._pilot.predict(frame).values
        return Command(steering=float(values[STEERING]), throttle=values.get(THROTTLE))

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
        self.throttle = any(output.name == THROTTLE for output in run.contract.outputs)
        self._where = run.model_path
        self._tasks = {output.name: task_of(output) for output in run.contract.outputs}
        self._preprocessor = Preprocessor(run.contract.picture)
        self._input = np.empty((1, *run.contract.picture.shape), np.float32)
        self._net = run.load_model()
        # Compiles, which must not count as the first frame's latency.
        self._net.predict_on_batch(np.zeros_like(self._input))

    def command(self, frame: NDArray[np.uint8]) -> Command:
        """
        Raises:
            RunError: the model answered with NaN or infinity.
        """
        write_input(self._preprocessor.picture_of(frame), self._input)
        said = by_name(self._net.output_names, self._net.predict_on_batch(self._input))
        for name, value in said.items():
            if not np.isfinite(value).all():
                raise RunError(f"{self._where}: {name}: the model answered {value.item()}, not a number to drive by")
        values = {name: task.decode(np.asarray(said[name])) for name, task in self._tasks.items()}
        return Command(steering=values[STEERING], throttle=values.get(THROTTLE))

    def reset(self) -> None:
        """A model keeps nothing between frames."""


class ExpertDriver:
    """The simulator's own expert, who knows the track: what is possible in these worlds."""

    name = "expert"
    kind = DriverKind.CONTROL

    def __init__(self, simulator: Simulator, *, slow_for_bends: bool = False) -> None:
        self._simulator, self._slow = simulator, slow_for_bends

    def command(self, frame: NDArray[np.uint8]) -> Command:
        throttle = self._simulator.expert_throttle() if self._slow else None
        return Command(steering=self._simulator.expert(), throttle=throttle)

    def reset(self) -> None:
        """The expert keeps nothing."""


class ConstantDriver:
    """Holds the wheel. One that survives shows that the worlds ask for nothing, or that leaving goes unnoticed."""

    kind = DriverKind.CONTROL

    def __init__(self, steering: float = 0.0) -> None:
        self.name = f"steering = {steering:g}"
        self._steering = steering

    def command(self, frame: NDArray[np.uint8]) -> Command:
        return Command(steering=self._steering)

    def reset(self) -> None:
        """Nothing to forget."""

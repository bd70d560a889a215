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

from sepilot_runtime.base.unique_names import names_of
from sepilot_runtime.drive.actuation import STEERING, THROTTLE, require_drivable
from sepilot_runtime.engine.pilot import Pilot, load_pilot
from sepilot_runtime.engine.trial import time_limit
from sepilot_train.closed_loop.evaluation import Command, DriverKind
from sepilot_train.fit.keras_engine import KerasEngine

if TYPE_CHECKING:
    from sepilot_train.run.run import Run
    from sepilot_train.simulator.protocol import Simulator

__all__ = ["ConstantDriver", "ExpertDriver", "PilotDriver", "open_file_drivers", "open_model_driver"]


class PilotDriver:
    """A pilot of any engine, as it drives a car."""

    def __init__(self, pilot: Pilot, name: str, kind: DriverKind = DriverKind.FILE) -> None:
        self.name, self.kind = name, kind
        self.throttle = any(output.name == THROTTLE for output in pilot.contract.outputs)
        self._pilot = pilot

    def command(self, frame: NDArray[np.uint8]) -> Command:
        """
        Raises:
            ModelFileError: the model answered with NaN or infinity.
        """
        values = self._pilot.predict(frame).values
        return Command(steering=float(values[STEERING]), throttle=values.get(THROTTLE))


def open_file_drivers(paths: Sequence[Path]) -> list[PilotDriver]:
    """Load model files and run their golden frames. Files of one name are told apart by their directories.

    Raises:
        ModelFileError, ContractError, MissingExtraError: as `load_pilot`.
    """
    drivers = []
    for path, name in zip(paths, names_of(paths), strict=True):
        with time_limit(path):
            pilot = load_pilot(path)
        require_drivable(pilot.contract, path)
        drivers.append(PilotDriver(pilot, name))
    return drivers


def open_model_driver(run: Run) -> PilotDriver:
    """The training model of a run.

    Raises:
        ModelFileError: the model cannot be loaded.
    """
    engine = KerasEngine(run.load_model(), run.contract, run.model_path)
    # Compiles, which must not count as the first frame's latency.
    engine.run()
    return PilotDriver(Pilot(engine), "Keras", DriverKind.MODEL)


class ExpertDriver:
    """The simulator's own expert, who knows the track: what is possible in these worlds."""

    name = "expert"
    kind = DriverKind.CONTROL

    def __init__(self, simulator: Simulator, *, slow_for_bends: bool = False) -> None:
        self._simulator, self._slow = simulator, slow_for_bends

    def command(self, frame: NDArray[np.uint8]) -> Command:
        throttle = self._simulator.expert_throttle() if self._slow else None
        return Command(steering=self._simulator.expert(), throttle=throttle)


class ConstantDriver:
    """Holds the wheel. One that survives shows that the worlds ask for nothing, or that leaving goes unnoticed."""

    kind = DriverKind.CONTROL

    def __init__(self, steering: float = 0.0) -> None:
        self.name = f"steering = {steering:g}"
        self._steering = steering

    def command(self, frame: NDArray[np.uint8]) -> Command:
        return Command(steering=self._steering)

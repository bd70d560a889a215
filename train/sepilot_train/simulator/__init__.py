"""Simulators for recording drives and for driving in closed loop.

`builtin` needs NumPy and OpenCV only. It is synthetic: what drives well here has proven that it learned to see these
roads, and nothing about real ones.
"""

from __future__ import annotations

from collections.abc import Callable

from sepilot_runtime.base.errors import UsageError
from sepilot_train.simulator.protocol import EVALUATION_SEED, Simulator, State

__all__ = ["EVALUATION_SEED", "SIMULATORS", "Simulator", "State", "open_simulator"]


def _builtin() -> Simulator:
    from sepilot_train.simulator.builtin import BuiltinSimulator

    return BuiltinSimulator()


def _carracing() -> Simulator:
    from sepilot_train.simulator.carracing import CarRacingSimulator

    return CarRacingSimulator()


def _panda3d() -> Simulator:
    from sepilot_train.simulator.panda import PandaSimulator

    return PandaSimulator()


SIMULATORS: dict[str, Callable[[], Simulator]] = {"builtin": _builtin, "carracing": _carracing, "panda3d": _panda3d}
"""Name to opener; what a simulator needs is imported when it is opened."""


def open_simulator(name: str) -> Simulator:
    """Open a simulator by name.

    Raises:
        UsageError: no simulator of that name.
        MissingExtraError: the optional package behind it is not installed.
    """
    if name not in SIMULATORS:
        raise UsageError(f"--simulator {name}: no such simulator; known: {', '.join(SIMULATORS)}")
    return SIMULATORS[name]()

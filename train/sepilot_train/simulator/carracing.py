"""Gymnasium's CarRacing-v3 behind the Simulator protocol: tracks, picture and physics that nobody here wrote.

The camera looks straight down, so this says nothing about a forward camera; it is well known, needs no graphics
library and repeats exactly. Lengths are CarRacing's own metres: the road is 13.3 wide, the car 5 long.

Source: https://gymnasium.farama.org/environments/box2d/car_racing/
"""

from __future__ import annotations

import math
import os
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import MissingExtraError
from sepilot_train.simulator.centreline import CentreLine, Station
from sepilot_train.simulator.protocol import USUAL_THROTTLE, State, throttle_for_bend

__all__ = ["CarRacingSimulator"]

VISIBLE_ROWS = 84
"""Of the 96 rows the lowest 12 show speed, gyro and the *steering wheel's position*: the label. They are cut off."""
ZOOMED_IN_S = 1.0
"""The picture zooms during the first second of an episode; the clock starts after it."""
WHEEL_LIMIT_RAD = 0.4
"""Where the front wheels' joints stop. Actions beyond it change nothing, so it is full scale."""
CAR_LENGTH_M = 3.24
"""Wheelbase."""
LOOK_AHEAD_M = 9.0
GAS_GAIN, BRAKE_GAIN = 0.08, 0.02
"""Per m/s of speed error. The controller comes to the speed that the throttle means, or holds the usual one."""
BEND_AHEAD_M = 20.0
LATERAL_MPS2 = 15.0


class CarRacingSimulator:
    """One car on one random track.

    Frames are (84, 96, 3) uint8 BGR. The same seed gives the same track, frames and physics.
    """

    name = "carracing"
    rate_hz = 50.0
    full_scale_deg = math.degrees(WHEEL_LIMIT_RAD)
    speed_mps = 25.0

    def __init__(self) -> None:
        """
        Raises:
            MissingExtraError: gymnasium or its Box2D is not installed.
        """
        self._make, self._half_width_m = _load()
        self._env: Any = None
        self._line: CentreLine
        self._station: Station
        self._progress_m = 0.0

    def reset(self, seed: int) -> tuple[NDArray[np.uint8], State]:
        """A new track with the car somewhere on its centre line, at speed.

        The physics engine remembers the order of what it did before, so each world gets an engine of its own.
        """
        if self._env is not None:
            self._env.close()
        self._env = self._make()
        self._env.reset(seed=seed)
        self._env.t = ZOOMED_IN_S
        self._line = CentreLine(np.array(self._env.track, np.float64)[:, 2:4])
        start = np.random.default_rng(seed).uniform(0.0, self._line.length_m)
        self._station = Station(along_m=start, right_m=0.0)
        self._progress_m = 0.0
        return self.recentre()

    def step(self, steering: float, throttle: float | None = None) -> tuple[NDArray[np.uint8], State]:
        """Drive for 1/50 s. `steering` in [-1, 1], + = right; held beyond. A throttle is a speed to come to."""
        share = 1.0 if throttle is None else min(max(throttle, 0.0), 1.0) / USUAL_THROTTLE
        missing_mps = share * self.speed_mps - self._speed_mps()
        gas = min(max(missing_mps * GAS_GAIN, 0.0), 1.0)
        brake = min(max(-missing_mps * BRAKE_GAIN, 0.0), 0.8)
        angle = min(max(float(steering), -1.0), 1.0) * WHEEL_LIMIT_RAD
        picture = self._env.step(np.array([angle, gas, brake]))[0]
        self._follow()
        return _frame(picture), self._state()

    def expert(self) -> float:
        """Pure pursuit of the track's centre line."""
        hull = self._env.car.hull
        x, y = self._line.at(self._station.along_m + LOOK_AHEAD_M)
        dx, dy = x - hull.position[0], y - hull.position[1]
        cos, sin = math.cos(hull.angle), math.sin(hull.angle)
        right = cos * dx + sin * dy
        curvature = 2.0 * right / max(dx * dx + dy * dy, 1e-9)
        return min(max(math.atan(curvature * CAR_LENGTH_M) / WHEEL_LIMIT_RAD, -1.0), 1.0)

    def expert_throttle(self) -> float:
        """Slower where the road bends within the next stretch."""
        places = self._station.along_m + np.linspace(0.0, BEND_AHEAD_M, 5)
        sharpest = max(abs(self._line.curvature_at(place)) for place in places)
        return throttle_for_bend(sharpest, speed_mps=self.speed_mps, lateral_mps2=LATERAL_MPS2)

    def recentre(self) -> tuple[NDArray[np.uint8], State]:
        """Put the car back on the centre line where it is nearest, pointing along it, at speed."""
        x, y = self._line.at(self._station.along_m)
        yaw = self._line.yaw_at(self._station.along_m)
        _place(self._env.car, x, y, yaw - math.pi / 2, self.speed_mps)
        self._follow()
        return _frame(self._env._render("state_pixels")), self._state()

    def _speed_mps(self) -> float:
        hull = self._env.car.hull
        vx, vy = hull.linearVelocity
        return float(-math.sin(hull.angle) * vx + math.cos(hull.angle) * vy)

    def _follow(self) -> None:
        before = self._station
        self._station = self._line.nearest(*self._env.car.hull.position, near_m=before.along_m)
        self._progress_m += self._line.difference_m(self._station.along_m, before.along_m)

    def _state(self) -> State:
        yaw = self._env.car.hull.angle + math.pi / 2
        heading = yaw - self._line.yaw_at(self._station.along_m)
        return State(
            cte_m=self._station.right_m,
            # Yaw counts anticlockwise; to the right is positive here.
            heading_rad=-math.remainder(heading, math.tau),
            curvature_per_m=self._line.curvature_at(self._station.along_m),
            progress_m=self._progress_m,
            laps=self._progress_m / self._line.length_m,
            off_road=abs(self._station.right_m) > self._half_width_m,
            speed_mps=self._speed_mps(),
        )


def _load() -> tuple[Any, float]:
    # pygame draws into memory here; a display or a greeting on stdout is not wanted.
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Box2D's generated bindings.
            import gymnasium
            from gymnasium.envs.box2d import car_racing
    except ImportError as e:  # gymnasium's own error for an absent Box2D is one, too.
        raise MissingExtraError("gymnasium[box2d]", "sim") from e

    def make() -> Any:
        return gymnasium.make("CarRacing-v3", render_mode="rgb_array").unwrapped

    return make, float(car_racing.TRACK_WIDTH)


def _frame(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(picture[:VISIBLE_ROWS, :, ::-1])


def _place(car: Any, x: float, y: float, angle: float, speed_mps: float) -> None:
    """Move hull and wheels as one rigid body, front wheels straight, rolling without slip."""
    hull = car.hull
    cos, sin = math.cos(angle), math.sin(angle)
    velocity = (-sin * speed_mps, cos * speed_mps)
    bodies = [(hull, (0.0, 0.0))] + [(w, tuple(w.joint.anchorA - hull.position)) for w in car.wheels]
    back_cos, back_sin = math.cos(-hull.angle), math.sin(-hull.angle)
    for body, (ox, oy) in bodies:
        # The joint's place in the hull's own axes, from where the hull was.
        lx, ly = back_cos * ox - back_sin * oy, back_sin * ox + back_cos * oy
        body.position = (x + cos * lx - sin * ly, y + sin * lx + cos * ly)
    for body, _ in bodies:
        body.angle = angle
        body.linearVelocity = velocity
        body.angularVelocity = 0.0
        body.awake = True
    for wheel in car.wheels:
        wheel.omega = speed_mps / wheel.wheel_rad
        wheel.gas = wheel.brake = wheel.steer = 0.0

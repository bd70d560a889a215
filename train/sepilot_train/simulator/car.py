"""The car: a kinematic bicycle whose steering follows the command with a lag."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

__all__ = ["Car", "CarBody"]

SUBSTEPS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CarBody:
    """A car of 1/10 scale. `lag_s` is the time constant of the servo and its linkage, `inertia_s` that of the speed."""

    wheelbase_m: float = 0.26
    full_scale_deg: float = 26.0
    lag_s: float = 0.08
    speed_mps: float = 1.6
    inertia_s: float = 0.4


@dataclass(slots=True, kw_only=True)
class Car:
    """Pose of the rear axle's middle on the map of `track.py` (angles clockwise), angle of the front wheels, speed."""

    body: CarBody
    x_m: float = 0.0
    y_m: float = 0.0
    yaw_rad: float = 0.0
    wheel_rad: float = 0.0
    speed_mps: float = field(init=False)

    def __post_init__(self) -> None:
        self.speed_mps = self.body.speed_mps

    def place(self, x_m: float, y_m: float, yaw_rad: float, curvature_per_m: float = 0.0) -> None:
        """Put the car somewhere, its wheels already turned for a curve."""
        self.x_m, self.y_m, self.yaw_rad = x_m, y_m, yaw_rad
        self.wheel_rad = math.atan(curvature_per_m * self.body.wheelbase_m)

    def advance(self, steering: float, seconds: float, speed_mps: float | None = None) -> None:
        """Drive on while the command is held: an angle of the wheels, and the speed to come to, as a rule the usual."""
        body = self.body
        target = min(max(steering, -1.0), 1.0) * math.radians(body.full_scale_deg)
        dt = seconds / SUBSTEPS
        wanted_mps = body.speed_mps if speed_mps is None else speed_mps
        follow, gain = 1 - math.exp(-dt / body.lag_s), 1 - math.exp(-dt / body.inertia_s)
        for _ in range(SUBSTEPS):
            self.wheel_rad += (target - self.wheel_rad) * follow
            self.speed_mps += (wanted_mps - self.speed_mps) * gain
            turn = self.speed_mps / body.wheelbase_m * math.tan(self.wheel_rad) * dt
            middle = self.yaw_rad + turn / 2
            self.x_m += self.speed_mps * math.cos(middle) * dt
            self.y_m += self.speed_mps * math.sin(middle) * dt
            self.yaw_rad += turn

    def steering_towards(self, x_m: float, y_m: float) -> float:
        """Steering in [-1, 1] of the circle through the car, tangent to its heading, and a place (pure pursuit)."""
        dx, dy = x_m - self.x_m, y_m - self.y_m
        right = -math.sin(self.yaw_rad) * dx + math.cos(self.yaw_rad) * dy
        wheel = math.atan(2 * right / (dx * dx + dy * dy) * self.body.wheelbase_m)
        return min(max(wheel / math.radians(self.body.full_scale_deg), -1.0), 1.0)

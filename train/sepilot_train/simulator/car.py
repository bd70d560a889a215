"""The car: a kinematic bicycle whose steering follows the command with a lag."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Car", "CarBody"]

SUBSTEPS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CarBody:
    """A car of 1/10 scale. `lag_s` is the time constant of the servo and its linkage."""

    wheelbase_m: float = 0.26
    full_scale_deg: float = 26.0
    lag_s: float = 0.08
    speed_mps: float = 1.6


@dataclass(slots=True, kw_only=True)
class Car:
    """Pose of the middle of the rear axle on the map of `track.py` (angles clockwise), and the front wheels' angle."""

    body: CarBody
    x_m: float = 0.0
    y_m: float = 0.0
    yaw_rad: float = 0.0
    wheel_rad: float = 0.0

    def place(self, x_m: float, y_m: float, yaw_rad: float, curvature_per_m: float = 0.0) -> None:
        """Put the car somewhere, its wheels already turned for a curve."""
        self.x_m, self.y_m, self.yaw_rad = x_m, y_m, yaw_rad
        self.wheel_rad = math.atan(curvature_per_m * self.body.wheelbase_m)

    def advance(self, steering: float, seconds: float) -> None:
        """Drive on while the command is held."""
        body = self.body
        target = min(max(steering, -1.0), 1.0) * math.radians(body.full_scale_deg)
        dt = seconds / SUBSTEPS
        follow = 1 - math.exp(-dt / body.lag_s)
        for _ in range(SUBSTEPS):
            self.wheel_rad += (target - self.wheel_rad) * follow
            turn = body.speed_mps / body.wheelbase_m * math.tan(self.wheel_rad) * dt
            middle = self.yaw_rad + turn / 2
            self.x_m += body.speed_mps * math.cos(middle) * dt
            self.y_m += body.speed_mps * math.sin(middle) * dt
            self.yaw_rad += turn

    def steering_towards(self, x_m: float, y_m: float) -> float:
        """Steering in [-1, 1] of the circle through the car, tangent to its heading, and a place (pure pursuit)."""
        dx, dy = x_m - self.x_m, y_m - self.y_m
        right = -math.sin(self.yaw_rad) * dx + math.cos(self.yaw_rad) * dy
        wheel = math.atan(2 * right / (dx * dx + dy * dy) * self.body.wheelbase_m)
        return min(max(wheel / math.radians(self.body.full_scale_deg), -1.0), 1.0)

"""The simulator that needs nothing but NumPy and OpenCV.

One car of 1/10 scale with a forward camera on a random closed track, 20 steps per second of simulated time. Worlds,
camera mounting and light differ from seed to seed (domain randomization) unless asked not to.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from sepilot_train.simulator.camera import Camera, Mount, Optics
from sepilot_train.simulator.car import Car, CarBody
from sepilot_train.simulator.protocol import USUAL_THROTTLE, State, throttle_for_bend
from sepilot_train.simulator.world import World, make_world

__all__ = ["BuiltinSimulator", "vary_mount"]

LOOK_AHEAD_M = 0.7
BEND_AHEAD_M = 1.2
"""What the expert slows down for: about what the car rolls while it loses half of its speed."""
LATERAL_MPS2 = 1.0
EXPOSURE_SWING = 0.12
EXPOSURE_PERIOD_S = 9.0


class BuiltinSimulator:
    """One car in one world at a time. Frames are (120, 160, 3) uint8 BGR unless `mount` says otherwise."""

    name = "builtin"
    rate_hz = 20.0
    camera_type: type[Camera] = Camera
    """Draws the picture. Another rasterizer of the same worlds replaces it in a subclass."""

    def __init__(self, *, mount: Mount | None = None, body: CarBody | None = None, randomize: bool = True) -> None:
        """With `randomize` the given mount is varied by the seed, and the world's looks and light with it."""
        self._mount, self._body, self._randomize = mount or Mount(), body or CarBody(), randomize
        self.full_scale_deg = self._body.full_scale_deg
        self.speed_mps = self._body.speed_mps
        self.car = Car(body=self._body)
        self.world: World
        self.camera: Camera
        self._index = 0
        self._progress_m = 0.0
        self._steps = 0
        self._exposure = (1.0, 0.0)

    def reset(self, seed: int) -> tuple[NDArray[np.uint8], State]:
        """Enter the world of `seed` at a random place, on the centre line and along it."""
        self.world = make_world(seed, self._randomize)
        rng = np.random.default_rng([seed, 3])
        self.camera, self._exposure = self._equip(rng)
        self._index = int(rng.integers(len(self.world.track.points_m)))
        self._progress_m, self._steps = 0.0, 0
        self.car.speed_mps = self.speed_mps
        return self.recentre()

    def step(self, steering: float, throttle: float | None = None) -> tuple[NDArray[np.uint8], State]:
        """Drive for 1/20 s with `steering` in [-1, 1], + = right, then look."""
        share = 1.0 if throttle is None else min(max(throttle, 0.0), 1.0) / USUAL_THROTTLE
        self.car.advance(steering, 1 / self.rate_hz, share * self.speed_mps)
        track = self.world.track
        index = track.nearest(self.car.x_m, self.car.y_m, self._index)
        self._progress_m += track.steps_between(self._index, index) * track.spacing_m
        self._index = index
        self._steps += 1
        return self._look(), self._state()

    def expert(self) -> float:
        """Pure pursuit of the centre line."""
        track = self.world.track
        ahead = (self._index + round(LOOK_AHEAD_M / track.spacing_m)) % len(track.points_m)
        return self.car.steering_towards(*track.points_m[ahead])

    def expert_throttle(self) -> float:
        """Slower where the road bends within the next stretch."""
        track = self.world.track
        ahead = np.arange(self._index, self._index + round(BEND_AHEAD_M / track.spacing_m)) % len(track.points_m)
        sharpest = float(np.abs(track.curvature_per_m[ahead]).max())
        return throttle_for_bend(sharpest, speed_mps=self.speed_mps, lateral_mps2=LATERAL_MPS2)

    def recentre(self) -> tuple[NDArray[np.uint8], State]:
        """Put the car on the centre line beside where it is, along it, wheels turned for the curve."""
        track, i = self.world.track, self._index
        x, y = (float(v) for v in track.points_m[i])
        self.car.place(x, y, float(track.heading_rad[i]), float(track.curvature_per_m[i]))
        return self._look(), self._state()

    def _look(self) -> NDArray[np.uint8]:
        swing, phase = self._exposure
        exposure = 1 + swing * math.sin(2 * math.pi * self._steps / self.rate_hz / EXPOSURE_PERIOD_S + phase)
        return self.camera.render(self.car.x_m, self.car.y_m, self.car.yaw_rad, exposure)

    def _state(self) -> State:
        track, car = self.world.track, self.car
        cte = track.offset_m(car.x_m, car.y_m, self._index)
        return State(
            cte_m=cte,
            heading_rad=math.remainder(car.yaw_rad - float(track.heading_rad[self._index]), math.tau),
            curvature_per_m=float(track.curvature_per_m[self._index]),
            progress_m=self._progress_m,
            laps=self._progress_m / track.length_m,
            off_road=abs(cte) > track.half_width_m,
            speed_mps=car.speed_mps,
        )

    def _equip(self, rng: np.random.Generator) -> tuple[Camera, tuple[float, float]]:
        """The camera of this drive, and how its exposure swings (amplitude, phase)."""
        if not self._randomize:
            return self.camera_type(self._mount, Optics(), self.world, rng), (0.0, 0.0)
        gain = rng.uniform(0.6, 1.35) * rng.uniform(0.94, 1.06, 3)
        optics = Optics(
            gain_bgr=(float(gain[0]), float(gain[1]), float(gain[2])),
            vignette=rng.uniform(0.0, 0.35),
            blur_px=rng.uniform(0.0, 0.9),
            noise=rng.uniform(1.0, 6.0),
        )
        swing = (rng.uniform(0, EXPOSURE_SWING), rng.uniform(0, 2 * math.pi))
        return self.camera_type(vary_mount(self._mount, rng), optics, self.world, rng), swing


def vary_mount(mount: Mount, rng: np.random.Generator) -> Mount:
    """The same camera screwed on by another hand: a little higher, more tilted, with another lens of its kind."""
    return dataclasses.replace(
        mount,
        pitch_deg=mount.pitch_deg + rng.normal(0, 1.2),
        roll_deg=mount.roll_deg + rng.normal(0, 0.8),
        height_m=mount.height_m * rng.uniform(0.92, 1.08),
        lens=min(max(mount.lens + rng.uniform(-0.15, 0.15), 0.05), 1.0),
    )

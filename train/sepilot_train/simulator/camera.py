"""A camera over flat ground: where each pixel looks, and what it sees there.

Vehicle frame: x forward, y right, z up, origin on the ground under the middle of the rear axle.
Lens: a ray at angle theta to the optical axis lands r = f * tan(a * theta) / a pixels from the centre. a = 1 is a
pinhole (rectilinear), a = 0.5 stereographic, a near 0 an equidistant fisheye; both directions are closed forms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.opencv import cv2
from sepilot_train.simulator.world import PANORAMA_STEP_DEG, PANORAMA_TOP_DEG, World

__all__ = ["Camera", "Mount", "Optics"]

Floats = NDArray[np.float64]
Picture = NDArray[Any]
"""uint8 BGR. OpenCV's stubs do not tell the type of what comes back."""

FARTHEST_M = 16.0
"""Ground beyond it is haze."""
SHARPNESS = 0.6
"""Texels per pixel along the ray at which the next coarser picture of the ground is taken."""
POST_NEAREST_M, POST_FARTHEST_M = 0.35, 8.0
NOISE_MARGIN = 64
ONE_MAP: Any = None
"""In place of the second map where the first holds both coordinates. OpenCV's stubs know no None here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """Size, lens and place of a camera.

    Attributes:
        field_of_view_deg: horizontal, edge to edge.
        lens: a of the lens formula, in (0, 1].
        pitch_deg: downwards.
        roll_deg: clockwise as seen from behind the camera.
        forward_m: ahead of the rear axle.
    """

    width_px: int = 160
    height_px: int = 120
    field_of_view_deg: float = 100.0
    lens: float = 0.7
    height_m: float = 0.20
    pitch_deg: float = 14.0
    roll_deg: float = 0.0
    forward_m: float = 0.10


@dataclass(frozen=True, slots=True, kw_only=True)
class Optics:
    """What lens and sensor do to the light: gain per channel (B, G, R), vignetting, blur and noise."""

    gain_bgr: tuple[float, float, float] = (1.0, 1.0, 1.0)
    vignette: float = 0.0
    blur_px: float = 0.0
    noise: float = 0.0


class Camera:
    """Draws what a mount sees of a world. Owns the rays of its pixels, computed once."""

    def __init__(self, mount: Mount, optics: Optics, world: World, rng: np.random.Generator) -> None:
        self.mount, self._world = mount, world
        self._focal_px = _focal_px(mount)
        forward, right, up = self._rays()
        distance = np.full(up.shape, np.inf)
        falling = up < -mount.height_m / FARTHEST_M
        distance[falling] = mount.height_m / -up[falling]
        reach = np.where(falling, distance, 0.0)
        self.ground_m = np.stack([reach * forward + mount.forward_m, reach * right], axis=2).astype(np.float32)
        """(height, width, 2): x, y on the ground in the vehicle frame; not valid where `sees_ground` is false."""
        self.sees_ground: NDArray[np.bool_] = falling
        clear = np.where(falling, np.exp(-world.haze_per_m * reach), 0.0).astype(np.float32)
        self._first_row = int(falling.any(axis=1).argmax())
        self._clear, self._hazy = clear[self._first_row :], 1 - clear[self._first_row :]
        self._bands = self._row_bands(reach)
        self._sky_rows = int((clear.min(axis=1) < 0.99).nonzero()[0].max(initial=-1)) + 1
        self._sky_map = _sky_map(forward, right, up)[: self._sky_rows]
        self._light, self._full = _light_map(mount, optics)
        self._blur_px = optics.blur_px
        self._post_sizes = np.array([(post.width_m, post.height_m) for post in world.posts]).reshape(-1, 2)
        self._noise, self._noise_rng = _noise_tile(mount, optics.noise, rng), rng

    def render(self, x_m: float, y_m: float, yaw_rad: float, exposure: float = 1.0) -> Picture:
        """The frame, (height_px, width_px, 3) uint8 BGR, with the rear axle at a pose on the map of `track.py`."""
        frame = self.scene(x_m, y_m, yaw_rad)
        self._draw_posts(frame, x_m, y_m, yaw_rad)
        return self.develop(frame, exposure)

    def develop(self, frame: Picture, exposure: float = 1.0) -> Picture:
        """What lens and sensor make of a scene, (height_px, width_px, 3) uint8 BGR."""
        if self._blur_px > 0.2:
            frame = cv2.GaussianBlur(frame, (3, 3), self._blur_px)
        frame = cv2.multiply(frame, self._light, scale=exposure * self._full / 255)
        top, left = self._noise_rng.integers(0, NOISE_MARGIN, 2)
        grain = self._noise[top : top + self.mount.height_px, left : left + self.mount.width_px]
        # The grain is centred at 128, so that a saturating sum of bytes can darken as well.
        noisy: Picture = cv2.addWeighted(frame, 1.0, grain, 1.0, -128.0)
        return noisy

    def project(self, points_m: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Points (n, 3) of the vehicle frame to pixels (n, 2), and which of them the lens can see at all."""
        mount = self.mount
        pitch, roll = math.radians(mount.pitch_deg), math.radians(mount.roll_deg)
        ahead, right, up = points_m[:, 0] - mount.forward_m, points_m[:, 1], points_m[:, 2] - mount.height_m
        forward = math.cos(pitch) * ahead - math.sin(pitch) * up
        down = -math.sin(pitch) * ahead - math.cos(pitch) * up
        across = math.cos(roll) * right + math.sin(roll) * down
        below = -math.sin(roll) * right + math.cos(roll) * down
        off_axis = np.maximum(np.hypot(across, below), 1e-9)
        theta = np.arctan2(off_axis, forward)
        seen = theta < min(math.pi / 2 / mount.lens, math.pi) - 0.1
        scale = np.tan(mount.lens * np.where(seen, theta, 0.0)) / mount.lens * self._focal_px / off_axis
        centre = ((mount.width_px - 1) / 2, (mount.height_px - 1) / 2)
        return np.stack([across * scale + centre[0], below * scale + centre[1]], axis=1), seen

    def _rays(self) -> tuple[Floats, Floats, Floats]:
        """Unit direction of every pixel in the vehicle frame: forward, right, up."""
        mount = self.mount
        v, u = np.mgrid[0 : mount.height_px, 0 : mount.width_px].astype(np.float64)
        x = (u - (mount.width_px - 1) / 2) / self._focal_px
        y = (v - (mount.height_px - 1) / 2) / self._focal_px
        r = np.maximum(np.hypot(x, y), 1e-9)
        theta = np.arctan(mount.lens * r) / mount.lens
        across, below, ahead = np.sin(theta) * x / r, np.sin(theta) * y / r, np.cos(theta)
        pitch, roll = math.radians(mount.pitch_deg), math.radians(mount.roll_deg)
        right = math.cos(roll) * across - math.sin(roll) * below
        down = math.sin(roll) * across + math.cos(roll) * below
        forward = math.cos(pitch) * ahead - math.sin(pitch) * down
        up = -math.sin(pitch) * ahead - math.cos(pitch) * down
        return forward, right, up

    def _row_bands(self, reach: Floats) -> list[tuple[int, int, int]]:
        """Rows (first, end, level of the ground's pyramid), neighbours of one level taken together."""
        texels = reach**2 / (self.mount.height_m * self._focal_px) / self._world.texel_m * SHARPNESS
        level = np.log2(np.maximum(texels, 1.0))
        last = len(self._world.ground) - 1
        bands: list[tuple[int, int, int]] = []
        for row in range(self._first_row, self.mount.height_px):
            median = min(round(float(np.median(level[row][self.sees_ground[row]]))), last)
            if bands and bands[-1][2] == median:
                bands[-1] = (bands[-1][0], row + 1, median)
            else:
                bands.append((row, row + 1, median))
        return bands

    def scene(self, x_m: float, y_m: float, yaw_rad: float) -> Picture:
        """Ground, haze, hills and sky, before lens and sensor."""
        world, first = self._world, self._first_row
        sky = np.empty((self.mount.height_px, self.mount.width_px, 3), np.uint8)
        turned = math.degrees(yaw_rad) % 360 / PANORAMA_STEP_DEG
        shift = np.array([[1, 0, turned], [0, 1, 0]], np.float32)
        where = cv2.transform(self._sky_map, shift)
        sky[: self._sky_rows] = cv2.remap(
            world.panorama, where, ONE_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        ground = np.empty((self.mount.height_px - first, self.mount.width_px, 3), np.uint8)
        cos, sin = math.cos(yaw_rad), math.sin(yaw_rad)
        place = np.array([[cos, -sin, x_m - world.origin_m[0]], [sin, cos, y_m - world.origin_m[1]]])
        for top, end, level in self._bands:
            to_texels = (place / (world.texel_m * 2**level)).astype(np.float32)
            where = cv2.transform(self.ground_m[top:end], to_texels)
            ground[top - first : end - first] = cv2.remap(
                world.ground[level],
                where,
                ONE_MAP,
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=world.verge_bgr,
            )
        mixed = max(self._sky_rows - first, 0)
        sky[first : first + mixed] = cv2.blendLinear(
            ground[:mixed], sky[first : first + mixed], self._clear[:mixed], self._hazy[:mixed]
        )
        sky[first + mixed :] = ground[mixed:]
        return sky

    def _draw_posts(self, frame: Picture, x_m: float, y_m: float, yaw_rad: float) -> None:
        """Upright boards that face the camera, farthest first."""
        posts = self._world.posts
        if not posts:
            return
        cos, sin = math.cos(yaw_rad), math.sin(yaw_rad)
        away = self._world.posts_at_m - (x_m, y_m)
        ahead, right = away @ (cos, sin), away @ (-sin, cos)
        in_view = (ahead > POST_NEAREST_M) & (ahead < POST_FARTHEST_M) & (np.abs(right) < 2.5 * ahead)
        order = np.flatnonzero(in_view)
        order = order[np.argsort(-ahead[order])]
        if not len(order):
            return
        corners = _corners(self._post_sizes[order], ahead[order], right[order])
        pixels, seen = self.project(corners)
        # cv2 takes sixteenths of a pixel, so that a post does not jump as the car drives.
        fixed = np.clip(np.round(pixels * 16), -30000, 30000).astype(np.int32).reshape(-1, 4, 2)
        whole: NDArray[np.bool_] = seen.reshape(-1, 4).min(axis=1)
        for i, quad, visible in zip(order, fixed, whole, strict=True):
            if visible:
                clear = math.exp(-self._world.haze_per_m * ahead[i])
                color = tuple(
                    clear * c + (1 - clear) * h for c, h in zip(posts[i].bgr, self._world.haze_bgr, strict=True)
                )
                cv2.fillConvexPoly(frame, quad, color, cv2.LINE_AA, 4)


def _focal_px(mount: Mount) -> float:
    half = math.radians(mount.field_of_view_deg) / 2
    return mount.width_px / 2 * mount.lens / math.tan(mount.lens * half)


def _corners(sizes: Floats, ahead: Floats, right: Floats) -> Floats:
    """Boards (n, 2: width, height) that stand at places of the vehicle frame and face it: corners (4 n, 3) there."""
    half = sizes[:, 0] / 2 / np.hypot(ahead, right)
    dx, dy, ground, top = -right * half, ahead * half, np.zeros_like(half), sizes[:, 1]
    left, right_side = (ahead - dx, right - dy), (ahead + dx, right + dy)
    corners = [(*left, ground), (*right_side, ground), (*right_side, top), (*left, top)]
    return np.array(corners).transpose(2, 0, 1).reshape(-1, 3)


def _sky_map(forward: Floats, right: Floats, up: Floats) -> NDArray[np.float32]:
    """(height, width, 2) column and row in the panorama with the car heading along the map's x."""
    azimuth = np.degrees(np.arctan2(right, forward))
    elevation = np.degrees(np.arctan2(up, np.hypot(forward, right)))
    column = (azimuth + 180) / PANORAMA_STEP_DEG
    row = (PANORAMA_TOP_DEG - elevation) / PANORAMA_STEP_DEG
    return np.stack([column, row], axis=2).astype(np.float32)


def _light_map(mount: Mount, optics: Optics) -> tuple[Picture, float]:
    """Gain and vignetting per pixel and channel as bytes, and the gain that 255 stands for."""
    v, u = np.mgrid[0 : mount.height_px, 0 : mount.width_px].astype(np.float64)
    centre = np.array([(mount.width_px - 1) / 2, (mount.height_px - 1) / 2])
    radius = np.hypot(u - centre[0], v - centre[1]) / np.hypot(*centre)
    gain = (1 - optics.vignette * radius**2)[..., None] * np.array(optics.gain_bgr)
    full = float(gain.max())
    return np.round(gain / full * 255).astype(np.uint8), full


def _noise_tile(mount: Mount, sigma: float, rng: np.random.Generator) -> Picture:
    """More grain than a frame needs, centred at 128; every frame takes another part of it."""
    size = (mount.height_px + NOISE_MARGIN, mount.width_px + NOISE_MARGIN, 3)
    grain = rng.standard_normal(size, dtype=np.float32) * sigma + 128
    return np.clip(np.round(grain), 0, 255).astype(np.uint8)

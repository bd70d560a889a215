"""Painting things into a camera's scene, and how much of each is to be seen.

Each is painted on a finer raster of its own, so that its edges cover pixels by shares; what lies behind shows through
by the rest. The nearer hides the farther.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.opencv import cv2
from sepilot_train.simulator.camera import Camera
from sepilot_train.simulator.signs import sign_face
from sepilot_train.simulator.things import Thing
from sepilot_train.simulator.world import World

__all__ = ["Pose", "Seen", "Sun", "paint", "projected"]

Array = NDArray[np.float64]
Picture = NDArray[Any]
"""uint8. OpenCV's stubs do not tell the type of what comes back."""

Pose = tuple[float, float, float]
"""x and y of the rear axle on the map in metres, yaw in radians."""

FINE_PIXELS = 400_000
"""Of the fine raster, at most."""
COVERED = 0.4
"""Share of a pixel from which on it belongs to what is to be seen there."""
SHADOW = 0.45


@dataclass(frozen=True, slots=True, kw_only=True)
class Sun:
    """Where the light comes from on the map: `toward`, a unit vector (3), and the share that comes from all sides."""

    toward: tuple[float, float, float]
    ambient: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """A thing as a picture shows it.

    Attributes:
        box: left, top, right, bottom in pixels from the picture's upper left corner, around what is to be seen.
        visible: share of it that is neither hidden nor outside of the picture.
        points: (x, y) in pixels by name, wherever they lie.
    """

    name: str
    box: tuple[float, float, float, float]
    visible: float
    points: dict[str, tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Layer:
    """A painted thing: its share of pixels (h, w) from `left`, `top` on, inside of the picture."""

    thing: Thing
    left: int
    top: int
    share: NDArray[np.float32]
    whole_px: float


def paint(frame: Picture, camera: Camera, world: World, things: Sequence[Thing], pose: Pose, sun: Sun) -> list[Seen]:
    """Paint into `frame`, the camera's bare scene, in place; gives those in view that have a class, farthest first."""
    away = [math.hypot(thing.x_m - pose[0], thing.y_m - pose[1]) for thing in things]
    # A sign stands a finger before its pole: by the origin alone one could hide the other.
    order = sorted(range(len(things)), key=lambda i: (-away[i], bool(things[i].name)))
    _paint_shadows(frame, camera, things, pose, sun)
    layers = []
    for i in order:
        if (layer := _painted(frame, camera, world, things[i], pose, sun)) is not None:
            layers.append(layer)
    free = np.ones(frame.shape[:2], np.float32)
    seen = []
    for layer in reversed(layers):
        height, width = layer.share.shape
        behind = free[layer.top : layer.top + height, layer.left : layer.left + width]
        left = layer.share * behind
        behind *= 1 - layer.share
        if layer.thing.name and (found := _seen(layer, left, camera, pose)) is not None:
            seen.append(found)
    return seen[::-1]


def projected(camera: Camera, points_m: Array, pose: Pose) -> tuple[Array, bool]:
    """Points (n, 3) of the map to pixels (n, 2), whole numbers in the middle of each; and whether all are before us."""
    x, y, yaw = pose
    cos, sin = math.cos(yaw), math.sin(yaw)
    dx, dy = points_m[:, 0] - x, points_m[:, 1] - y
    vehicle = np.stack([cos * dx + sin * dy, cos * dy - sin * dx, points_m[:, 2]], axis=1)
    pixels, seen = camera.project(vehicle)
    return pixels, bool(seen.all() and (vehicle[:, 0] > camera.mount.forward_m + 0.05).all())


def _on_map(thing: Thing, points_m: Array) -> Array:
    cos, sin = math.cos(thing.yaw_rad), math.sin(thing.yaw_rad)
    turned = points_m @ np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    return np.asarray(turned + np.array([thing.x_m, thing.y_m, 0.0]))


def _painted(
    frame: Picture, camera: Camera, world: World, thing: Thing, pose: Pose, sun: Sun
) -> _Layer | None:  # fmt: skip
    """Paint one thing; None where nothing of it is in view."""
    corners = _on_map(thing, np.concatenate([face.corners_m for face in thing.faces]))
    pixels, before = projected(camera, corners, pose)
    if not before:
        return None
    low, high = np.floor(pixels.min(axis=0)).astype(int) - 1, np.ceil(pixels.max(axis=0)).astype(int) + 2
    height, width = frame.shape[:2]
    left, top, right, bottom = max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)
    if left >= right or top >= bottom or math.prod(high - low) > FINE_PIXELS:
        return None
    fine = 4 if math.prod(high - low) * 16 <= FINE_PIXELS else 2 if math.prod(high - low) * 4 <= FINE_PIXELS else 1
    whole = np.zeros((*((high - low)[::-1] * fine), 4), np.uint8)
    eye = _eye(camera, pose)
    at = 0
    for face in thing.faces:
        end = at + len(face.corners_m)
        places = (pixels[at:end] + 0.5 - low) * fine - 0.5
        _paint_face(whole, face.sign, places, _lit(face.bgr, corners[at:end], thing, eye, sun))
        at = end
    coarse = cv2.resize(whole, tuple((high - low).tolist()), interpolation=cv2.INTER_AREA) if fine > 1 else whole
    part = coarse[top - low[1] : bottom - low[1], left - low[0] : right - low[0]].astype(np.float32)
    share = part[..., 3] / np.float32(255)
    clear = math.exp(-world.haze_per_m * math.hypot(thing.x_m - pose[0], thing.y_m - pose[1]))
    color = clear * part[..., :3] + (1 - clear) * share[..., None] * np.array(world.haze_bgr, np.float32)
    behind = frame[top:bottom, left:right]
    behind[:] = np.clip(np.round(behind * (1 - share[..., None]) + color), 0, 255)
    return _Layer(thing=thing, left=left, top=top, share=share, whole_px=float(coarse[..., 3].sum()) / 255)


def _paint_face(whole: Picture, sign: str, places: Array, color: tuple[float, ...] | None) -> None:
    """On the fine raster, premultiplied: what is not covered is black and counts nothing."""
    if color is None:
        return
    if not sign:
        corners = np.clip(np.round(places * 16), -1_000_000, 1_000_000).astype(np.int32)
        cv2.fillPoly(whole, [corners], (*color, 255), cv2.LINE_8, 4)
        return
    longest = float(np.hypot(*(places - np.roll(places, 1, axis=0)).T).max())
    side = 128 if longest > 90 else 64 if longest > 40 else 32
    edge = side - 0.5
    source = np.array([(-0.5, -0.5), (edge, -0.5), (edge, edge), (-0.5, edge)], np.float32)
    to_places = cv2.getPerspectiveTransform(source, places.astype(np.float32))
    size = (whole.shape[1], whole.shape[0])
    face = cv2.warpPerspective(sign_face(sign, side), to_places, size, flags=cv2.INTER_LINEAR)
    inside = face[..., 3] >= 128
    whole[..., :3] = np.where(inside[..., None], np.asarray(face)[..., :3] * (np.array(color) / 255), 0)
    whole[..., 3] = np.where(inside, 255, 0)


def _lit(
    bgr: tuple[float, float, float], corners: Array, thing: Thing, eye: Array, sun: Sun
) -> tuple[float, ...] | None:  # fmt: skip
    """The colour of a face in this light; None where it is seen from behind."""
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    middle = corners.mean(axis=0)
    if normal @ (middle - (thing.x_m, thing.y_m, 0.0)) < 0:
        normal = -normal
    if normal @ (eye - middle) <= 0:
        return None
    bright = sun.ambient + (1 - sun.ambient) * max(0.0, float(normal @ sun.toward) / float(np.linalg.norm(normal)))
    return tuple(min(255.0, c * 1.15 * bright) for c in bgr)


def _eye(camera: Camera, pose: Pose) -> Array:
    x, y, yaw = pose
    ahead = camera.mount.forward_m
    return np.array([x + ahead * math.cos(yaw), y + ahead * math.sin(yaw), camera.mount.height_m])


def _paint_shadows(frame: Picture, camera: Camera, things: Sequence[Thing], pose: Pose, sun: Sun) -> None:
    """On the ground, where the light cannot reach it."""
    dark = np.zeros(frame.shape[:2], np.uint8)
    for thing in things:
        corners = _on_map(thing, np.concatenate([face.corners_m for face in thing.faces]))
        corners[:, :2] -= corners[:, 2:] / sun.toward[2] * np.array(sun.toward[:2])
        corners[:, 2] = 0
        pixels, before = projected(camera, corners, pose)
        if before:
            hull = cv2.convexHull(np.round(np.clip(pixels, -2000, 2000) * 16).astype(np.int32))
            cv2.fillConvexPoly(dark, hull, round(255 * SHADOW), cv2.LINE_AA, 4)
    if dark.any():
        light = cv2.cvtColor(255 - cv2.GaussianBlur(dark, (5, 5), 0), cv2.COLOR_GRAY2BGR)
        frame[:] = cv2.multiply(frame, light, scale=1 / 255)


def _seen(layer: _Layer, left: NDArray[np.float32], camera: Camera, pose: Pose) -> Seen | None:
    rows, columns = (np.flatnonzero((left >= COVERED).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    box = (layer.left + columns[0], layer.top + rows[0], layer.left + columns[-1] + 1, layer.top + rows[-1] + 1)
    names = list(layer.thing.points_m)
    pixels, _ = projected(camera, _on_map(layer.thing, np.array([layer.thing.points_m[name] for name in names])), pose)
    return Seen(
        name=layer.thing.name,
        box=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
        visible=float(left.sum()) / max(layer.whole_px, 1e-6),
        points={name: (float(x + 0.5), float(y + 0.5)) for name, (x, y) in zip(names, pixels, strict=True)},
    )

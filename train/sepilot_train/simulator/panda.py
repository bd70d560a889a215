"""The built-in simulator's worlds drawn by Panda3D: the same ground, posts, sky and camera pose, another rasterizer.

It is the cross-check of our own camera's geometry. Both pictures come from the same textures and get the same
exposure, blur and noise; everything between, where a point of the world lands in the picture, is Panda3D's. Its lens is
a pinhole.
`p3tinydisplay` rasterizes in software: no graphics driver, no display.

Panda3D's axes are x east, y north, z up, with angles anticlockwise; the map's y points south and its angles clockwise.

Source: https://docs.panda3d.org/1.10/python/
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import MissingExtraError, SepilotError
from sepilot_runtime.base.opencv import cv2
from sepilot_train.simulator.builtin import BuiltinSimulator
from sepilot_train.simulator.camera import Camera, Mount, Optics
from sepilot_train.simulator.panda_scene import make_scene
from sepilot_train.simulator.world import World

__all__ = ["PandaCamera", "PandaSimulator"]

FINER = 2
"""Drawn so many times larger: the rasterizer takes the nearest texel, so neighbours are averaged here."""
LEAST_CONTRAST = 2.0
"""Standard deviation of a frame, in gray levels, below which nothing can have been drawn."""


class PandaCamera(Camera):
    """A `Camera` whose scene Panda3D draws. A mount's lens is replaced by a pinhole of the same field of view."""

    def __init__(self, mount: Mount, optics: Optics, world: World, rng: np.random.Generator) -> None:
        """
        Raises:
            MissingExtraError: Panda3D is not installed.
            SepilotError: it cannot open a picture in memory here.
        """
        super().__init__(dataclasses.replace(mount, lens=1.0), optics, world, rng)
        self._stage = open_stage(mount.width_px, mount.height_px)
        self._graphs = make_scene(world)
        self._graphs.mount_camera(self.mount)
        veil = self._stage.render(self._graphs.veil.camera)[..., 0].astype(np.float32) / 255
        self._air, self._view = veil, 1 - veil
        self._haze = np.full((mount.height_px, mount.width_px, 3), world.haze_bgr, np.float64).astype(np.uint8)

    def scene(self, x_m: float, y_m: float, yaw_rad: float) -> NDArray[np.uint8]:
        self._graphs.place_car(x_m, y_m, yaw_rad)
        land = self._stage.render(self._graphs.land.camera)[..., :3]
        if land[::4, ::4].std() < LEAST_CONTRAST:
            raise SepilotError("panda3d: the frame is empty; nothing was drawn")
        hazy = cv2.blendLinear(land, self._haze, self._view, self._air)
        posts = self._stage.render(self._graphs.posts.camera)
        solid = posts[..., 3].astype(np.float32) / 255
        return np.asarray(cv2.blendLinear(np.ascontiguousarray(posts[..., :3]), hazy, solid, 1 - solid), np.uint8)

    def _draw_posts(self, frame: NDArray[np.uint8], x_m: float, y_m: float, yaw_rad: float) -> None:
        """They are in the scene already."""


class PandaSimulator(BuiltinSimulator):
    """The built-in simulator with Panda3D's picture; track, car and expert are unchanged."""

    name = "panda3d"
    camera_type = PandaCamera


class Stage:
    """An off-screen buffer. Panda3D keeps one graphics engine per process, so buffers are kept, too."""

    def __init__(self, width_px: int, height_px: int) -> None:
        from panda3d import core

        self._size = (width_px, height_px)
        core.load_prc_file_data("", "load-display p3tinydisplay\naudio-library-name null\nnotify-level error\n")
        pipes = core.GraphicsPipeSelection.get_global_ptr()
        pipes.get_num_pipe_types()  # Loads the module. Asking it for its default pipe would look for an X display.
        pipe = pipes.make_pipe(core.TypeRegistry.ptr().find_type("TinyOffscreenGraphicsPipe"))
        self._engine = core.GraphicsEngine.get_global_ptr()
        wanted = core.FrameBufferProperties()
        wanted.rgb_color, wanted.color_bits, wanted.alpha_bits, wanted.depth_bits = True, 24, 8, 24
        size = core.WindowProperties.size(width_px * FINER, height_px * FINER)
        refuse_window = core.GraphicsPipe.BF_refuse_window
        buffer = pipe and self._engine.make_output(pipe, "camera", 0, wanted, size, refuse_window)
        if not buffer:
            raise SepilotError("panda3d: its software renderer p3tinydisplay cannot draw into memory on this machine")
        buffer.set_clear_color((0, 0, 0, 0))
        self._picture = core.Texture()
        buffer.add_render_texture(self._picture, core.GraphicsOutput.RTM_copy_ram)
        self._region = buffer.make_display_region()

    def render(self, camera: Any) -> NDArray[np.uint8]:
        """(height, width, 4) uint8 BGRA of what a camera sees; alpha 0 where nothing was drawn."""
        self._region.set_camera(camera)
        self._engine.render_frame()
        width, height = self._size
        pixels = np.frombuffer(self._picture.get_ram_image_as("BGRA"), np.uint8)
        pixels = pixels.reshape(height * FINER, width * FINER, 4)
        return np.ascontiguousarray(cv2.resize(pixels, self._size, interpolation=cv2.INTER_AREA)[::-1])


@lru_cache
def open_stage(width_px: int, height_px: int) -> Stage:
    """The off-screen buffer of a size.

    Raises:
        MissingExtraError: Panda3D is not installed.
        SepilotError: it cannot open a picture in memory here.
    """
    try:
        return Stage(width_px, height_px)
    except ModuleNotFoundError as e:
        raise MissingExtraError("panda3d", "sim3d") from e

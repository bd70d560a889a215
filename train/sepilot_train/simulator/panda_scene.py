"""A world as a Panda3D scene graph: the ground in tiles, haze, posts and the sky's dome.

Panda3D's axes are x east, y north, z up, angles anticlockwise; the map's y points south and its angles clockwise.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.opencv import cv2
from sepilot_train.simulator.camera import FARTHEST_M, POST_FARTHEST_M, POST_NEAREST_M, Mount
from sepilot_train.simulator.world import PANORAMA_STEP_DEG, PANORAMA_TOP_DEG, World

__all__ = ["Scene", "make_scene"]

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]

TILE = 256
"""Texels along a ground tile. p3tinydisplay draws white where a texture is no power of two, or 4096 and more."""
TILE_CELLS = 4
"""Squares along a tile. The rasterizer interpolates within a triangle, the better the smaller."""
PANORAMA_SIZE = (1024, 128)
DOME_M = 40.0
NEAREST_M = 0.02


class Scene:
    """Three graphs of one world: the land with its sky, the posts, the haze. Their cameras stand in one place."""

    def __init__(self, world: World) -> None:
        from panda3d import core

        self._world = world
        self._lens = core.PerspectiveLens()
        self._lens.set_near_far(NEAREST_M, 2 * DOME_M)
        self.land, self.posts, self.veil = (_View(self._lens) for _ in range(3))
        # What stays around the car wherever it drives: the rim of the visible ground, and the sky.
        self._around = self.land.root.attach_new_node("around")
        _layer(_dome(world.panorama), 0).reparent_to(self._around)
        _layer(_disc(world.verge_bgr), 1).reparent_to(self._around)
        for tile in _tiles(world):
            _layer(tile, 2).reparent_to(self.land.root)
        self._boards = [_layer(_board(post.width_m, post.height_m), 0) for post in world.posts]
        self._veil = _layer(_veil(world.haze_per_m), 0)
        self._veil.reparent_to(self.veil.root)

    def mount_camera(self, mount: Mount) -> None:
        """Put the cameras where a mount says; their lens is a pinhole."""
        focal_px = mount.width_px / 2 / math.tan(math.radians(mount.field_of_view_deg) / 2)
        self._lens.set_film_size(mount.width_px, mount.height_px)
        self._lens.set_focal_length(focal_px)
        for view in (self.land, self.posts, self.veil):
            view.camera.set_pos(0, mount.forward_m, mount.height_m)
            view.camera.set_hpr(0, -mount.pitch_deg, mount.roll_deg)
        self._veil.set_pos(0, mount.forward_m, 0)

    def place_car(self, x_m: float, y_m: float, yaw_rad: float) -> None:
        """Put the rear axle at a pose on the map of `track.py`."""
        for view in (self.land, self.posts):
            view.car.set_pos(x_m, -y_m, 0)
            view.car.set_h(_heading(yaw_rad))
        eye = self.land.camera.get_pos(self.land.root)
        self._around.set_pos(eye.x, eye.y, 0)
        self._turn_boards(x_m, y_m, yaw_rad)

    def _turn_boards(self, x_m: float, y_m: float, yaw_rad: float) -> None:
        """Let the posts in view face the rear axle, coloured by the haze between, the farther drawn first."""
        world = self._world
        for post, place, board in zip(world.posts, world.posts_at_m, self._boards, strict=True):
            dx, dy = place - (x_m, y_m)
            ahead = math.cos(yaw_rad) * dx + math.sin(yaw_rad) * dy
            if not POST_NEAREST_M < ahead < POST_FARTHEST_M:
                board.detach_node()
                continue
            board.reparent_to(self.posts.root)
            board.set_pos(post.x_m, -post.y_m, 0)
            board.set_h(_heading(math.atan2(dy, dx)))
            board.set_bin("fixed", -round(ahead * 100))
            clear = math.exp(-world.haze_per_m * ahead)
            mixed = clear * np.array(post.bgr) + (1 - clear) * np.array(world.haze_bgr)
            board.set_color(*(mixed[::-1] / 255), 1)


class _View:
    """A graph of its own with a car and, on it, a camera."""

    def __init__(self, lens: Any) -> None:
        from panda3d import core

        self.root = core.NodePath("root")
        self.car = self.root.attach_new_node("car")
        self.camera = self.car.attach_new_node(core.Camera("camera", lens))


@lru_cache(maxsize=2)
def make_scene(world: World) -> Scene:
    """The scene of a world; the last two stay in memory, as their textures take time."""
    return Scene(world)


def _heading(yaw_rad: float) -> float:
    """Panda3D's h, 0 = north and anticlockwise, of a yaw on the map, 0 = east and clockwise."""
    return -math.degrees(yaw_rad) - 90.0


def _layer(node: Any, order: int) -> Any:
    """Layers of the ground lie in one plane, so their order decides and not depth."""
    node.set_bin("fixed", order)
    node.set_depth_test(False)
    node.set_depth_write(False)
    node.set_two_sided(True)
    return node


def _tiles(world: World) -> list[Any]:
    """The ground as squares with a texture each; beyond the map the verge's colour."""
    ground = world.ground[0]
    rows, columns = (-(-side // TILE) for side in ground.shape[:2])
    padded = np.full((rows * TILE, columns * TILE, 3), world.verge_bgr, np.uint8)
    padded[: ground.shape[0], : ground.shape[1]] = ground
    tiles = []
    side = TILE * world.texel_m
    for row in range(rows):
        for column in range(columns):
            picture = padded[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
            # Places are those of texel centres, so a tile begins half a texel before its first.
            west, north = world.origin_m + (np.array([column, row]) * TILE - 0.5) * world.texel_m
            steps = np.linspace(0, 1, TILE_CELLS + 1)
            u, v = np.meshgrid(steps, steps)
            places = np.stack([west + u * side, -(north + v * side), np.zeros_like(u)], axis=2)
            tile = _sheet(places, texture_at=np.stack([u, 1 - v], axis=2))
            tile.set_texture(_texture(picture))
            tiles.append(tile)
    return tiles


def _disc(bgr: tuple[float, float, float]) -> Any:
    """Ground as far as it can be seen."""
    disc = _sheet(_rings(np.array([0.0, FARTHEST_M])))
    disc.set_color(*(np.array(bgr)[::-1] / 255), 1)
    return disc


def _veil(haze_per_m: float) -> Any:
    """How much haze lies before the ground: black for none, white for nothing else, around the camera."""
    distances = np.concatenate([[0.0], np.geomspace(0.1, FARTHEST_M, 40)])
    rings = _rings(distances)
    color = np.ones((*rings.shape[:2], 4))
    color[..., :3] = (1 - np.exp(-haze_per_m * distances))[:, None, None]
    return _sheet(rings, color=color)


def _rings(distances: Floats, sectors: int = 48) -> Floats:
    """(len(distances), sectors + 1, 3) circles on the ground."""
    angle = np.linspace(0, math.tau, sectors + 1)
    circle = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=1)
    rings: Floats = distances[:, None, None] * circle
    return rings


def _dome(panorama: Picture) -> Any:
    """The panorama's first turn on a sphere, by azimuth and elevation."""
    turn = panorama[:, : panorama.shape[1] // 2]
    bottom = PANORAMA_TOP_DEG - len(turn) * PANORAMA_STEP_DEG
    u, v = np.meshgrid(np.linspace(0, 1, 91), np.linspace(0, 1, 21))
    # Column 0 looks along the map's -x; columns grow clockwise.
    azimuth = u * math.tau - math.pi
    elevation = np.radians(bottom + v * (PANORAMA_TOP_DEG - bottom))
    level = np.cos(elevation)
    places = DOME_M * np.stack([level * np.cos(azimuth), -level * np.sin(azimuth), np.sin(elevation)], axis=2)
    dome = _sheet(places, texture_at=np.stack([u, v], axis=2))
    dome.set_texture(_texture(np.asarray(cv2.resize(turn, PANORAMA_SIZE, interpolation=cv2.INTER_AREA), np.uint8)))
    return dome


def _board(width_m: float, height_m: float) -> Any:
    """An upright board facing -y, its foot in the origin."""
    half = width_m / 2
    return _sheet(np.array([[[-half, 0, 0], [half, 0, 0]], [[-half, 0, height_m], [half, 0, height_m]]]))


def _texture(picture: Picture) -> Any:
    """A mipmapped texture of a picture (h, w, 3) BGR.

    Raises:
        ValueError: a size that the rasterizer would draw white.
    """
    from panda3d import core

    height, width = picture.shape[:2]
    if any(side & (side - 1) or side >= 4096 for side in (height, width)):
        raise ValueError(f"powers of two below 4096 expected, found a texture of {width} x {height}")
    texture = core.Texture()
    texture.setup_2d_texture(width, height, core.Texture.T_unsigned_byte, core.Texture.F_rgb)
    texture.set_ram_image_as(np.ascontiguousarray(picture[::-1]).tobytes(), "BGR")
    texture.set_minfilter(core.SamplerState.FT_linear_mipmap_nearest)
    texture.set_magfilter(core.SamplerState.FT_linear)
    texture.set_wrap_u(core.SamplerState.WM_clamp)
    texture.set_wrap_v(core.SamplerState.WM_clamp)
    return texture


def _sheet(places: Floats, *, texture_at: Floats | None = None, color: Floats | None = None) -> Any:
    """A mesh of a grid of corners (rows, columns, 3), with texture places (…, 2) or RGBA (…, 4) where given."""
    from panda3d import core

    rows, columns = places.shape[:2]
    if texture_at is not None:
        layout, values = core.GeomVertexFormat.get_v3t2(), np.concatenate([places, texture_at], axis=2)
    else:
        layout, values = core.GeomVertexFormat.get_v3(), places
    if color is not None:
        layout = core.GeomVertexFormat.get_v3c4()
    data = core.GeomVertexData("sheet", layout, core.Geom.UH_static)
    data.set_num_rows(rows * columns)
    if color is None:
        data.modify_array_handle(0).copy_data_from(values.reshape(-1, values.shape[2]).astype(np.float32).tobytes())
    else:
        place, tint = core.GeomVertexWriter(data, "vertex"), core.GeomVertexWriter(data, "color")
        for corner, rgba in zip(places.reshape(-1, 3), color.reshape(-1, 4), strict=True):
            place.add_data3(*corner)
            tint.add_data4(*rgba)
    triangles = core.GeomTriangles(core.Geom.UH_static)
    for row in range(rows - 1):
        for column in range(columns - 1):
            a = row * columns + column
            triangles.add_vertices(a, a + 1, a + columns)
            triangles.add_vertices(a + 1, a + columns + 1, a + columns)
    geometry = core.Geom(data)
    geometry.add_primitive(triangles)
    node = core.GeomNode("sheet")
    node.add_geom(geometry)
    return core.NodePath(node)

"""The files of a Donkeycar tub, version 2, as Donkeycar 4 and 5 write them (https://docs.donkeycar.com/parts/stores/).

manifest.json              names and types of the columns, metadata, sessions, catalogs
catalog_<n>.catalog        one JSON row per frame
catalog_<n>.catalog_manifest
images/<n>_cam_image_array_.jpg
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["IMAGES", "ROWS_PER_CATALOG", "catalog_manifest", "image_name", "manifest", "row"]

INPUTS = {"cam/image_array": "image_array", "user/angle": "float", "user/throttle": "float", "user/mode": "str"}
SERVO = "servo/angle"
ROWS_PER_CATALOG = 1000
IMAGES = "images"


def image_name(index: int) -> str:
    """The file name of a frame's picture, inside `IMAGES`."""
    return f"{index}_cam_image_array_.jpg"


def row(
    index: int,
    *,
    session: str,
    time_s: float,
    steering: float,
    throttle: float,
    mode: str,
    servo: float | None = None,
    others: Mapping[str, float] | None = None,
) -> str:
    """One line of a catalog, with its line end.

    Args:
        time_s: since 1970.
        steering: in [-1, 1], + = right.
        servo: what the servo got for it, after trim, gain and limits, where that is known.
        others: further columns.
    """
    values: dict[str, Any] = {
        "_index": index,
        "_session_id": session,
        "_timestamp_ms": round(time_s * 1000),
        "cam/image_array": image_name(index),
        "user/angle": float(steering),
        "user/mode": mode,
        "user/throttle": float(throttle),
    }
    if servo is not None:
        values[SERVO] = float(servo)
    values |= others or {}
    return json.dumps(values, allow_nan=False) + "\n"


def catalog_manifest(name: str, lines: Sequence[str], *, start_index: int, created_s: float) -> str:
    """The text of `<name>_manifest` for a catalog of these lines."""
    values = {
        "created_at": created_s,
        "line_lengths": [len(line.encode()) for line in lines],
        "path": f"{name}_manifest",
        "start_index": start_index,
    }
    return json.dumps(values) + "\n"


def manifest(
    *,
    metadata: Mapping[str, Any],
    sessions: Sequence[str],
    catalogs: Sequence[str],
    count: int,
    created_s: float,
    servo: bool = False,
    others: Sequence[str] = (),
) -> str:
    """The text of manifest.json.

    Args:
        metadata: its `full_scale_deg` tells a reader the wheels' angle at steering 1.
        servo: the rows hold what the servo got.
        others: names of further columns.
    """
    inputs = INPUTS | ({SERVO: "float"} if servo else {}) | dict.fromkeys(others, "float")
    last = {"all_full_ids": list(sessions), "last_id": len(sessions) - 1, "last_full_id": sessions[-1]}
    lines = [
        list(inputs),
        list(inputs.values()),
        dict(metadata),
        {"created_at": created_s, "sessions": last},
        {"paths": list(catalogs), "current_index": count, "max_len": ROWS_PER_CATALOG, "deleted_indexes": []},
    ]
    return "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)

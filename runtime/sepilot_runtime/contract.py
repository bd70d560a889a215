"""The contract: what a model file promises, written into the file itself.

It says what the picture is, what the numbers are, where the model comes from and what proves that it still works.
Training, export, check, bench and drive all read it from the file; there is no second place where a crop or a sign is
written down.

Serialized as canonical JSON (sorted keys, no spaces) with a `digest`, the SHA-256 of the same JSON without it. ONNX
files carry it in `metadata_props`, TFLite files in a metadata buffer, both under `METADATA_KEY`.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.errors import ContractError, FrameError
from sepilot_runtime.likeness import FrameStatistics, Likeness, Spread
from sepilot_runtime.picture import FrameInput, Picture
from sepilot_runtime.schema import parse

__all__ = [
    "CONTRACT_VERSION",
    "METADATA_KEY",
    "Contract",
    "FrameInput",
    "FrameStatistics",
    "Golden",
    "Likeness",
    "Output",
    "Picture",
    "Provenance",
    "Spread",
    "golden_frame",
    "golden_from",
]

CONTRACT_VERSION = "1.2"
"""Major.minor. A reader refuses another major; an unknown key or value of a newer minor is refused by name.

1.1: `picture.resize` may be "exact".
1.2: `statistics.frame_size`, `statistics.flat_rows`, `statistics.likeness.limit`.
"""

METADATA_KEY = "sepilot.contract"

Precision = Literal["float32", "float16", "dynamic", "int8", "int8-float-head"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What one output tensor means.

    Attributes:
        name: the model's output tensor.
        unit, scale: `value * scale` is in `unit` ("deg": full scale 1.0 is `scale` degrees).
        low, high: the range of meaningful values; the runtime clips to it and `check` counts saturation.
        positive: the direction of a positive value.
    """

    name: str = "steering"
    unit: str = "deg"
    scale: float = 25.0
    low: float = -1.0
    high: float = 1.0
    positive: str = "right"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ContractError(f"outputs.{self.name}.scale: must be positive, found {self.scale}")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ContractError(f"outputs.{self.name}: low must lie below high, found {self.low} and {self.high}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """A small frame with the answer that the training model gave to it.

    Attributes:
        frame_png: the BGR frame as PNG, base64.
        expected: output name to value, in the output's own numbers (before `Output.scale`).
        picture_crc32: of the picture that training made of the frame; 0 when it was not recorded. Where the picture is
            resized "linear", an OpenCV of another build may round a pixel differently, which is no fault but moves the
            answer; "exact" pictures are the same everywhere.
    """

    frame_png: str
    expected: Mapping[str, float]
    picture_crc32: int = 0

    def frame_bytes(self) -> bytes:
        """The PNG file.

        Raises:
            ContractError: `frame_png` is not base64.
        """
        try:
            return base64.b64decode(self.frame_png, validate=True)
        except (binascii.Error, ValueError) as e:
            raise ContractError("golden.frame_png: not base64") from e


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a model comes from.

    Attributes:
        recipe: name of the recipe; `recipe_sha256` of its resolved text.
        dataset_fingerprint: SHA-256 over the training drives' names, labels and sizes.
        drives: ids of the drives it was trained on; `validation_drives`, those it was judged on.
        validation: figures such as r2, mae, constant_mae.
        versions: package name to version.
        precision: of this file's weights and arithmetic.
        sparsity: fraction of zero weights.
        created: ISO 8601 time in UTC.
    """

    recipe: str
    recipe_sha256: str
    dataset_fingerprint: str
    drives: tuple[str, ...]
    validation_drives: tuple[str, ...]
    validation: Mapping[str, float]
    versions: Mapping[str, str]
    precision: Precision = "float32"
    sparsity: float = 0.0
    created: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """Everything that a model file promises.

    Attributes:
        task: what the outputs are for; "steering" so far.
        tolerance: largest deviation from `golden` expectations that this precision may show, in output values.
        frame: what the file takes in place of the picture, which it then makes by itself; None where it takes the
            picture. A file without it says nothing about it, as files did before there was such a thing.
    """

    task: str
    picture: Picture
    outputs: tuple[Output, ...]
    provenance: Provenance
    statistics: FrameStatistics | None = None
    golden: tuple[Golden, ...] = ()
    tolerance: float = 1e-3
    frame: FrameInput | None = None
    version: str = field(default=CONTRACT_VERSION)

    def __post_init__(self) -> None:
        if not self.outputs:
            raise ContractError("outputs: at least one is needed, found none")
        if len({o.name for o in self.outputs}) != len(self.outputs):
            raise ContractError("outputs: names must differ")
        if not (math.isfinite(self.tolerance) and 0 < self.tolerance <= 0.2):
            raise ContractError(f"tolerance: must be in (0, 0.2], found {self.tolerance}")

    @property
    def input_name(self) -> str:
        """Of the model's input tensor."""
        return self.frame.name if self.frame else self.picture.name

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Of the model's input tensor: (1, h, w, c)."""
        return (1, *(self.frame.shape if self.frame else self.picture.shape))

    def output(self, name: str) -> Output:
        """The output called `name`.

        Raises:
            ContractError: there is none.
        """
        for output in self.outputs:
            if output.name == name:
                return output
        raise ContractError(f"outputs: {name!r} expected, found {', '.join(o.name for o in self.outputs)}")

    def to_json(self) -> str:
        """Canonical JSON with its digest."""
        body = dataclasses.asdict(self)
        if self.frame is None:
            del body["frame"]
        if self.statistics:
            body["statistics"] = _without_none(body["statistics"])
        return _canonical({**body, "digest": _digest(body)})

    @classmethod
    def from_json(cls, text: str, where: str) -> Contract:
        """Read a contract strictly.

        Args:
            where: the file that it came from, for messages.

        Raises:
            ContractError: not JSON, of another major version, changed since it was written, an unknown or missing key,
                a value of the wrong type or out of range.
        """
        try:
            raw = json.loads(text)
        except json.JSONDecodeError as e:
            raise ContractError(f"{where}: the contract is not JSON ({e.msg} at {e.pos})") from e
        except (ValueError, RecursionError) as e:  # A number of thousands of digits; thousands of brackets.
            raise ContractError(f"{where}: the contract is not JSON that can be read") from e
        if not isinstance(raw, dict):
            raise ContractError(f"{where}: the contract must be a JSON object, found {type(raw).__name__}")
        _require_version(raw.get("version"), where)
        body = {key: value for key, value in raw.items() if key != "digest"}
        if raw.get("digest") != _digest(body):
            raise ContractError(
                f"{where}: the contract's digest does not match its text: it was changed after export; "
                "export the file again"
            )
        try:
            return parse(cls, _with_later_keys(body), "", ContractError, complete=True)
        except ContractError as e:
            raise ContractError(f"{where}: contract: {e}") from e


def golden_from(
    frame: NDArray[np.uint8], expected: Mapping[str, float], pixels: NDArray[np.uint8] | None = None
) -> Golden:
    """Pack a BGR frame (h, w, 3), its expected outputs, and the mark of the picture that they were given to."""
    from sepilot_runtime.opencv import cv2

    ok, png = cv2.imencode(".png", frame, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not ok:
        raise ContractError("golden: the frame cannot be encoded as PNG")
    return Golden(
        frame_png=base64.b64encode(png.tobytes()).decode("ascii"),
        expected=dict(expected),
        picture_crc32=0 if pixels is None else zlib.crc32(pixels.tobytes()),
    )


def golden_frame(golden: Golden) -> NDArray[np.uint8]:
    """The BGR frame (h, w, 3), uint8.

    Raises:
        ContractError: it does not decode.
    """
    from sepilot_runtime.images import decode_image

    try:
        return decode_image(golden.frame_bytes(), "golden.frame_png")
    except FrameError as e:
        raise ContractError(str(e)) from e


def _with_later_keys(body: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that came later, as files have them that do not say."""
    whole = {"frame": None, **body}
    if isinstance(statistics := body.get("statistics"), dict):
        whole["statistics"] = found = {"likeness": None, "frame_size": None, "flat_rows": None, **statistics}
        if isinstance(likeness := found["likeness"], dict):
            found["likeness"] = {"limit": None, **likeness}
    return whole


def _without_none(table: Mapping[str, Any]) -> dict[str, Any]:
    """What is None was not there in files from before there was such a thing, and is not written."""
    return {k: _without_none(v) if isinstance(v, dict) else v for k, v in table.items() if v is not None}


def _canonical(body: Mapping[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(body: Mapping[str, Any]) -> str:
    try:
        return hashlib.sha256(_canonical(body).encode()).hexdigest()
    except ValueError as e:
        raise ContractError(f"contract: {e}") from e


def _require_version(found: object, where: str) -> None:
    expected_major = CONTRACT_VERSION.split(".")[0]
    if not isinstance(found, str) or found.split(".")[0] != expected_major:
        raise ContractError(
            f"{where}: contract version {CONTRACT_VERSION} expected, found {found!r}; export the model again with this "
            "sepilot, or install the one that made the file"
        )

"""The contract: what a model file promises, written into the file itself.

It says what the picture is, what the numbers are, where the model comes from and what proves that it still works.
Training, export, check, bench and drive all read it from the file; there is no second place where a crop or a sign is
written down.

Serialized as canonical JSON (sorted keys, no spaces) with a `digest`, the SHA-256 of the same JSON without it. ONNX
files carry it in `metadata_props`, TFLite files in a metadata buffer, both under `METADATA_KEY`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sized
from dataclasses import dataclass, field
from typing import Any, Literal

from sepilot_runtime.base.caps import CONTRACT_BYTES, GOLDEN_FRAMES, INPUTS, LIST_ENTRIES, OUTPUTS, TEXT_LENGTH
from sepilot_runtime.base.documents import parse, plain
from sepilot_runtime.base.errors import ContractError
from sepilot_runtime.base.terminal import one_line
from sepilot_runtime.contract.golden import Golden, golden_frame, golden_from
from sepilot_runtime.contract.older import of_version_2, of_version_2_1
from sepilot_runtime.contract.outputs.kinds import AnyOutput, Output
from sepilot_runtime.contract.outputs.scalar.output import Scalar
from sepilot_runtime.contract.picture import FrameInput, Picture
from sepilot_runtime.contract.statistics import FrameStatistics, PictureDistribution, WhitenedGaussian
from sepilot_runtime.contract.vector import Vector

__all__ = [
    "CONTRACT_VERSION",
    "METADATA_KEY",
    "Contract",
    "FrameInput",
    "FrameStatistics",
    "Golden",
    "Output",
    "Picture",
    "PictureDistribution",
    "Provenance",
    "Scalar",
    "Vector",
    "WhitenedGaussian",
    "golden_frame",
    "golden_from",
    "require_contract_size",
]

CONTRACT_VERSION = "2.1"
"""Major.minor. A reader refuses a newer major; an unknown key or value of a newer minor is refused by name.

1.1: `picture.resize` may be "exact".
1.2: `statistics.frame_size`, `statistics.flat_rows`, `statistics.likeness.limit`.
2.0: several inputs and outputs, each of a kind; a tolerance for each output. What is of 1.x is read as 2.0.
2.1: `picture.fit`; `vector.one_hot`, `vector.previous`; outputs of the kinds "classes", "boxes", "points" and
"embedding".
"""

METADATA_KEY = "sepilot.contract"

MOST_TOLERANCE = 0.2
"""Of an answer's magnitude: a wider one proves nothing."""

Precision = Literal["float32", "float16", "dynamic", "int8", "int8-float-head"]


Input = Picture | Vector


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

    def __post_init__(self) -> None:
        for name in ("drives", "validation_drives", "validation", "versions"):
            _require_count(f"provenance.{name}", getattr(self, name), LIST_ENTRIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """Everything that a model file promises.

    Attributes:
        inputs: one picture, and vectors.
        tolerance: of each output, by name: the largest deviation from `golden` expectations that this precision may
            show, in output values.
        frame: what the file takes in place of the picture, which it then makes by itself; None where it takes the
            picture.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[AnyOutput, ...]
    provenance: Provenance
    tolerance: Mapping[str, float]
    statistics: FrameStatistics | None = None
    golden: tuple[Golden, ...] = ()
    frame: FrameInput | None = None
    version: str = field(default=CONTRACT_VERSION)

    def __post_init__(self) -> None:
        if sum(isinstance(i, Picture) for i in self.inputs) != 1:
            raise ContractError("inputs: one picture expected")
        _require_count("inputs", self.inputs, INPUTS)
        if not self.outputs:
            raise ContractError("outputs: at least one is needed, found none")
        _require_count("outputs", self.outputs, OUTPUTS)
        _require_count("golden", self.golden, GOLDEN_FRAMES)
        for what, entries in (("inputs", self.inputs), ("outputs", self.outputs)):
            if len({entry.name for entry in entries}) != len(entries):
                raise ContractError(f"{what}: names must differ")
        if set(self.tolerance) != {o.name for o in self.outputs}:
            raise ContractError(f"tolerance: one for each of {', '.join(o.name for o in self.outputs)} expected")
        for output in self.outputs:
            found, most = self.tolerance[output.name], MOST_TOLERANCE * output.magnitude
            if not (math.isfinite(found) and 0 < found <= most):
                raise ContractError(f"tolerance.{output.name}: must be in (0, {most:g}], found {found}")

    @property
    def picture(self) -> Picture:
        """The input that is one."""
        return next(i for i in self.inputs if isinstance(i, Picture))

    @property
    def vectors(self) -> tuple[Vector, ...]:
        """The other inputs."""
        return tuple(i for i in self.inputs if isinstance(i, Vector))

    @property
    def input_name(self) -> str:
        """Of the model's input tensor."""
        return self.frame.name if self.frame else self.picture.name

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Of the model's input tensor: (1, h, w, c)."""
        return (1, *(self.frame.shape if self.frame else self.picture.shape))

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the model's output tensors, without the batch, by their names."""
        return {name: shape for output in self.outputs for name, shape in output.tensors.items()}

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
        body = plain(self)
        return _canonical({**body, "digest": _digest(body)})

    @classmethod
    def from_json(cls, text: str, where: str) -> Contract:
        """Read a contract strictly.

        Args:
            where: the file that it came from, for messages.

        Raises:
            ContractError: not JSON, of another major version, changed since it was written, an unknown or missing key,
                a value of the wrong type or out of range, a text that no terminal shows, larger than caps.py allows.
        """
        require_contract_size(len(text), where)
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
            _require_plain(body, "")
            if body["version"].split(".")[0] == "1":
                body = of_version_2(body, CONTRACT_VERSION)
            elif body["version"] == "2.0":
                body = of_version_2_1(body, CONTRACT_VERSION)
            return parse(cls, body, "", ContractError, complete=True)
        except ContractError as e:
            raise ContractError(f"{where}: contract: {e}") from e
        except RecursionError as e:
            raise ContractError(f"{where}: contract: lists or tables inside each other without end") from e


def require_contract_size(size: int, where: str) -> None:
    """Asked before a contract is decoded. Raises ContractError."""
    if size > CONTRACT_BYTES:
        raise ContractError(f"{where}: a contract of at most {CONTRACT_BYTES} bytes expected, found {size}")


def _require_count(key: str, entries: Sized, most: int) -> None:
    if len(entries) > most:
        raise ContractError(f"{key}: at most {most} entries expected, found {len(entries)}")


def _require_plain(value: Any, key: str) -> None:
    """Texts can be shown by a terminal as they are, and nowhere are more entries than anything needs."""
    if isinstance(value, str):
        if one_line(value) != value:
            raise ContractError(f"{key}: a printable text expected, found {ascii(value)[:80]}")
        if len(value) > TEXT_LENGTH and not key.endswith(".frame_png"):
            raise ContractError(f"{key}: a text of at most {TEXT_LENGTH} characters expected, found {len(value)}")
    elif isinstance(value, list | dict):
        _require_count(key, value, LIST_ENTRIES)
        if isinstance(value, list):
            for place, inner in enumerate(value):
                _require_plain(inner, f"{key}[{place}]")
            return
        for name, inner in value.items():
            if one_line(name) != name or len(name) > TEXT_LENGTH:
                raise ContractError(f"{key or 'contract'}: printable names expected, found {ascii(name)[:80]}")
            _require_plain(inner, f"{key}.{name}" if key else name)


def _canonical(body: Mapping[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(body: Mapping[str, Any]) -> str:
    try:
        return hashlib.sha256(_canonical(body).encode()).hexdigest()
    except (ValueError, RecursionError) as e:
        raise ContractError(f"contract: {e}") from e


def _require_version(found: object, where: str) -> None:
    if not isinstance(found, str) or found.split(".")[0] not in ("1", CONTRACT_VERSION.split(".")[0]):
        raise ContractError(
            f"{where}: contract version 1.0 to {CONTRACT_VERSION} expected, found {found!r}; export the model again "
            "with this sepilot, or install the one that made the file"
        )

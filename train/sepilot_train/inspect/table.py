"""The layer table: output size, parameters, MACs, receptive field and stride of every layer.

Receptive field and stride follow the standard recurrence (Araujo, Norris, Sim: "Computing Receptive Fields of
Convolutional Neural Networks", Distill 2019): with `r` the field and `j` the stride of a layer's input, both in pixels
of the picture, a window of `k` pixels at dilation `d` and stride `s` gives

    r' = r + (k - 1) * d * j        j' = j * s

Where branches meet, the widest field and the largest stride count. The field is not clipped to the picture, so a value
beyond the picture's size says that the layer sees past its border.

What sees everything by construction (global pooling, flattened maps) reports the picture's size, and so does everything
behind it. It has no stride: its values belong to no place. Where such a vector is put upon a map, as squeeze-and-excite
does, the result sees everything at the stride of the map.

A file with the preprocessing inside makes the picture from the camera's frame first. That is a resize with fixed
numbers, not part of the net: it has neither parameters nor a field, and fields begin at the picture that it makes.

A net comes in as a list of `Node`s in topological order; `keras.py`, `tflite.py` and `onnx.py` beside it read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

__all__ = ["PREPROCESSING", "LayerTable", "Node", "Row", "layer_table"]

PREPROCESSING = "preprocessing/"
"""What names of tensors begin with that belong to the preprocessing inside a file."""

Size = tuple[int, int]

Role = Literal["input", "window", "pointwise", "global", "upsample", "preprocessing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One layer of a net, whatever file it was read from.

    Attributes:
        role: "input", also the picture that preprocessing makes; "window" slides a kernel; "pointwise" works on each
            place by itself (batch norm, activation, add, concatenate, dropout, dense); "global" sees the whole picture;
            "upsample" enlarges; "preprocessing" comes before the picture.
        inputs: names of the nodes that feed it.
        output_shape: without the batch.
        kernel, stride, dilation: (rows, columns) of a window; `stride` of an upsampling is its factor.
        macs: multiply-accumulates for one picture.
    """

    name: str
    kind: str
    role: Role
    inputs: tuple[str, ...]
    output_shape: tuple[int, ...]
    parameters: int = 0
    macs: int = 0
    kernel: Size = (1, 1)
    stride: Size = (1, 1)
    dilation: Size = (1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        receptive_field, stride: (rows, columns) in pixels of the picture; None in the preprocessing. The stride is None
            also where there are no places.
        everything: it sees the whole picture, which is then its receptive field.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int
    receptive_field: Size | None
    stride: Size | None
    everything: bool
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTable:
    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def macs(self) -> int:
        return sum(row.macs for row in self.rows)

    @property
    def receptive_field(self) -> int:
        """Pixels, the longer side, of the last layer that slides a window; 0 where none does."""
        last = self._last_window
        return max(last.receptive_field) if last and last.receptive_field else 0

    @property
    def field_text(self) -> str:
        """What the last layer that slides a window sees."""
        last = self._last_window
        return "the whole picture" if last and last.everything else f"{self.receptive_field} pixels"

    @property
    def _last_window(self) -> Row | None:
        return next((row for row in reversed(self.rows) if row.role == "window"), None)

    def to_json(self) -> dict[str, Any]:
        """`layers`, `total` (`parameters`, `macs`, `receptive_field`) and `warnings`, as plain values."""
        return {
            "layers": [
                {
                    "name": row.name,
                    "kind": row.kind,
                    "output_shape": list(row.output_shape),
                    "parameters": row.parameters,
                    "macs": row.macs,
                    "receptive_field": _number_or_pair(row.receptive_field),
                    "stride": _number_or_pair(row.stride),
                }
                for row in self.rows
            ],
            "total": {"parameters": self.parameters, "macs": self.macs, "receptive_field": self.receptive_field},
            "warnings": list(self.warnings),
        }


def layer_table(nodes: Sequence[Node], warnings: Sequence[str] = ()) -> LayerTable:
    """Fields and strides for `nodes`, which must be in topological order."""
    done: dict[str, Row] = {}
    whole = _whole([node.output_shape for node in nodes if node.role == "input"])
    for node in nodes:
        sight = _see(node, [done[name] for name in node.inputs if name in done], whole)
        done[node.name] = Row(
            name=node.name,
            kind=node.kind,
            output_shape=node.output_shape,
            parameters=node.parameters,
            macs=node.macs,
            role=node.role,
            **sight._asdict(),
        )
    return LayerTable(rows=tuple(done.values()), warnings=tuple(warnings))


class _Sight(NamedTuple):
    receptive_field: Size | None
    stride: Size | None
    everything: bool = False


def _see(node: Node, sources: Sequence[Row], whole: Size) -> _Sight:
    if node.role == "preprocessing":
        return _Sight(None, None)
    if node.role == "input":
        return _Sight((1, 1), (1, 1) if len(node.output_shape) > 1 else None)
    if node.role == "global":
        return _Sight(whole, None, everything=True)
    seen = _meet(sources, whole)
    if node.role == "pointwise" or seen.receptive_field is None or seen.stride is None:
        return seen
    if node.role == "upsample":
        rows, columns = (max(1, seen.stride[i] // node.stride[i]) for i in (0, 1))
        return seen._replace(stride=(rows, columns))
    stride = seen.stride[0] * node.stride[0], seen.stride[1] * node.stride[1]
    if seen.everything:
        return seen._replace(stride=stride)
    rows, columns = (seen.receptive_field[i] + (node.kernel[i] - 1) * node.dilation[i] * seen.stride[i] for i in (0, 1))
    return _Sight((rows, columns), stride)


def _meet(sources: Sequence[Row], whole: Size) -> _Sight:
    """What is seen where branches meet; the strides are those of the branches that have places."""
    if not sources:
        return _Sight((1, 1), (1, 1))
    strides = [s.stride for s in sources if s.stride]
    stride = _widest(strides) if strides else None
    if any(s.everything for s in sources):
        return _Sight(whole, stride, everything=True)
    fields = [s.receptive_field for s in sources if s.receptive_field]
    return _Sight(_widest(fields) if fields else None, stride)


def _widest(sizes: Sequence[Size]) -> Size:
    return max(s[0] for s in sizes), max(s[1] for s in sizes)


def _whole(pictures: Sequence[tuple[int, ...]]) -> Size:
    spatial = [(shape[0], shape[1]) for shape in pictures if len(shape) == 3]
    return _widest(spatial) if spatial else (1, 1)


def _number_or_pair(size: Size | None) -> int | list[int] | None:
    if size is None:
        return None
    return size[0] if size[0] == size[1] else list(size)

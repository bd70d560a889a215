"""The layer table: output size, parameters, MACs, receptive field and stride of every layer.

Receptive field and stride follow the standard recurrence (Araujo, Norris, Sim: "Computing Receptive Fields of
Convolutional Neural Networks", Distill 2019): with `r` the field and `j` the stride of a layer's input, both in pixels
of the picture, a window of `k` pixels at dilation `d` and stride `s` gives

    r' = r + (k - 1) * d * j        j' = j * s

Where branches meet, the widest field and the largest stride count. The field is not clipped to the picture, so a value
beyond the picture's size says that the layer sees past its border. Layers that see everything by construction (global
pooling, flattened dense layers) report the picture's size and end the recurrence.

A net comes in as a list of `Node`s in topological order; `graphs.py` reads them from Keras, TFLite and ONNX.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["LayerTable", "Node", "Row", "layer_table"]

Size = tuple[int, int]

Role = Literal["input", "window", "pointwise", "global", "upsample"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One layer of a net, whatever file it was read from.

    Attributes:
        role: "input"; "window" slides a kernel; "pointwise" works on each place by itself (batch norm, activation, add,
            concatenate, dropout); "global" sees the whole picture; "upsample" enlarges.
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
    """One line of the table. `receptive_field` and `stride` are (rows, columns) in pixels of the picture."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int
    receptive_field: Size
    stride: Size
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
        fields = [max(row.receptive_field) for row in self.rows if row.role == "window"]
        return fields[-1] if fields else 0

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
    pictures = [node.output_shape for node in nodes if node.role == "input"]
    whole = _whole(pictures)
    for node in nodes:
        field, stride = _see(node, done, whole)
        done[node.name] = Row(
            name=node.name,
            kind=node.kind,
            output_shape=node.output_shape,
            parameters=node.parameters,
            macs=node.macs,
            receptive_field=field,
            stride=stride,
            role=_role(node, done),
        )
    return LayerTable(rows=tuple(done.values()), warnings=tuple(warnings))


def _see(node: Node, done: Mapping[str, Row], whole: Size) -> tuple[Size, Size]:
    sources = [done[name] for name in node.inputs if name in done]
    field = (1, 1) if not sources else _widest([s.receptive_field for s in sources])
    stride = (1, 1) if not sources else _widest([s.stride for s in sources])
    if node.role == "global":
        return whole, whole
    if node.role == "upsample":
        return field, (max(1, stride[0] // node.stride[0]), max(1, stride[1] // node.stride[1]))
    if node.role != "window":
        return field, stride
    reach = [(node.kernel[i] - 1) * node.dilation[i] * stride[i] for i in (0, 1)]
    return (field[0] + reach[0], field[1] + reach[1]), (stride[0] * node.stride[0], stride[1] * node.stride[1])


def _role(node: Node, done: Mapping[str, Row]) -> Role:
    """What works on each place by itself sees everything where each place does."""
    sources = [done[name].role for name in node.inputs if name in done]
    return "global" if node.role == "pointwise" and "global" in sources else node.role


def _widest(sizes: Sequence[Size]) -> Size:
    return max(s[0] for s in sizes), max(s[1] for s in sizes)


def _whole(pictures: Sequence[tuple[int, ...]]) -> Size:
    spatial = [(shape[0], shape[1]) for shape in pictures if len(shape) == 3]
    return _widest(spatial) if spatial else (1, 1)


def _number_or_pair(size: Size) -> int | list[int]:
    return size[0] if size[0] == size[1] else list(size)

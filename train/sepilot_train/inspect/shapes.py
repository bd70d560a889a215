"""Shapes and windows of layers, as the tables print them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from sepilot_train.inspect.table import PREPROCESSING, Node, Size

__all__ = ["behind_preprocessing", "keeps_picture", "keeps_places", "layer_tail", "pair_of", "text_of", "without_batch"]


def behind_preprocessing(nodes: Sequence[Node]) -> list[Node]:
    """Fields begin at the picture that the preprocessing inside a file makes, and its numbers are no parameters."""
    inside = {n.name for n in nodes if n.name.startswith(PREPROCESSING)}
    frames = {name for n in nodes if n.name in inside for name in n.inputs}

    def placed(node: Node) -> Node:
        if node.name in inside | frames:
            return dataclasses.replace(node, role="preprocessing", parameters=0)
        return dataclasses.replace(node, role="input") if inside.intersection(node.inputs) else node

    return [placed(node) for node in nodes]


def keeps_places(before: Sequence[int], after: Sequence[int]) -> bool:
    """Whether a reshape leaves every place's values together: it adds axes of one, or lines the places up."""
    if [d for d in before if d != 1] == [d for d in after if d != 1]:
        return True
    return before[-1:] == after[-1:] and math.prod(before) == math.prod(after)


def keeps_picture(before: Sequence[int], after: Sequence[int]) -> bool:
    """Whether a reduction leaves rows and columns as they are, and works on channels alone."""
    return len(before) == len(after) == 3 and before[:2] == after[:2]


def layer_tail(tensor: Any) -> tuple[int, ...]:
    return without_batch(tuple(int(d) for d in tensor.shape))


def without_batch(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without the first axis where that is a batch: one picture, or any number (0 in ONNX)."""
    return shape[1:] if shape[:1] in ((0,), (1,)) else shape


def text_of(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def pair_of(value: Any) -> Size:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))

"""`sepilot inspect`: the layer table of a recipe's net or of a model file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepilot_runtime.base.errors import ModelFileError
from sepilot_runtime.commands.arguments import flag, request_from, switch

if TYPE_CHECKING:
    from sepilot_train.inspect.table import LayerTable, Node

__all__ = ["main"]

EPILOG = """examples:
  sepilot inspect swift                          a shipped recipe
  sepilot inspect my-recipe.toml --set model.builder=v27
  sepilot inspect demo/run                       what was trained
  sepilot inspect demo/export/swift-int8.tflite  what runs on the car
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectRequest:
    model: str = flag("a recipe, or a run directory, .keras, .tflite or .onnx file", "NAME|FILE", positional=True)
    overrides: tuple[str, ...] = flag("override one value of the recipe", "KEY=VALUE", name="--set")
    json: bool = switch("print `layers`, `total` and `warnings` as JSON")


def main(argv: Sequence[str]) -> int:
    request = request_from(
        argv, InspectRequest, "inspect",
        "Print each layer's output size, parameters, multiply-accumulates, receptive field and stride, the totals, and "
        "what will cost latency or accuracy on the car.", EPILOG,
    )  # fmt: skip
    from sepilot_train.inspect.table import layer_table

    nodes, warnings = _read(request.model, request.overrides)
    table = layer_table(nodes, warnings)
    if request.json:
        print(json.dumps(table.to_json(), indent=2))
    else:
        _print(request.model, table)
    return 0


def _read(model: str, overrides: Sequence[str]) -> tuple[list[Node], list[str]]:
    path = Path(model)
    if path.is_file() and path.suffix == ".tflite":
        from sepilot_train.inspect.tflite import tflite_nodes

        return tflite_nodes(path), []
    if path.is_file() and path.suffix == ".onnx":
        from sepilot_train.inspect.onnx import onnx_nodes

        return onnx_nodes(path), []
    from sepilot_train.inspect import keras

    net = _keras_model(path, model, overrides)
    return keras.keras_nodes(net), keras.keras_warnings(net)


def _keras_model(path: Path, model: str, overrides: Sequence[str]) -> Any:
    if path.is_dir():
        from sepilot_train.run.run import open_run

        return open_run(path).load_model()
    if path.suffix == ".keras":
        from sepilot_train.base.keras_file import load_keras

        return load_keras(path)
    if path.suffix in (".tflite", ".onnx"):
        raise ModelFileError(f"{path}: no such file")
    from sepilot_train.base.quiet import start_keras
    from sepilot_train.run.net import build_net
    from sepilot_train.run.recipe import load_recipe

    recipe = load_recipe(model, overrides)
    start_keras()
    return build_net(recipe)


def _print(model: str, table: LayerTable) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    grid = Table(title=model, title_justify="left", box=None, pad_edge=False, collapse_padding=True)
    # Long names give way to the numbers on a narrow terminal.
    for name, width in (("layer", 22), ("kind", 18), ("output", None)):
        grid.add_column(name, no_wrap=True, overflow="ellipsis", max_width=width)
    for name in ("weights", "MACs", "field", "stride"):
        grid.add_column(name, justify="right", no_wrap=True)
    for row in table.rows:
        grid.add_row(
            row.name,
            row.kind,
            "x".join(map(str, row.output_shape)),
            f"{row.parameters:,}" if row.parameters else "",
            f"{row.macs:,}" if row.macs else "",
            "all" if row.everything else _size(row.receptive_field),
            _size(row.stride),
        )
    console.print(grid)
    console.print(
        f"\n{table.parameters:,} parameters, {table.macs:,} MACs, receptive field {table.field_text} (last window)",
        highlight=False,
    )
    if any(row.role == "preprocessing" for row in table.rows):
        console.print(
            "The preprocessing resizes the frame: fields and strides are in pixels of the picture that it makes, and "
            "its fixed numbers are no parameters.",
            highlight=False,
        )
    for warning in table.warnings:
        console.print(f"warning: {warning}", style="yellow", highlight=False)


def _size(size: tuple[int, int] | None) -> str:
    if size is None:
        return ""
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"

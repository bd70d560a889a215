"""`sepilot inspect`: the layer table of a recipe's net or of a model file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepilot_runtime.base.errors import MissingExtraError, ModelFileError, UsageError
from sepilot_runtime.commands.arguments import flag, request_from, switch

if TYPE_CHECKING:
    from sepilot_train.inspect.ordinary import Ordinary
    from sepilot_train.inspect.table import LayerTable, Node

__all__ = ["main"]

EPILOG = """examples:
  sepilot inspect swift                          a shipped recipe
  sepilot inspect wide --measure                 a net by its builder; what its separable convolutions save
  sepilot inspect my-recipe.toml --set model.builder=v27
  sepilot inspect demo/run                       what was trained
  sepilot inspect demo/export/swift-int8.tflite  what runs on the car
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectRequest:
    model: str = flag(
        "a recipe or a net's builder, or a run directory, .keras, .tflite or .onnx file", "NAME|FILE", positional=True
    )
    overrides: tuple[str, ...] = flag("override one value of the recipe", "KEY=VALUE", name="--set")
    measure: bool = switch(
        "time the net beside one with ordinary convolutions in place of its separable ones: a picture in LiteRT, and a "
        "training step; half a minute"
    )
    json: bool = switch("print `layers`, `total`, `warnings` and what ordinary convolutions would take as JSON")


def main(argv: Sequence[str]) -> int:
    request = request_from(
        argv, InspectRequest, "inspect",
        "Print each layer's output size, parameters, multiply-accumulates, receptive field and stride, the totals, and "
        "what will cost latency or accuracy on the car.", EPILOG,
    )  # fmt: skip
    from sepilot_train.inspect.table import layer_table

    path = Path(request.model)
    if path.is_file() and path.suffix in (".tflite", ".onnx"):
        if request.measure:
            raise UsageError(f"--measure: a recipe, run or .keras file expected, of which a net can be built; {path}")
        _print(request, layer_table(_nodes_of_file(path)), None)
        return 0
    from sepilot_train.inspect import keras
    from sepilot_train.inspect.ordinary import ordinary_in_place

    net = _keras_model(path, request.model, request.overrides)
    _print(request, layer_table(keras.keras_nodes(net), keras.keras_warnings(net)), ordinary_in_place(net))
    return 0


def _nodes_of_file(path: Path) -> list[Node]:
    if path.suffix == ".tflite":
        from sepilot_train.inspect.tflite import tflite_nodes

        return tflite_nodes(path)
    from sepilot_train.inspect.onnx import onnx_nodes

    return onnx_nodes(path)


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
    from sepilot_train.models import EXAMPLES, build_model
    from sepilot_train.run.net import build_net
    from sepilot_train.run.recipe import load_recipe, recipe_names

    if model in EXAMPLES and model not in recipe_names():
        if overrides:
            raise UsageError(f"--set: a recipe expected, which has values to override; {model} is a net's builder")
        start_keras()
        picture, numbers = EXAMPLES[model]
        return build_model(model, picture, {}, {"output": numbers})
    recipe = load_recipe(model, overrides)
    start_keras()
    return build_net(recipe)


def _print(request: InspectRequest, table: LayerTable, ordinary: Ordinary | None) -> None:
    if not request.json:
        _print_table(request.model, table)
    said: dict[str, Any] = {}
    if ordinary:
        said = {"separable": ordinary.separable, "parameters": ordinary.parameters, "macs": ordinary.macs}
        if request.measure:
            said |= _measured(ordinary)
    if request.json:
        print(json.dumps(table.to_json() | ({"ordinary": said} if said else {}), indent=2))
    else:
        _print_ordinary(request, table, said)


def _measured(ordinary: Ordinary) -> dict[str, Any]:
    """Microseconds of the net and of its twin; for one picture, or why not, and for a training step."""
    from sepilot_train.fit.side_by_side import time_inference, time_training

    measured: dict[str, Any] = {}
    try:
        measured["inference_us"] = time_inference(ordinary.net, ordinary.twin)
    except (MissingExtraError, UsageError) as e:
        measured["inference_missing"] = str(e)
    pictures, *step_us = time_training(ordinary.net, ordinary.twin, macs=ordinary.macs)
    return measured | {"training_pictures": pictures, "training_step_us": step_us}


def _print_ordinary(request: InspectRequest, table: LayerTable, said: Mapping[str, Any]) -> None:
    from rich.console import Console

    lines = []
    if said:
        lines.append(
            f"With ordinary convolutions in place of {said['separable']} separable ones it would take "
            f"{said['parameters'] / table.parameters:.1f} times the parameters ({said['parameters']:,}) and "
            f"{said['macs'] / table.macs:.1f} times the MACs ({said['macs']:,})"
            + ("." if request.measure else "; --measure tells what of that is time.")
        )
    elif request.measure:
        lines.append("It has no separable convolution to measure.")
    if "inference_missing" in said:
        lines.append(f"A picture in LiteRT could not be timed: {said['inference_missing']}")
    if "inference_us" in said:
        lines.append(_compared("A picture in LiteRT, float32, one thread", said["inference_us"]))
    if "training_step_us" in said:
        lines.append(
            _compared(f"A training step of {said['training_pictures']} pictures", said["training_step_us"])
            + "\nMemory and calls bound depthwise convolutions, not arithmetic: with few channels, on small maps and "
            "for gradients fewer MACs save less time, or none."
        )
    for line in lines:
        Console().print(line, highlight=False)


def _compared(what: str, us: Sequence[float]) -> str:
    net, twin = us
    return f"{what}: {net:,.0f} us, with ordinary ones {twin:,.0f} us: {twin / net:.1f} times."


def _print_table(model: str, table: LayerTable) -> None:
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

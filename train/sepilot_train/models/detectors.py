"""Nets that find things. Input and builders as in `steering`; heads of boxes give what `Boxes` says, slot by slot."""

from collections.abc import Mapping, Sequence
from typing import Any

from sepilot_train.models import blocks
from sepilot_train.models.blocks import STEERING, Outputs, Shape

#: So that at first every slot says a box of its anchor in the middle of its cell, and is 2 % sure of it: most slots
#: are empty, and learning that first would cost epochs.
STARTS = {"boxes": 0.5, "scores": -4.0}


def build_spot(
    K: Any,
    picture_shape: Shape,
    outputs: Outputs = STEERING,
    *,
    stem: int = 16,
    widths: Sequence[int] = (24, 48, 96),
    repeats: Sequence[int] = (0, 2, 3),
    strides: Sequence[int] = (8, 16),
    head: int = 64,
    activation: str = "relu",
    dropout: float = 0.0,
) -> Any:
    """A detector for the edge: with three classes and four anchors 58,196 parameters, 12.4 million MACs at 160x160x3.

    An ordinary convolution, then separable blocks, each stage on half of the map before it. Each scale of boxes has a
    separable block and a 1x1 convolution for each of its tensors. Other outputs have heads on the last map's average.

    Args:
        stem: filters of the first convolution.
        widths: filters of the stages; each begins by halving the map, the first at stride 4.
        repeats: residual blocks of each stage after the halving one.
        strides: of the maps that boxes are said on, pixels of the picture to a cell; the output's `strides`.
        head: filters of the block before each head.
        activation: a name of `blocks.activation`.
        dropout: of the averaged features.
    """
    image = K.Input(picture_shape, name="image")
    x = blocks.conv(K, image, stem, "stem", stride=2, activation=activation)
    maps = _maps(K, x, widths, repeats, activation)
    if not strides or list(strides) != [s for s in maps if s in strides]:
        raise ValueError(f"strides: some of {', '.join(map(str, maps))} expected, found {list(strides)}")
    looks = {s: blocks.separable(K, maps[s], head, f"head{s}", activation=activation) for s in strides}
    averaged = blocks.averaged(K, maps[max(maps)], dropout) if any("." not in name for name in outputs) else None
    heads = [
        _slots(K, looks, name, outputs) if "." in name else K.layers.Dense(numbers, name=name)(averaged)
        for name, numbers in outputs.items()
    ]
    return K.Model(image, heads if len(heads) > 1 else heads[0], name="spot")


def _maps(K: Any, x: Any, widths: Sequence[int], repeats: Sequence[int], activation: str) -> dict[int, Any]:
    """The last map of each of the stages on a map of stride 2, by its stride."""
    blocks.require_equal_lengths(widths=widths, repeats=repeats)
    maps = dict[int, Any]()
    for number, (width, repeat) in enumerate(zip(widths, repeats, strict=True), start=1):
        x = blocks.separable(K, x, width, f"stage{number}_down", stride=2, activation=activation)
        for again in range(1, repeat + 1):
            x = blocks.residual_separable(K, x, f"stage{number}_block{again}", activation=activation)
        maps[2 * 2**number] = x
    return maps


def build_locate(
    K: Any,
    picture_shape: Shape,
    outputs: Outputs = STEERING,
    *,
    stem: int = 16,
    widths: Sequence[int] = (24, 48, 96),
    repeats: Sequence[int] = (0, 1, 2),
    narrow: int = 24,
    dense: Sequence[int] = (64,),
    activation: str = "relu",
) -> Any:
    """Says one thing of a whole picture, and where: 91,000 parameters at 96x96x3.

    An average over the map, as classifiers have it, would not know where anything was: the map is narrowed and
    flattened.

    Args:
        stem, widths, repeats, activation: as of `build_spot`.
        narrow: channels of the map that is flattened.
        dense: widths of the layers between it and the heads.
    """
    image = K.Input(picture_shape, name="image")
    x = blocks.conv(K, image, stem, "stem", stride=2, activation=activation)
    x = blocks.separable_stages(K, x, widths, repeats, residual=True, activation=activation)
    x = blocks.separable(K, x, narrow, "narrow", activation=activation)
    x = blocks.dense_relu(K, K.layers.Flatten(name="flat")(x), tuple(dense))
    return blocks.with_heads(K, image, x, "locate", outputs)


def _slots(K: Any, looks: Mapping[int, Any], tensor: str, outputs: Outputs) -> Any:
    """The tensor (slots, numbers of a slot), of 1x1 convolutions on each of the maps."""
    output, _, part = tensor.partition(".")
    cells = sum(int(look.shape[1]) * int(look.shape[2]) for look in looks.values())
    slots = outputs[f"{output}.boxes"] // 4
    if slots % cells:
        raise ValueError(
            f"{tensor}: a multiple of the {cells} cells of strides {', '.join(map(str, looks))} expected, found "
            f"{slots} slots; outputs.{output}.strides and model.options.strides have to be the same"
        )
    each, rows = outputs[tensor] // slots, []
    for stride, look in looks.items():
        name = f"head{stride}_{output}_{part}"
        x = K.layers.Conv2D(
            slots // cells * each, 1, bias_initializer=K.initializers.Constant(STARTS[part]), name=name
        )(look)
        last = tensor if len(looks) == 1 else f"{name}_rows"
        rows.append(K.layers.Reshape((-1, each), name=last)(x))
    return rows[0] if len(rows) == 1 else K.layers.Concatenate(axis=1, name=tensor)(rows)

"""Nets that tell classes apart. Input and builders as in `steering`; a head gives a class's numbers before softmax."""

from collections.abc import Sequence
from typing import Any

from sepilot_train.models import blocks
from sepilot_train.models.blocks import STEERING, Outputs, Shape


def build_separable_64(K: Any, picture_shape: Shape, outputs: Outputs = STEERING, *, start: str = "glorot") -> Any:
    """The source material's net for ten classes: 38,949 parameters and 20.3 million MACs at 64x64x3.

    It is Chollet's example of separable convolutions ("Deep Learning with Python", 2017, section 7.3.1): without
    padding and without normalization.

    Args:
        start: "glorot" as the source has it, or "he". Keras counts the inputs of a depthwise kernel over all channels
            and so makes it too small, by the root of their number with Glorot's rule. Six of them in a row, with no
            normalization between, leave nothing of the picture: of 1,422 signs of ten kinds 10 % were told after ten
            epochs of rmsprop, and 86 % with "he", where kernels are sized by what they do.

    Raises:
        ValueError: another start.
    """
    if start not in ("glorot", "he"):
        raise ValueError(f"start: one of glorot, he expected, found {start!r}")
    sized = {
        "depthwise_initializer": K.initializers.VarianceScaling(2.0, mode="fan_out"),
        "pointwise_initializer": "he_normal",
    }  # fmt: skip
    image = x = K.Input(picture_shape, name="image")
    for number, widths in enumerate(((32, 64), (64, 128), (64, 128)), start=1):
        for half, width in enumerate(widths, start=1):
            x = K.layers.SeparableConv2D(
                width, 3, activation="relu", name=f"block{number}_separable{half}", **(sized if start == "he" else {})
            )(x)
        if number < 3:
            x = K.layers.MaxPooling2D(2, name=f"block{number}_pool")(x)
    x = blocks.averaged(K, x, 0.0)
    return blocks.with_heads(K, image, blocks.dense_relu(K, x, (32,)), "separable_64", outputs)


def build_cifar_under_100k(
    K: Any,
    picture_shape: Shape,
    outputs: Outputs = STEERING,
    *,
    dropouts: Sequence[float] = (0.15, 0.2, 0.25),
    initializer: str = "he_uniform",
) -> Any:
    """The source material's CIFAR-10 net: 94,911 parameters and 12.4 million MACs at 32x32x3 with ten classes.

    Its last layers are a separable 4x4 convolution to the classes and an average over the map. Here the depthwise half
    comes before the average and the 1x1 half, as the head, behind it, where it is a Dense layer without bias: the same
    function of the same weights.

    Args:
        dropouts: after each pooling.
        initializer: of all kernels but the last layer's. The source asks for He uniform in a setting that separable
            layers of its Keras took and did not use; what it trained with was "glorot_uniform".
    """
    blocks.require_equal_lengths(pools=(1, 2, 3), dropouts=dropouts)
    start = {"depthwise_initializer": initializer, "pointwise_initializer": initializer, "use_bias": False}
    image = x = K.Input(picture_shape, name="image")
    for number, widths in enumerate(((32, 64), (128, 156), (168,)), start=1):
        for half, width in enumerate(widths, start=1):
            name = f"block{number}_separable{half}"
            x = K.layers.SeparableConv2D(width, 3, padding="same", **start, name=name)(x)
            x = K.layers.BatchNormalization(name=f"{name}_norm")(x)
            x = K.layers.ReLU(name=f"{name}_relu")(x)
        x = K.layers.MaxPooling2D(2, name=f"block{number}_pool")(x)
        x = K.layers.Dropout(dropouts[number - 1], name=f"block{number}_dropout")(x)
    x = K.layers.SeparableConv2D(168, 1, activation="relu", **start, name="mixed_separable")(x)
    x = K.layers.DepthwiseConv2D(4, use_bias=False, name="last_depthwise")(x)
    return blocks.with_heads(K, image, blocks.averaged(K, x, 0.0), "cifar_under_100k", outputs, use_bias=False)


def build_cifar_sep(
    K: Any,
    picture_shape: Shape,
    outputs: Outputs = STEERING,
    *,
    widths: Sequence[int] = (24, 40, 72),
    repeats: Sequence[int] = (6, 5, 5),
    activation: str = "relu",
    dropout: float = 0.0,
) -> Any:
    """sepilot's own small classifier: 95,514 parameters and 20.2 million MACs at 32x32x3 with ten classes.

    A residual net almost as deep and thin as WRN-40-1, of pairs of a 1x1 and a depthwise convolution alone, the first
    one too, with batch normalization behind each pair, which folds.

    Args:
        widths: filters of the stages; each but the first halves the map.
        repeats: residual blocks of two convolutions in each stage.
        activation: a name of `blocks.activation`.
        dropout: of the averaged features.
    """
    blocks.require_equal_lengths(widths=widths, repeats=repeats)
    image = K.Input(picture_shape, name="image")
    x = blocks.active(K, blocks.blueprint(K, image, widths[0], "stem"), "stem", activation)
    for number, (width, repeat) in enumerate(zip(widths, repeats, strict=True), start=1):
        for again in range(1, repeat + 1):
            stride = 2 if number > 1 and again == 1 else 1
            name = f"stage{number}_block{again}"
            x = blocks.residual_blueprint(K, x, width, name, stride=stride, activation=activation)
    return blocks.with_heads(K, image, blocks.averaged(K, x, dropout), "cifar_sep", outputs)


def build_wide(
    K: Any,
    picture_shape: Shape,
    outputs: Outputs = STEERING,
    *,
    stem: int = 16,
    widths: Sequence[int] = (24, 48, 96, 128, 192),
    repeats: Sequence[int] = (0, 1, 2, 2, 1),
    activation: str = "relu",
    dropout: float = 0.3,
) -> Any:
    """For large pictures: 148,541 parameters and 96 million MACs at 512x512x3 with five classes.

    An ordinary convolution and a separable one of stride 2 each, so that nothing goes over the whole picture pixel by
    pixel, then separable blocks with residual ways where the map is small, down to 1/64 of the picture.

    Args:
        stem: filters of the first convolution.
        widths: filters of the stages; each begins by halving the map.
        repeats: residual blocks of each stage after the halving one.
        activation: a name of `blocks.activation`.
        dropout: of the averaged features.
    """
    image = K.Input(picture_shape, name="image")
    x = blocks.conv(K, image, stem, "stem", stride=2, activation=activation)
    x = blocks.separable_stages(K, x, widths, repeats, residual=True, activation=activation)
    return blocks.with_heads(K, image, blocks.averaged(K, x, dropout), "wide", outputs)


def build_inception(
    K: Any,
    picture_shape: Shape,
    outputs: Outputs = STEERING,
    *,
    stem: int = 16,
    widths: Sequence[Sequence[int]] = ((8, 16, 8, 8), (16, 32, 16, 16), (24, 48, 24, 24)),
    activation: str = "relu",
    dropout: float = 0.2,
) -> Any:
    """A stem of stride 2, and inception blocks of four branches, of which each halves the map behind it.

    Args:
        stem: filters of the first convolution.
        widths: of each block the filters of its 1x1, 3x3, 5x5 and pooling branch.
        activation: a name of `blocks.activation`.
        dropout: of the averaged features.
    """
    image = K.Input(picture_shape, name="image")
    x = blocks.conv(K, image, stem, "stem", stride=2, activation=activation)
    for number, branches in enumerate(widths, start=1):
        x = blocks.inception(K, x, branches, f"block{number}", activation=activation)
        x = K.layers.MaxPooling2D(2, padding="same", name=f"block{number}_pool")(x)
    return blocks.with_heads(K, image, blocks.averaged(K, x, dropout), "inception", outputs)


def build_stereo(
    K: Any,
    picture_shape: Shape,
    outputs: Outputs = STEERING,
    *,
    widths: Sequence[int] = (16, 32, 64, 96),
    dense: Sequence[int] = (64,),
) -> Any:
    """Two views in one picture, side by side as stereo cameras give them, seen by one tower with the same weights.

    Args:
        widths: filters of the tower's convolutions, each of stride 2.
        dense: widths of the layers between the two averages and the output.
    """
    half = picture_shape[1] // 2
    image = K.Input(picture_shape, name="image")
    look = blocks.tower(K, widths, "tower")
    sides = {"left": (0, picture_shape[1] - half), "right": (picture_shape[1] - half, 0)}
    seen = [look(K.layers.Cropping2D(((0, 0), cut), name=side)(image)) for side, cut in sides.items()]
    both = K.layers.Concatenate(name="both")(seen)
    return blocks.with_heads(K, image, blocks.dense_relu(K, both, tuple(dense)), "stereo", outputs)

"""The steering nets. Input "image": float32 in [0, 1], NHWC; a head for each output, on the same features.

Each builder takes the layer namespace `K` (`keras` or `tf_keras`), the picture's (height, width, channels), the outputs
with how many numbers each has, and keyword options, which a recipe may set. One with `vectors` can take numbers beside
the picture: by input how many, and what they are divided by.
"""

from collections.abc import Sequence
from typing import Any

from sepilot_train.models import blocks
from sepilot_train.models.blocks import NO_VECTORS, STEERING, Outputs, Shape, Vectors


def build_v27(
    K: Any,
    picture_shape: Shape,
    outputs: Outputs = STEERING,
    *,
    filters: Sequence[int] = (8, 16, 32, 64, 128),
    dense: Sequence[int] = (128, 64, 32, 16, 8),
    dropout: float = 0.5,
) -> Any:
    """The source material's separable-convolution net: 64,546 parameters at 66x100x1.

    Its batch normalization follows the ReLU, so no exporter can fold it into the convolution.
    """
    image = x = K.Input(picture_shape, name="image")
    for number, width in enumerate(filters, start=1):
        name = f"block{number}"
        for half in (1, 2):
            x = K.layers.SeparableConv2D(
                width, 3, padding="same", use_bias=False, activation="relu", name=f"{name}_separable{half}"
            )(x)
        x = K.layers.BatchNormalization(name=f"{name}_norm")(x)
        x = K.layers.MaxPooling2D(2, name=f"{name}_pool")(x)
    x = K.layers.Dropout(dropout, name="dropout")(x)
    x = K.layers.GlobalAveragePooling2D(name="average")(x)
    return blocks.with_heads(K, image, blocks.dense_relu(K, x, tuple(dense)), "v27", outputs)


def build_v27_foldable(
    K: Any,
    picture_shape: Shape,
    outputs: Outputs = STEERING,
    *,
    filters: Sequence[int] = (8, 16, 32, 64, 128),
    dense: Sequence[int] = (128, 64, 32, 16, 8),
    dropout: float = 0.5,
    activation: str = "relu",
) -> Any:
    """`v27` with the batch normalization before the last ReLU of each block: same parameters, foldable."""
    image = x = K.Input(picture_shape, name="image")
    for number, width in enumerate(filters, start=1):
        name = f"block{number}"
        first = "relu" if activation == "relu" else None
        x = K.layers.SeparableConv2D(
            width, 3, padding="same", use_bias=False, activation=first, name=f"{name}_separable1"
        )(x)
        if first is None:
            x = blocks.active(K, x, f"{name}_separable1", activation)
        x = K.layers.SeparableConv2D(width, 3, padding="same", use_bias=False, name=f"{name}_separable2")(x)
        x = blocks.norm_active(K, x, name, activation)
        x = K.layers.MaxPooling2D(2, name=f"{name}_pool")(x)
    x = K.layers.Dropout(dropout, name="dropout")(x)
    x = K.layers.GlobalAveragePooling2D(name="average")(x)
    return blocks.with_heads(K, image, blocks.dense_relu(K, x, tuple(dense)), "v27_foldable", outputs)


def build_swift(
    K: Any,
    picture_shape: Shape,
    outputs: Outputs = STEERING,
    *,
    stem: int = 16,
    widths: Sequence[int] = (16, 32, 64, 96),
    repeats: Sequence[int] = (1, 1, 2, 2),
    residual: bool = False,
    dense: Sequence[int] = (64,),
    dropout: float = 0.2,
    activation: str = "relu",
    vectors: Vectors = NO_VECTORS,
) -> Any:
    """sepilot's own net for the edge: 50,113 parameters at 64x96x1.

    An ordinary stride-2 convolution instead of full-resolution depthwise ones (which leave most of a vector register
    empty at few channels), stride-2 depthwise instead of pooling, batch normalization that folds, and depth and width
    where the picture is small already.

    Args:
        stem: filters of the first convolution.
        widths: filters of the stages; each begins by halving the picture.
        repeats: separable blocks of each stage after the halving one.
        residual: add its input to each repeated block.
        dense: widths of the layers between the average and the output.
        dropout: of the averaged features.
        activation: of the convolutions, a name of `blocks.activation`.
        vectors: numbers beside the picture, which join the averaged features.
    """
    image = K.Input(picture_shape, name="image")
    x = blocks.conv(K, image, stem, "stem", stride=2, activation=activation)
    x = blocks.separable_stages(K, x, widths, repeats, residual=residual, activation=activation)
    inputs, x = blocks.beside(K, image, blocks.averaged(K, x, dropout), vectors)
    return blocks.with_heads(K, inputs, blocks.dense_relu(K, x, tuple(dense)), "swift", outputs)


def build_pilotnet(
    K: Any,
    picture_shape: Shape,
    outputs: Outputs = STEERING,
    *,
    dense: Sequence[int] = (100, 50, 10),
    vectors: Vectors = NO_VECTORS,
) -> Any:
    """NVIDIA's PilotNet (Bojarski et al. 2016, arXiv 1604.07316, figure 4): 252,219 parameters at 66x200x3.

    The paper's fixed input normalization is what the contract does (pixels / 255); it names no activation.
    """
    image = x = K.Input(picture_shape, name="image")
    for number, (filters, kernel, stride) in enumerate(
        ((24, 5, 2), (36, 5, 2), (48, 5, 2), (64, 3, 1), (64, 3, 1)), start=1
    ):
        x = K.layers.Conv2D(filters, kernel, strides=stride, activation="relu", name=f"conv{number}")(x)
    inputs, x = blocks.beside(K, image, K.layers.Flatten(name="flat")(x), vectors)
    return blocks.with_heads(K, inputs, blocks.dense_relu(K, x, tuple(dense)), "pilotnet", outputs)


def build_donkey_linear(K: Any, picture_shape: Shape, outputs: Outputs = STEERING, *, dropout: float = 0.2) -> Any:
    """Donkeycar's default `linear` net: 817,028 parameters at 120x160x3 with its two outputs, steering and throttle."""
    image = x = K.Input(picture_shape, name="image")
    for number, (filters, kernel, stride) in enumerate(
        ((24, 5, 2), (32, 5, 2), (64, 5, 2), (64, 3, 1), (64, 3, 1)), start=1
    ):
        x = K.layers.Conv2D(filters, kernel, strides=stride, activation="relu", name=f"conv{number}")(x)
        x = K.layers.Dropout(dropout, name=f"conv{number}_dropout")(x)
    x = K.layers.Flatten(name="flat")(x)
    for number, width in enumerate((100, 50), start=1):
        x = K.layers.Dense(width, activation="relu", name=f"dense{number}")(x)
        x = K.layers.Dropout(dropout, name=f"dense{number}_dropout")(x)
    return blocks.with_heads(K, image, x, "donkey_linear", outputs)

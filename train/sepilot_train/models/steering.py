"""The steering nets. Input "image": float32 in [0, 1], NHWC; a head for each output, on the same features.

Each builder takes the layer namespace `K` (`keras` or `tf_keras`), the picture's (height, width, channels), the outputs
with how many numbers each has, and keyword options, which a recipe may set.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sepilot_train.models import blocks

Shape = tuple[int, int, int]
Outputs = Mapping[str, int]
STEERING: Outputs = MappingProxyType({"steering": 1})


def _require_equal_lengths(**lists: Sequence[Any]) -> None:
    if len({len(values) for values in lists.values()}) > 1:
        raise ValueError(
            " and ".join(f"{len(values)} {name}" for name, values in lists.items()) + " given, not as many"
        )


def _finish(K: Any, image: Any, features: Any, name: str, outputs: Outputs) -> Any:
    heads = [K.layers.Dense(size, name=output)(features) for output, size in outputs.items()]
    return K.Model(image, heads if len(heads) > 1 else heads[0], name=name)


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
    return _finish(K, image, blocks.dense_relu(K, x, tuple(dense)), "v27", outputs)


def build_v27_foldable(
    K: Any,
    picture_shape: Shape,
    outputs: Outputs = STEERING,
    *,
    filters: Sequence[int] = (8, 16, 32, 64, 128),
    dense: Sequence[int] = (128, 64, 32, 16, 8),
    dropout: float = 0.5,
) -> Any:
    """`v27` with the batch normalization before the last ReLU of each block: same parameters, foldable."""
    image = x = K.Input(picture_shape, name="image")
    for number, width in enumerate(filters, start=1):
        name = f"block{number}"
        x = K.layers.SeparableConv2D(
            width, 3, padding="same", use_bias=False, activation="relu", name=f"{name}_separable1"
        )(x)
        x = K.layers.SeparableConv2D(width, 3, padding="same", use_bias=False, name=f"{name}_separable2")(x)
        x = blocks.norm_relu(K, x, name)
        x = K.layers.MaxPooling2D(2, name=f"{name}_pool")(x)
    x = K.layers.Dropout(dropout, name="dropout")(x)
    x = K.layers.GlobalAveragePooling2D(name="average")(x)
    return _finish(K, image, blocks.dense_relu(K, x, tuple(dense)), "v27_foldable", outputs)


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
    """
    _require_equal_lengths(widths=widths, repeats=repeats)
    image = K.Input(picture_shape, name="image")
    x = blocks.conv(K, image, stem, "stem", stride=2)
    for number, (width, repeat) in enumerate(zip(widths, repeats, strict=True), start=1):
        x = blocks.separable(K, x, width, f"stage{number}_down", stride=2)
        for again in range(1, repeat + 1):
            name = f"stage{number}_block{again}"
            x = blocks.residual_separable(K, x, name) if residual else blocks.separable(K, x, width, name)
    x = K.layers.GlobalAveragePooling2D(name="average")(x)
    if dropout:
        x = K.layers.Dropout(dropout, name="dropout")(x)
    return _finish(K, image, blocks.dense_relu(K, x, tuple(dense)), "swift", outputs)


def build_pilotnet(
    K: Any, picture_shape: Shape, outputs: Outputs = STEERING, *, dense: Sequence[int] = (100, 50, 10)
) -> Any:
    """NVIDIA's PilotNet (Bojarski et al. 2016, arXiv 1604.07316, figure 4): 252,219 parameters at 66x200x3.

    The paper's fixed input normalization is what the contract does (pixels / 255); it names no activation.
    """
    image = x = K.Input(picture_shape, name="image")
    for number, (filters, kernel, stride) in enumerate(
        ((24, 5, 2), (36, 5, 2), (48, 5, 2), (64, 3, 1), (64, 3, 1)), start=1
    ):
        x = K.layers.Conv2D(filters, kernel, strides=stride, activation="relu", name=f"conv{number}")(x)
    x = K.layers.Flatten(name="flat")(x)
    return _finish(K, image, blocks.dense_relu(K, x, tuple(dense)), "pilotnet", outputs)


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
    return _finish(K, image, x, "donkey_linear", outputs)

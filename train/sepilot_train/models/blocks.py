"""Building blocks of the nets: functions of a layer namespace `K` (`keras` or `tf_keras`).

Every layer gets an explicit name that starts with the name of its block, because weights are copied between
namespaces by layer name, and automatic names (`conv2d_3`) collide and depend on what was built before.
Only `K.layers` is used, so the same builder gives the same net in both namespaces.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

Shape = tuple[int, int, int]
Outputs = Mapping[str, int]
Vectors = Mapping[str, tuple[int, float]]
STEERING: Outputs = MappingProxyType({"steering": 1})
NO_VECTORS: Vectors = MappingProxyType({})

#: Keras's 0.99 needs hundreds of steps to forget its start: with a small recording the moving statistics would
#: still be wrong after several epochs, and the validation error meaningless.
NORM_MOMENTUM = 0.95


def require_equal_lengths(**lists: Sequence[Any]) -> None:
    """Raise ValueError, which names them, where lists that go together are not of one length."""
    if len({len(values) for values in lists.values()}) > 1:
        raise ValueError(
            " and ".join(f"{len(values)} {name}" for name, values in lists.items()) + " given, not as many"
        )


def beside(K: Any, image: Any, features: Any, vectors: Vectors) -> tuple[Any, Any]:
    """The inputs of a net, and its features (batch, n) of the image with 16 of each of `vectors` behind them.

    Args:
        vectors: by input, how many numbers, and what they are divided by.
    """
    if not vectors:
        return image, features
    inputs, parts = [image], [features]
    for name, (size, scale) in vectors.items():
        numbers = K.Input((size,), name=name)
        inputs.append(numbers)
        x = K.layers.Rescaling(1 / scale, name=f"{name}_scaled")(numbers)
        parts.append(dense_relu(K, x, (16,), f"{name}_dense"))
    return inputs, K.layers.Concatenate(name="beside")(parts)


def with_heads(K: Any, image: Any, features: Any, name: str, outputs: Outputs, *, use_bias: bool = True) -> Any:
    """The net from `image` to a Dense layer without activation for each of `outputs`, on the same features.

    `image` may be several inputs.
    """
    heads = [K.layers.Dense(size, use_bias=use_bias, name=output)(features) for output, size in outputs.items()]
    return K.Model(image, heads if len(heads) > 1 else heads[0], name=name)


def averaged(K: Any, x: Any, dropout: float) -> Any:
    """The average of each channel over the map, and dropout where there is any."""
    x = K.layers.GlobalAveragePooling2D(name="average")(x)
    return K.layers.Dropout(dropout, name="dropout")(x) if dropout else x


def activation(K: Any, name: str, layer: str) -> Callable[[Any], Any]:
    """The activation `name` as a layer called `layer`.

    Leaky has slope 0.1. The namespaces call that setting differently, so it goes by place. Hard-swish is put together,
    as tf_keras has none; TensorFlow Lite makes one operation of it all the same.

    Raises:
        ValueError: another name.
    """
    made: Mapping[str, Callable[[], Callable[[Any], Any]]] = {
        "relu": lambda: K.layers.ReLU(name=layer),
        "relu6": lambda: K.layers.ReLU(6.0, name=layer),
        "leaky": lambda: K.layers.LeakyReLU(0.1, name=layer),
        "swish": lambda: K.layers.Activation("swish", name=layer),
        "hard-swish": lambda: lambda x: _hard_swish(K, x, layer),
    }
    if name not in made:
        raise ValueError(f"activation: one of {', '.join(made)} expected, found {name!r}")
    return made[name]()


def _hard_swish(K: Any, x: Any, layer: str) -> Any:
    gate = K.layers.Rescaling(1.0, offset=3.0, name=f"{layer}_shift")(x)
    gate = K.layers.ReLU(6.0, name=f"{layer}_clip")(gate)
    gate = K.layers.Rescaling(1 / 6, name=f"{layer}_scale")(gate)
    return K.layers.Multiply(name=layer)([x, gate])


def norm(K: Any, x: Any, name: str) -> Any:
    """Batch normalization, which folds into the linear layer before it."""
    return K.layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"{name}_norm")(x)


def active(K: Any, x: Any, name: str, by: str = "relu") -> Any:
    """The activation `by`, in a layer named after the block and it."""
    return activation(K, by, f"{name}_{by.replace('-', '_')}")(x)


def norm_active(K: Any, x: Any, name: str, by: str = "relu") -> Any:
    return active(K, norm(K, x, name), name, by)


def conv(K: Any, x: Any, filters: int, name: str, *, stride: int = 1, activation: str = "relu") -> Any:
    """Ordinary convolution, batch normalization, activation: the stem, where one input channel starves a depthwise."""
    x = K.layers.Conv2D(
        filters, 3, strides=stride, padding="same", use_bias=False,
        kernel_initializer="he_normal", name=f"{name}_conv",
    )(x)  # fmt: skip
    return norm_active(K, x, name, activation)


def separable(K: Any, x: Any, filters: int, name: str, *, stride: int = 1, activation: str = "relu") -> Any:
    """Depthwise and 1x1 convolution, then batch normalization and activation; the depthwise carries the stride."""
    x = K.layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
    return norm_active(K, _pointwise(K, x, filters, name), name, activation)


def _pointwise(K: Any, x: Any, filters: int, name: str) -> Any:
    return K.layers.Conv2D(
        filters, 1, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_pointwise"
    )(x)


def residual_separable(K: Any, x: Any, name: str, *, activation: str = "relu") -> Any:
    """A separable block of unchanged size, added to its input."""
    y = separable(K, x, int(x.shape[-1]), name, activation=activation)
    return K.layers.Add(name=f"{name}_add")([x, y])


def separable_stages(
    K: Any, x: Any, widths: Sequence[int], repeats: Sequence[int], *, residual: bool, activation: str
) -> Any:
    """Stages of separable blocks: each halves the map, then goes over it as often as `repeats` says."""
    require_equal_lengths(widths=widths, repeats=repeats)
    for number, (width, repeat) in enumerate(zip(widths, repeats, strict=True), start=1):
        x = separable(K, x, width, f"stage{number}_down", stride=2, activation=activation)
        for again in range(1, repeat + 1):
            name = f"stage{number}_block{again}"
            x = (
                residual_separable(K, x, name, activation=activation)
                if residual
                else separable(K, x, width, name, activation=activation)
            )
    return x


def blueprint(K: Any, x: Any, filters: int, name: str, *, kernel: int = 3, stride: int = 1) -> Any:
    """1x1 and then depthwise convolution, batch normalization: a separable block the other way round.

    Each kernel is one blueprint times a number per input channel (Haase and Amthor 2020, arXiv 2003.13549), as trained
    kernels of ordinary convolutions mostly are. No activation, so that it can be added to something first.
    """
    x = _pointwise(K, x, filters, name)
    x = K.layers.DepthwiseConv2D(kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
    return norm(K, x, name)


def residual_blueprint(K: Any, x: Any, filters: int, name: str, *, stride: int = 1, activation: str = "relu") -> Any:
    """Two blueprint convolutions added to their input, which is averaged and widened where their sizes differ."""
    y = active(K, blueprint(K, x, filters, f"{name}_first", stride=stride), f"{name}_first", activation)
    y = blueprint(K, y, filters, f"{name}_second")
    if stride > 1:
        x = K.layers.AveragePooling2D(stride, padding="same", name=f"{name}_short_pool")(x)
    if int(x.shape[-1]) != filters:
        x = norm(K, _pointwise(K, x, filters, f"{name}_short"), f"{name}_short")
    return active(K, K.layers.Add(name=f"{name}_add")([x, y]), name, activation)


def inception(K: Any, x: Any, widths: Sequence[int], name: str, *, activation: str = "relu") -> Any:
    """Four looks at one map side by side: 1x1, 3x3, 5x5 and the largest of 3x3 pixels, concatenated in this order.

    Args:
        widths: filters of the four branches.
    """
    one, three, five, pool = widths
    largest = K.layers.MaxPooling2D(3, strides=1, padding="same", name=f"{name}_largest")(x)
    branches = [
        norm(K, _pointwise(K, x, one, f"{name}_one"), f"{name}_one"),
        blueprint(K, x, three, f"{name}_three"),
        blueprint(K, x, five, f"{name}_five", kernel=5),
        norm(K, _pointwise(K, largest, pool, f"{name}_pool"), f"{name}_pool"),
    ]
    named = zip(("one", "three", "five", "pool"), branches, strict=True)
    return K.layers.Concatenate(name=f"{name}_join")(
        [active(K, branch, f"{name}_{which}", activation) for which, branch in named]
    )


def tower(K: Any, widths: Sequence[int], name: str) -> Callable[[Any], Any]:
    """Separable convolutions, each halving the map, and an average, to be applied to several maps of one size.

    The layers, and so the weights, are the same at each use.
    """
    layers: list[Any] = []
    for number, width in enumerate(widths, start=1):
        step = f"{name}{number}"
        layers += [
            K.layers.SeparableConv2D(width, 3, strides=2, padding="same", use_bias=False, name=f"{step}_separable"),
            K.layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"{step}_norm"),
            K.layers.ReLU(name=f"{step}_relu"),
        ]
    layers.append(K.layers.GlobalAveragePooling2D(name=f"{name}_average"))

    def applied(x: Any) -> Any:
        for layer in layers:
            x = layer(x)
        return x

    return applied


def dense_relu(K: Any, x: Any, widths: tuple[int, ...], name: str = "dense") -> Any:
    """A chain of Dense layers with ReLU, named `<name>1`, `<name>2`, ..."""
    for number, width in enumerate(widths, start=1):
        x = K.layers.Dense(width, activation="relu", name=f"{name}{number}")(x)
    return x

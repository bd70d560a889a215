"""Building blocks of the nets: functions of a layer namespace `K` (`keras` or `tf_keras`).

Every layer gets an explicit name that starts with the name of its block, because weights are copied between
namespaces by layer name, and automatic names (`conv2d_3`) collide and depend on what was built before.
Only `K.layers` is used, so the same builder gives the same net in both namespaces.
"""

from typing import Any

#: Keras's 0.99 needs hundreds of steps to forget its start: with a small recording the moving statistics would
#: still be wrong after several epochs, and the validation error meaningless.
NORM_MOMENTUM = 0.95


def norm_relu(K: Any, x: Any, name: str) -> Any:
    """Batch normalization, which folds into the linear layer before it, and ReLU."""
    x = K.layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"{name}_norm")(x)
    return K.layers.ReLU(name=f"{name}_relu")(x)


def conv(K: Any, x: Any, filters: int, name: str, *, stride: int = 1) -> Any:
    """Ordinary convolution, batch normalization, ReLU: the stem, where one input channel starves a depthwise."""
    x = K.layers.Conv2D(
        filters, 3, strides=stride, padding="same", use_bias=False,
        kernel_initializer="he_normal", name=f"{name}_conv",
    )(x)  # fmt: skip
    return norm_relu(K, x, name)


def separable(K: Any, x: Any, filters: int, name: str, *, stride: int = 1) -> Any:
    """Depthwise and 1x1 convolution, then batch normalization and ReLU; the depthwise carries the stride."""
    x = K.layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
    x = K.layers.Conv2D(
        filters, 1, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_pointwise"
    )(x)
    return norm_relu(K, x, name)


def residual_separable(K: Any, x: Any, name: str) -> Any:
    """A separable block of unchanged size, added to its input."""
    y = separable(K, x, int(x.shape[-1]), name)
    return K.layers.Add(name=f"{name}_add")([x, y])


def dense_relu(K: Any, x: Any, widths: tuple[int, ...], name: str = "dense") -> Any:
    """A chain of Dense layers with ReLU, named `<name>1`, `<name>2`, ..."""
    for number, width in enumerate(widths, start=1):
        x = K.layers.Dense(width, activation="relu", name=f"{name}{number}")(x)
    return x

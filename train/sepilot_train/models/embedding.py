"""Nets whose answer is compared with that to other pictures. Input and builders as in `steering`."""

from collections.abc import Sequence
from typing import Any

from sepilot_train.models import blocks
from sepilot_train.models.blocks import STEERING, Outputs, Shape


def build_tower(
    K: Any,
    picture_shape: Shape,
    outputs: Outputs = STEERING,
    *,
    stem: int = 32,
    widths: Sequence[int] = (64, 128, 192),
    repeats: Sequence[int] = (1, 1, 1),
    activation: str = "relu",
    dropout: float = 0.0,
) -> Any:
    """One of the equal towers of a siamese net: 117,248 parameters and 4.8 million MACs at 64x64x1 with 64 numbers.

    Its last map is not averaged but weighed, by a number per channel and place: where something is says who it is, in
    pictures that show it in the middle (Chen et al. 2018, arXiv 1804.07573).

    Args:
        stem: filters of the first convolution, of stride 2.
        widths: filters of the stages; each begins by halving the map.
        repeats: residual blocks of each stage after the halving one.
        activation: a name of `blocks.activation`.
        dropout: of the weighed features.
    """
    image = K.Input(picture_shape, name="image")
    x = blocks.conv(K, image, stem, "stem", stride=2, activation=activation)
    x = blocks.separable_stages(K, x, widths, repeats, residual=True, activation=activation)
    x = K.layers.DepthwiseConv2D(tuple(int(side) for side in x.shape[1:3]), use_bias=False, name="weighed_depthwise")(x)
    x = K.layers.Flatten(name="flat")(blocks.norm(K, x, "weighed"))
    x = K.layers.Dropout(dropout, name="dropout")(x) if dropout else x
    # What is added to every vector tells none from another.
    return blocks.with_heads(K, image, x, "tower", outputs, use_bias=False)

"""A net that says where things are: places come from features that still know where they were found.

Input and builders as in `steering`; a head gives numbers without an activation.
"""

from collections.abc import Sequence
from typing import Any

from sepilot_train.models import blocks
from sepilot_train.models.blocks import STEERING, Outputs, Shape


def build_landmarks(
    K: Any,
    picture_shape: Shape,
    outputs: Outputs = STEERING,
    *,
    stem: int = 16,
    widths: Sequence[int] = (32, 64, 128),
    repeats: Sequence[int] = (1, 2, 2),
    squeeze: int = 32,
    dense: Sequence[int] = (128,),
    activation: str = "relu",
    dropout: float = 0.0,
) -> Any:
    """For the points of one thing: 229,608 parameters and 5.0 million MACs at 96x96x1 with 68 points.

    An ordinary convolution of stride 2, separable blocks with residual ways down to a sixteenth of the picture, and
    dense layers on the whole of that map: an average over it would forget where things are.

    Args:
        stem: filters of the first convolution.
        widths: filters of the stages; each begins by halving the map.
        repeats: residual blocks of each stage after the halving one.
        squeeze: channels that the dense layers see of each place of the map.
        dense: widths of the layers between the map and the heads.
        activation: a name of `blocks.activation`.
        dropout: of what the heads see.
    """
    image = K.Input(picture_shape, name="image")
    x = blocks.conv(K, image, stem, "stem", stride=2, activation=activation)
    x = blocks.separable_stages(K, x, widths, repeats, residual=True, activation=activation)
    x = K.layers.Conv2D(squeeze, 1, use_bias=False, kernel_initializer="he_normal", name="squeeze_pointwise")(x)
    x = K.layers.Flatten(name="flatten")(blocks.norm_active(K, x, "squeeze", activation))
    x = blocks.dense_relu(K, x, tuple(dense))
    x = K.layers.Dropout(dropout, name="dropout")(x) if dropout else x
    return blocks.with_heads(K, image, x, "landmarks", outputs)

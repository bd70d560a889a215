"""The nets, by name: `build_model("swift", (66, 100, 1), {})`."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from sepilot_runtime.base.errors import RecipeError
from sepilot_train.models import classifiers, detectors, embedding, landmarks, steering
from sepilot_train.models.blocks import NO_VECTORS, STEERING, Shape, Vectors

__all__ = ["BUILDERS", "EXAMPLES", "build_model"]

BUILDERS: dict[str, Callable[..., Any]] = {
    "v27": steering.build_v27,
    "v27-foldable": steering.build_v27_foldable,
    "swift": steering.build_swift,
    "pilotnet": steering.build_pilotnet,
    "donkey-linear": steering.build_donkey_linear,
    "separable-64": classifiers.build_separable_64,
    "cifar-under-100k": classifiers.build_cifar_under_100k,
    "cifar-sep": classifiers.build_cifar_sep,
    "wide": classifiers.build_wide,
    "inception": classifiers.build_inception,
    "stereo": classifiers.build_stereo,
    "spot": detectors.build_spot,
    "locate": detectors.build_locate,
    "landmarks": landmarks.build_landmarks,
    "tower": embedding.build_tower,
}

EXAMPLES: Mapping[str, tuple[Shape, int]] = {
    "separable-64": ((64, 64, 3), 10),
    "cifar-under-100k": ((32, 32, 3), 10),
    "cifar-sep": ((32, 32, 3), 10),
    "wide": ((512, 512, 3), 5),
    "inception": ((64, 64, 3), 10),
    "stereo": ((64, 192, 1), 1),
    "landmarks": ((96, 96, 1), 136),
    "tower": ((64, 64, 1), 64),
}
"""Of nets beside the steering ones, the picture and the numbers of the one answer that they were made for."""


def build_model(
    builder: str,
    picture_shape: tuple[int, int, int],
    options: Mapping[str, Any],
    outputs: Mapping[str, int] = STEERING,
    K: Any = None,
    vectors: Vectors = NO_VECTORS,
) -> Any:
    """Build the net `builder` for pictures of (height, width, channels).

    The net has a head for each of `outputs`, of so many numbers. `options` are the builder's keyword arguments. `K` is
    the layer namespace; Keras 3 when not given. `vectors` go beside the picture: how many numbers, and their scale.

    Raises:
        RecipeError: the builder or an option is not known, or the picture is too small for the net.
    """
    if builder not in BUILDERS:
        raise RecipeError(f"model.builder: expected one of {', '.join(BUILDERS)}; found {builder!r}")
    build = BUILDERS[builder]
    known = [name for name, p in inspect.signature(build).parameters.items() if p.kind is p.KEYWORD_ONLY]
    if vectors and "vectors" not in known:
        able = ", ".join(name for name, b in BUILDERS.items() if "vectors" in inspect.signature(b).parameters)
        raise RecipeError(f"inputs: {builder} takes nothing beside its picture, but one of {able} or code of your own")
    known = [name for name in known if name != "vectors"]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise RecipeError(
            f"model.options: {builder} has no option {unknown[0]!r}; it knows {', '.join(known) or 'none'}"
        )
    if K is None:
        import keras

        K = keras
    try:
        return build(K, picture_shape, outputs, **options, **({"vectors": vectors} if vectors else {}))
    except (TypeError, ValueError) as e:
        # Keras names the layer and the size in the first line; the rest is a list of arguments.
        height, width, channels = picture_shape
        reason = str(e).strip().splitlines()[0]
        raise RecipeError(f"model: {builder} cannot be built for {height}x{width}x{channels}: {reason}") from e

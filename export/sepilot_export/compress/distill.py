"""Distillation: a student learns what several teachers say, with less noise in it than in a person's hand.

Teachers and student look at the very same augmented pictures, for many epochs: function matching (Beyer et al. 2022,
"Knowledge distillation: a good teacher is patient and consistent", arXiv 2106.05237). Teachers that answer once to each
frame as recorded taught nothing here: what they say to the frames that trained them is partly learnt by heart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.compress.recipe import Distill
from sepilot_runtime.base.errors import RunError
from sepilot_train.base.frame_set import FrameSet
from sepilot_train.fit.data import AugmentedPictures, Epoch, Told, asked
from sepilot_train.fit.predict import by_name
from sepilot_train.run.material import Material
from sepilot_train.run.recipe import Recipe
from sepilot_train.run.run import Run, read_split

__all__ = ["answers_of", "require_fair"]


def require_fair(teachers: Sequence[Run], material: Material) -> None:
    """Make sure that no teacher has seen the frames that will judge the student.

    Raises:
        RunError: one has; the message names it, the drive and how many frames.
    """
    judged = {
        drive.id: {drive.names[i] for i in index}
        for drive, index in zip(material.drives, material.split.validation, strict=True)
        if len(index)
    }
    for teacher in teachers:
        for drive in read_split(teacher.path):
            seen = judged.get(drive.id, set()) & set(drive.train)
            if seen:
                raise RunError(
                    f"{teacher.path}: was trained on {len(seen):,} frames of drive {drive.id} that judge this run; "
                    "a teacher must not have seen them"
                )


def answers_of(teachers: Sequence[Run], samples: FrameSet, recipe: Recipe, settings: Distill) -> Told:
    """What the teachers say to augmented pictures, mixed with the labels, for `fit.fit`.

    Args:
        samples: what the student is trained on, pictures as `recipe` says.

    Raises:
        RunError: a teacher sees another part of the frame than the student; its picture cannot be made from this one.
    """
    for teacher in teachers:
        _require_same_view(teacher, recipe)
        if missing := [name for name in recipe.targets if name not in teacher.recipe.targets]:
            known = ", ".join(teacher.recipe.targets)
            raise RunError(f"{teacher.path}: a teacher with the output {missing[0]} expected, found one of {known}")
        for name, target in recipe.targets.items():
            own, its = target.output(name, 1.0), teacher.recipe.targets[name].output(name, 1.0)
            if own != its:
                raise RunError(f"{teacher.path}: {name}: a teacher with the student's own output expected, found {its}")
    model = _teaching_model([teacher.load_model() for teacher in teachers], samples, recipe)
    weight = np.float32(settings.teacher_weight)

    def answer(epoch: Epoch) -> dict[str, NDArray[np.float32]]:
        said = [model(index, uniforms) for index, uniforms in zip(epoch.index, epoch.uniforms, strict=True)]
        labels = [
            asked(samples.labels, index, uniforms, recipe.targets, recipe.augmentation, samples.pictures.shape[1:])
            for index, uniforms in zip(epoch.index, epoch.uniforms, strict=True)
        ]
        return {
            name: np.stack([weight * a[name] + (1 - weight) * b[name] for a, b in zip(said, labels, strict=True)])
            for name in labels[0]
        }

    return answer


def _require_same_view(teacher: Run, recipe: Recipe) -> None:
    for key in ("color", "crop_top", "crop_bottom", "crop_left", "crop_right"):
        expected, found = getattr(recipe.picture, key), getattr(teacher.recipe.picture, key)
        if expected != found:
            raise RunError(
                f"{teacher.path}: picture.{key}: {expected!r} expected as in the student's picture, found {found!r}; "
                "a teacher must see the same part of the frame"
            )


def _teaching_model(teachers: Sequence[Any], samples: FrameSet, recipe: Recipe) -> Any:
    """(index (n,), uniforms (n, k)) to the teachers' mean answers to the augmented frames, as losses take labels."""
    import keras
    import tensorflow as tf

    augmented = AugmentedPictures(recipe.augmentation, None)

    @tf.function  # type: ignore[untyped-decorator]
    def mean_answer(pictures: Any, uniforms: Any) -> Any:
        changed = augmented({"pictures": pictures, "uniforms": uniforms})
        total: dict[str, Any] = {}
        for teacher in teachers:
            size = tuple(teacher.input_shape[1:3])
            same = size == recipe.picture.shape[:2]
            seen = changed if same else keras.ops.image.resize(changed, size, interpolation="bilinear")
            for name, said in by_name(teacher.output_names, teacher(seen, training=False)).items():
                total[name] = total.get(name, 0.0) + said
        return {name: said / len(teachers) for name, said in total.items()}

    def answer(index: NDArray[np.int32], uniforms: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        said = {name: np.asarray(s) for name, s in mean_answer(samples.pictures[index], uniforms).items()}
        found: dict[str, NDArray[np.float32]] = {}
        for name, target in recipe.targets.items():
            found |= target.taught(name, {t: said[t] for t in target.output(name, 1.0).tensors})
        return found

    return answer

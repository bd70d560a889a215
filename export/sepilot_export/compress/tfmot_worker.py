"""The process in which tfmot works: python -m sepilot_export.compress.tfmot_worker JOB_FOLDER PROGRESS_DESCRIPTOR.

Reads model.keras, pictures.npy, labels.npy and job.json from the folder; leaves weights.npz, result.json and, after
quantization, int8.tflite there. A user's mistake is left as error.json; anything else ends in a traceback on stderr,
which is the log. This module and those that it alone imports are the only ones with tfmot and tf_keras in them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sepilot_export.compress.kernels import joined
from sepilot_export.compress.recipe import Compression
from sepilot_export.record.compressions import LayerNote
from sepilot_runtime.base.documents import parse
from sepilot_runtime.base.errors import RecipeError, RunError, SepilotError
from sepilot_runtime.base.files import read_json, write_json
from sepilot_train.base.frame_set import FrameSet
from sepilot_train.fit.augment import Augmentation
from sepilot_train.fit.outputs.kinds import AnyTarget

__all__ = ["main"]

_STATISTICS_FRAMES = 4096


def main(arguments: Sequence[str]) -> int:
    """Do the job; 0, or 2 after a user's mistake."""
    folder, descriptor = Path(arguments[0]), int(arguments[1])
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", buffering=1) as messages:

            def tell(**message: Any) -> None:
                messages.write(json.dumps(message) + "\n")

            _work(folder, tell)
    except SepilotError as e:
        write_json(folder / "error.json", {"message": str(e)})
        return 2
    return 0


def _work(folder: Path, tell: Any) -> None:
    import keras

    from sepilot_export.compress import clustering, pruning, quantizing
    from sepilot_export.compress.finetune import Course

    job = read_json(folder / "job.json", RunError)
    compression = _parsed(Compression, job["compression"])
    course = Course(
        train=FrameSet(
            pictures=np.load(folder / "pictures.npy", mmap_mode="r"),
            labels=dict(np.load(folder / "labels.npz")),
        ),
        targets={name: _parsed(AnyTarget, target) for name, target in job["targets"].items()},
        augmentation=_parsed(Augmentation, job["augmentation"]),
        seed=job["seed"],
        begin=lambda label, total: tell(label=label, total=total),
        advance=lambda steps: tell(done=steps),
    )
    keras.utils.set_random_seed(course.seed)
    model = keras.models.load_model(folder / "model.keras", compile=False)
    notes: list[LayerNote] = []
    if compression.prune is not None:
        notes += pruning.prune(model, compression.prune, course)
        _renew_statistics(model, course)
    if compression.cluster is not None:
        notes += clustering.cluster(model, compression.cluster, course)
        _renew_statistics(model, course)
    if compression.quantize is not None:
        found, content = quantizing.quantize(model, compression.quantize, course, folder)
        notes += found
        (folder / "int8.tflite").write_bytes(content)
    weights = {f"{layer.name}/{i}": w for layer in model.layers for i, w in enumerate(layer.get_weights())}
    np.savez(folder / "weights.npz", **weights)
    write_json(folder / "result.json", {"layers": [dataclasses.asdict(n) for n in joined(notes)]})


def _parsed(kind: Any, value: Any) -> Any:
    return parse(kind, value, "", RecipeError, complete=True)


def _renew_statistics(model: Any, course: Any) -> None:
    """Set the statistics of batch normalizations, which lag behind the weights, to those over what training saw."""
    from sepilot_export.compress.batch_norm_refresh import augmented, reestimate

    pictures = augmented(course.train.pictures, course.augmentation, seed=course.seed, limit=_STATISTICS_FRAMES)
    reestimate(model, pictures, seed=course.seed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Pruning, clustering and quantization-aware training by tfmot, which works in a process of its own.

tfmot needs tf_keras, sets TF_USE_LEGACY_KERAS for everything that imports TensorFlow after it, and replaces functions.
None of that reaches the process that calls `compress`: it writes the net and the pictures into a job folder, starts
`tfmot_worker` on it, and reads back weights, notes and, after quantization, the int8 file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import re
import subprocess
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from sepilot_export.compress.recipe import Compression
from sepilot_export.compress.step import StepOutcome, Work, WorkFailed
from sepilot_export.compress.tfmot_support import require_supported
from sepilot_export.record.compressions import LayerNote
from sepilot_runtime.base.documents import plain
from sepilot_runtime.base.errors import MissingExtraError, RunError
from sepilot_runtime.base.files import read_json, write_json
from sepilot_runtime.base.processes import own_environment, python_words
from sepilot_train.base.progress import progress_bar

__all__ = ["compress", "require_supported"]

_WORKER = "sepilot_export.compress.tfmot_worker"
_NEEDED = {"tensorflow_model_optimization": "tensorflow-model-optimization", "tf_keras": "tf-keras"}
_RAISED = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt)\b")
_LONGEST = 300


def compress(model: Any, compression: Compression, work: Work) -> StepOutcome:
    """Prune, then cluster, then quantize a Keras 3 `model`, as far as `compression` has these sections.

    Returns:
        A new model of the same architecture; after quantization also the TFLite file, whose answers the model's are
        but for rounding.

    Raises:
        RunError: the net has a layer that tfmot cannot handle, said before anything is trained.
        WorkFailed: the process failed, with the cause.
        MissingExtraError: tfmot is not installed.
    """
    for module, package in _NEEDED.items():
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(package, "export")
    require_supported(model, compression)
    _write_job(model, compression, work)
    _run(work)
    return _outcome(model, work.folder)


def _write_job(model: Any, compression: Compression, work: Work) -> None:
    model.save(work.folder / "model.keras")
    np.save(work.folder / "pictures.npy", work.train.pictures)
    np.savez(work.folder / "labels.npz", **cast(dict[str, Any], work.train.labels))
    job = {
        "seed": work.seed,
        "targets": {name: plain(target) for name, target in work.targets.items()},
        "augmentation": dataclasses.asdict(work.augmentation),
        "compression": dataclasses.asdict(compression),
    }
    write_json(work.folder / "job.json", job)


def _run(work: Work) -> None:
    """Run the worker to its end, showing its progress.

    Raises:
        RunError: it found a mistake of the user's.
        WorkFailed: it crashed.
    """
    reading, writing = os.pipe()
    command = python_words(_WORKER, str(work.folder), str(writing))
    with work.log.open("a", encoding="utf-8") as log, os.fdopen(reading, encoding="utf-8") as messages:
        environment = {**own_environment(), "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"}
        try:
            worker = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(writing,), env=environment
            )
        finally:
            os.close(writing)
        try:
            _show(messages, shown=work.progress)
            code = worker.wait()
        finally:
            # Also on Ctrl-C: nobody else would end it.
            worker.kill()
            worker.wait()
    if code:
        error = work.folder / "error.json"
        if error.exists():
            raise RunError(str(read_json(error, RunError)["message"]))
        raise WorkFailed(f"compression by tfmot: {_cause(code, work.log)}")


def _show(messages: IO[str], *, shown: bool) -> None:
    """Draw a bar for each training until the worker closes its end."""
    advance = None
    with contextlib.ExitStack() as bars:
        for line in messages:
            message = json.loads(line)
            if "label" in message:
                bars.close()
                advance = bars.enter_context(progress_bar(message["label"], message["total"], shown=shown))
            elif advance is not None:
                advance(message["done"])


def _cause(code: int, log: Path) -> str:
    if code < 0:
        return f"the process was ended by signal {-code}{' (out of memory?)' if code == -9 else ''}"
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    # TensorFlow may add lines of its own after the traceback's last.
    raised = [line for line in lines if _RAISED.match(line)]
    said = (raised or lines or [f"the process ended with code {code} and said nothing"])[-1].strip()
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]}..."


def _outcome(model: Any, folder: Path) -> StepOutcome:
    import keras

    copy = keras.models.clone_model(model)
    with np.load(folder / "weights.npz") as weights:
        for layer in copy.layers:
            layer.set_weights([weights[f"{layer.name}/{i}"] for i in range(len(layer.weights))])
    int8 = folder / "int8.tflite"
    return StepOutcome(
        model=copy,
        layers=tuple(LayerNote(**entry) for entry in read_json(folder / "result.json", RunError)["layers"]),
        int8=int8.read_bytes() if int8.exists() else None,
    )

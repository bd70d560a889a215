"""Two nets timed side by side, taking turns in this process: a picture in LiteRT, and a training step."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.base.latency import Way, interleave, latency_of
from sepilot_train.base.quiet import quiet
from sepilot_train.fit.predict import compiles
from sepilot_train.inspect.ordinary import rebuilt

__all__ = ["time_inference", "time_training"]

_VISIT_US = 20_000.0
_STEP_MACS = 2e9


def time_inference(net: Any, twin: Any) -> tuple[float, float]:
    """Median microseconds for a picture, net and twin: float32 TFLite in LiteRT, one thread, taking turns.

    Raises:
        UsageError: Keras does not run on TensorFlow, which makes the files.
        MissingExtraError: without LiteRT.
    """
    import keras

    from sepilot_runtime.engine.bare import open_bare, random_inputs

    if (backend := keras.backend.backend()) != "tensorflow":
        raise UsageError(f"KERAS_BACKEND=tensorflow expected, which makes the files; found {backend}")
    ways = []
    with tempfile.TemporaryDirectory(prefix="sepilot-inspect-") as folder:
        for name, timed in (("net", net), ("twin", twin)):
            path = Path(folder) / f"{name}.tflite"
            with quiet(f"converting the {name}"):
                rebuilt(timed, batch=1).export(str(path), format="litert", verbose=False)
            model = open_bare(path, engine="litert")
            once = Way(run=model.run, items=[random_inputs(model, 0)], calls=3, warm_up=3)
            took_us = float(interleave([once], rounds=1)[0].min())
            calls = max(1, min(100, round(_VISIT_US / took_us)))
            ways.append(Way(run=model.run, items=once.items, calls=calls, warm_up=min(10, calls)))
    return _medians(ways, rounds=20)


def time_training(net: Any, twin: Any, *, macs: int) -> tuple[int, float, float]:
    """Pictures of a training step, and its median microseconds for net and twin, taking turns.

    Args:
        macs: of the twin; the more it has, the fewer pictures.
    """
    import keras
    import numpy as np

    pictures = max(1, min(32, round(_STEP_MACS / max(1, macs))))
    rng, ways = np.random.default_rng(0), []
    for timed in (net, twin):
        # So low a rate that the weights stay where they are, and with them what the numbers cost.
        losses = ["mse"] * len(timed.outputs)
        timed.compile(optimizer=keras.optimizers.Adam(1e-9), loss=losses, jit_compile=compiles())
        x = [rng.random((pictures, *t.shape[1:]), np.float32) for t in timed.inputs]
        y = [np.zeros((pictures, *t.shape[1:]), np.float32) for t in timed.outputs]
        step = partial(timed.train_on_batch, x if len(x) > 1 else x[0])
        with quiet("compiling the training step"):
            step(y)
        ways.append(Way(run=step, items=[y], calls=1, warm_up=1))
    return pictures, *_medians(ways, rounds=7)


def _medians(ways: Sequence[Way], *, rounds: int) -> tuple[float, float]:
    net_us, twin_us = (latency_of(taken.ravel()).p50_us for taken in interleave(ways, rounds=rounds))
    return net_us, twin_us

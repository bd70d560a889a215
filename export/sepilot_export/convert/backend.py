"""Keras with the one back end whose graphs convert."""

from __future__ import annotations

import os
import sys

from sepilot_runtime.base.errors import UsageError

__all__ = ["use_tensorflow"]


def use_tensorflow(verb: str) -> None:
    """Keras with TensorFlow, whatever backend trained the model: only TensorFlow's graphs convert."""
    if "keras" in sys.modules:
        import keras

        if keras.backend.backend() != "tensorflow":
            raise UsageError(f"{verb} needs Keras on TensorFlow; run it in a process of its own")
    os.environ["KERAS_BACKEND"] = "tensorflow"

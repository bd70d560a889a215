"""From errors to one line on stderr and an exit code, for verbs and for processes of our own.

0 done, 1 a gate failed, 2 a user's mistake or a missing thing, 130 Ctrl-C.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable

from sepilot_runtime.base.errors import MissingExtraError, OutputError, SepilotError
from sepilot_runtime.base.terminal import one_line

__all__ = ["run_verb"]

EXTRA_OF = {
    "keras": "train",
    "tensorflow": "train",
    "matplotlib": "train",
    "rich": "train",
    "jax": "train-jax",
    "jinja2": "export",
    "onnx": "export",
    "tf2onnx": "export",
    "tf_keras": "export",
    "tensorflow_model_optimization": "export",
    "ai_edge_quantizer": "export",
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "cryptography": "signing",
    "serial": "serial",
    "smbus2": "servo",
    "paho": "mqtt",
    "h11": "web",
    "gymnasium": "sim",
    "panda3d": "sim3d",
    "sepilot_train": "train",
    "sepilot_export": "export",
}
"""Top-level import name to the extra of pyproject.toml that brings it."""


def run_verb(call: Callable[[], int]) -> int:
    """Run one verb; errors of the user become one line on stderr and exit code 2, Ctrl-C 130."""
    try:
        code = call()
        _flush_stdout()
        return code
    except SepilotError as e:
        print(f"sepilot: {one_line(str(e))}", file=sys.stderr)
        if isinstance(e, OutputError):
            _forget_stdout()
        return e.exit_code
    except ModuleNotFoundError as e:
        package = (e.name or "").split(".")[0]
        # A module missing inside a package that is there is our own fault, and keeps its traceback.
        if package not in EXTRA_OF or (e.name != package and importlib.util.find_spec(package) is not None):
            raise
        print(f"sepilot: {MissingExtraError(package, EXTRA_OF[package])}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sepilot: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has gone.
        _forget_stdout()
        return 0


def _flush_stdout() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as e:
        raise OutputError(f"standard output: cannot be written: {e.strerror or e}") from e


def _forget_stdout() -> None:
    """Where stdout cannot be written: keep Python from complaining once more when it flushes at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

"""Keeps the terminal clean while TensorFlow and the converters run.

TensorFlow's C++ side writes to file descriptor 2 before any of its own switches apply, the quantizer draws progress
bars on either stream, and tf2onnx reports failures as log lines only. So the descriptors themselves are pointed at a
log file; when the block fails, the file is kept and named.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from sepilot_runtime.base.errors import RunError, SepilotError, UsageError

__all__ = ["quiet", "start_keras"]

BACKENDS = ("tensorflow", "jax")

_FLAGS = {"XLA_FLAGS", "TF_XLA_FLAGS"}


@contextlib.contextmanager
def quiet(doing: str) -> Iterator[Path]:
    """Send everything written to stdout and stderr, and warnings, to a log file, whose path it gives.

    The log is removed when the block succeeds. Blocks may be nested.

    Args:
        doing: what is done, for the message: "conversion to float32.onnx".

    Raises:
        RunError: whatever the block raised, if it was no `SepilotError`, with the log's path.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    handle, name = tempfile.mkstemp(prefix="sepilot-", suffix=".log")
    log = Path(name)
    keep = False
    with os.fdopen(handle, "w") as stream, _redirected(stream), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield log
        except (SepilotError, MemoryError, ModuleNotFoundError):
            # A missing module has its own answer: the extra that brings it.
            raise
        except Exception as e:
            # The converters raise whatever they like, from KeyError to types of their own. Here it becomes one line
            # that names the cause; the whole story is in the log.
            keep = True
            traceback.print_exc()
            text = str(e).strip().splitlines()
            raise RunError(f"{doing}: {type(e).__name__}: {text[0] if text else 'no message'}; log: {log}") from e
        finally:
            if not keep:
                log.unlink(missing_ok=True)


def start_keras() -> None:
    """Import Keras and its back end, whose start-up lines say nothing that a user can act on.

    Raises:
        UsageError: KERAS_BACKEND names another back end than those that sepilot trains with.
    """
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend not in BACKENDS:
        raise UsageError(f"KERAS_BACKEND: one of {', '.join(BACKENDS)} expected, found {backend!r}")
    # On an unknown flag TensorFlow ends the process, with nothing but a line of its own.
    hidden = contextlib.nullcontext() if _FLAGS & os.environ.keys() else quiet("start of the Keras back end")
    with hidden:
        import keras

        keras.ops.zeros(1)


@contextlib.contextmanager
def _redirected(log: TextIO) -> Iterator[None]:
    """Point descriptors 1 and 2, and Python's streams wherever they lead, at `log`, and back again."""
    _flush()
    saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    for descriptor in saved:
        os.dup2(log.fileno(), descriptor)
    try:
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            yield
    finally:
        _flush()
        log.flush()
        for descriptor, original in saved.items():
            os.dup2(original, descriptor)
            os.close(original)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(ValueError):  # A test's stream that was closed already.
            stream.flush()

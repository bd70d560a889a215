"""What the machine could do at best: its arithmetic rate, measured on the spot, and what a model asks of it.

The rate is that of a large float32 matrix product of numpy's BLAS on one thread, which keeps the multipliers busier
than any small net can. A model's multiplications at that rate are its floor: no float32 interpreter gets below it, and
how far above it one is says how much is left to gain. Integer arithmetic may do four times as much at once.

    python -m sepilot_runtime.bench.roofline      prints the rate in GMAC/s
"""

from __future__ import annotations

import struct
import subprocess
import time
from pathlib import Path

import numpy as np

from sepilot_runtime.base.errors import ModelFileError
from sepilot_runtime.base.processes import own_environment, python_words
from sepilot_runtime.engine.model_file import read_content
from sepilot_runtime.engine.names import ModelKind
from sepilot_runtime.engine.tflite_reader import macs_of

__all__ = ["floor_us", "gemm_rate", "model_macs"]

SIDE = 384
"""Of the matrices: 0.6 MB each, so that they stay in the cache."""

REPEATS = 12
BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def gemm_rate() -> float | None:
    """Multiplications with addition per second, in 1e9, of one thread; None where it could not be measured.

    In a process of its own: a BLAS takes its number of threads from the environment when it is loaded.
    """
    environment = {**own_environment(), **dict.fromkeys(BLAS_THREADS, "1")}
    words = python_words("sepilot_runtime.bench.roofline")
    try:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=True)
        return float(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def model_macs(path: Path) -> int | None:
    """Multiplications with addition of one picture; None for ONNX files, which do not say their shapes.

    Raises:
        ModelFileError: the file is damaged.
    """
    kind, content = read_content(path)
    if kind is not ModelKind.TFLITE:
        return None
    try:
        return macs_of(content)
    except (struct.error, IndexError) as e:
        raise ModelFileError(f"{path}: damaged: it is not a whole TFLITE file; copy or export it again") from e


def floor_us(macs: int, rate_gmacs: float) -> float:
    """Microseconds that so many multiplications take at this rate."""
    return macs / rate_gmacs / 1e3


def main() -> int:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((SIDE, SIDE), np.float32) for _ in range(2))
    out = np.empty_like(a)
    best_s = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        np.matmul(a, b, out=out)
        best_s = min(best_s, time.perf_counter() - start)
    print(SIDE**3 / best_s / 1e9)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

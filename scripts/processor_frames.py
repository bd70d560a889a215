"""What processors are asked about: held-out frames of an export, and seeded frames for the preprocessing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_export.verify.reference import Reference
from sepilot_runtime.contract.preprocess import picture_of

__all__ = ["seeded_frames", "write_frames"]

SIZES = ((480, 640), (120, 160))


def write_frames(path: Path, reference: Reference, frames: NDArray[np.intp]) -> None:
    """FRAMES.npz of processor_answers.py: these frames of the reference, and the seeded ones with their pictures."""
    inputs = reference.pictures if reference.frames is None else reference.frames
    seeded = dict(seeded_frames())
    np.savez(
        path,
        inputs=inputs[frames],
        contract=np.array(reference.contract.to_json()),
        **{f"frame/{name}": frame for name, frame in seeded.items()},
        **{f"picture/{name}": picture_of(frame, reference.contract.picture) for name, frame in seeded.items()},
    )  # type: ignore[arg-type]


def seeded_frames() -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Name and frame (H, W, 3) uint8: noise, where every pixel counts, and slopes, where roundings lie side by side."""
    for height, width in SIZES:
        rng = np.random.default_rng(height)
        yield f"{width}x{height} noise", rng.integers(0, 256, (height, width, 3), np.uint8)
        rows, columns = np.mgrid[0:height, 0:width] / width
        waves = [np.sin(rng.uniform(2, 9) * rows + rng.uniform(2, 9) * columns + phase) for phase in range(3)]
        yield f"{width}x{height} smooth", np.rint(127.5 + 127.5 * np.stack(waves, axis=2)).astype(np.uint8)

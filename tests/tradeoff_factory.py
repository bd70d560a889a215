"""Tiny exports of the ramp model, and hand-made lines of the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from export_factory import write_record
from model_factory import contract_of, frames, steering_of, write_tflite
from sepilot_export.tradeoff.candidate import Entry, Timing
from sepilot_export.tradeoff.discovery import Place
from sepilot_export.tradeoff.lineage import Command
from sepilot_export.verify.reference import Reference
from sepilot_runtime.base.bootstrap import paired_bootstrap_mean
from sepilot_runtime.contract.preprocess import picture_of

FRAMES = 80
DRIVES = ("held",) * 1000
CONSTANT_DEG = 5.0


def entry(
    name: str,
    mae: float,
    us: float,
    kb: float,
    *,
    gzip_kb: float | None = None,
    spread: float = 0.0,
    reasons: Sequence[str] = (),
) -> Entry:
    """A file whose errors on 1,000 frames have the mean `mae` degrees, with noise of its own of width `spread`."""
    rng = np.random.default_rng(sum(map(ord, name)))
    noise = rng.normal(0, spread, len(DRIVES)) if spread else np.zeros(len(DRIVES))
    errors = mae + noise - noise.mean()
    return Entry(
        number=0,
        place=Place(path=Path(name), shown=Path(name), name=name, run=None),
        file="f.tflite",
        name=name,
        made_by="ramp",
        format="float32.tflite",
        precision="float32",
        engine="litert",
        bytes=int(kb * 1000),
        gzip_bytes=int((kb if gzip_kb is None else gzip_kb) * 1000),
        sparsity=0.0,
        parameters=1,
        macs=1,
        errors_deg=errors,
        mae_deg=paired_bootstrap_mean(errors, DRIVES),
        constant_errors_deg=np.full(len(DRIVES), CONSTANT_DEG),
        max_deviation_deg=0.0,
        timing=Timing(median_us=us, low_us=us, high_us=us, net_us=us / 2),
        commands=(Command(text=f"sepilot export {name}"),),
        reasons=tuple(reasons),
    )


def write_export(
    folder: Path, *, broken: bool = False, drive: str = "held", count: int = FRAMES, first: int = 0, blur: float = 0.1
) -> Path:
    """An export of the ramp model: a float32 and an int8 file.

    Args:
        broken: int8 steers to one side.
        drive, count, first: which frames are held out, by name.
        blur: noise of the labels, in label units.
    """
    folder.mkdir(parents=True)
    write_tflite(folder / "ramp-float32.tflite")
    write_tflite(folder / "ramp-int8.tflite", int8=True, bias=0.5 if broken else 0.05)
    pictures = np.stack([picture_of(f, contract_of().picture) for f in frames(first + count, seed=1)[first:]])
    said = np.array([steering_of(p) for p in pictures], np.float32)
    noise = np.random.default_rng(0).normal(0, blur, len(said)).astype(np.float32)
    Reference(
        pictures=pictures,
        drives=(drive,) * count,
        names=tuple(str(first + i) for i in range(count)),
        labels={"steering": said + noise},
        predictions={"steering": said},
        constant={"steering": 0.0},
        contract=contract_of(),
    ).save(folder / "reference.npz")
    rows = [{"format": name, "sha256": "", "sparsity": 0.25} for name in ("float32.tflite", "int8.tflite")]
    write_record(folder, rows, min_throttle=0.0)
    return folder

"""What model files answer on the processor that this runs on: one JSON line for each job, as soon as it is done.

    processor_answers.py FRAMES.npz JOB...     JOB: ENGINE:FILE (ENGINE "usual" or one of `sepilot drive`), or "pixels"

Needs numpy, the runtime and the engines, nothing else: it runs under emulation, where every import counts.
FRAMES.npz holds `inputs` (n, h, w, c) uint8, pictures or frames as the files take them; for "pixels" also `contract`,
the JSON of the contract whose picture is made, and for each NAME `frame/NAME` (H, W, 3) with `picture/NAME` (h, w, c),
which the machine that asks made of it.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import SepilotError
from sepilot_runtime.contract.contract import Contract
from sepilot_runtime.contract.preprocess import Preprocessor
from sepilot_runtime.engine.names import engine_named
from sepilot_runtime.engine.golden import verify_golden
from sepilot_runtime.engine.pilot import answers_to, load_pilot

USUAL = "usual"


def main(argv: Sequence[str]) -> int:
    with np.load(argv[0]) as data:
        frames = dict(data)
    for job in argv[1:]:
        answer = pixels(frames) if job == "pixels" else answers(job, frames["inputs"])
        print(json.dumps({"job": job, **answer}), flush=True)
    return 0


def answers(job: str, inputs: NDArray[np.uint8]) -> dict[str, Any]:
    """Answers to all inputs, in output values; or `error` where the engine does not open or run the file.

    `golden` says what the golden frames, which are run at every load, found wrong; None where nothing.
    """
    engine, _, file = job.partition(":")
    try:
        pilot = load_pilot(Path(file), verify=False, engine=None if engine == USUAL else engine_named(engine))
        golden = _golden_fault(pilot)
        infer = pilot.infer if pilot.contract.frame else pilot.infer_picture
        return {"answers": answers_to(infer, inputs)["steering"].astype(float).tolist(), "golden": golden}
    except SepilotError as e:
        return {"error": str(e).removeprefix(f"{file}: ")}


def _golden_fault(pilot: Any) -> str | None:
    try:
        verify_golden(pilot.engine)
    except SepilotError as e:
        return str(e).removeprefix(f"{pilot.engine.path}: ")
    return None


def pixels(frames: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Each seeded frame's picture: its CRC-32, and in gray levels its largest difference from the asking machine's."""
    preprocessor = Preprocessor(Contract.from_json(str(frames["contract"]), "contract").picture)
    found = {}
    for name in sorted(key.removeprefix("frame/") for key in frames if key.startswith("frame/")):
        picture = preprocessor.picture_of(frames[f"frame/{name}"])
        difference = np.abs(picture.astype(np.int16) - frames[f"picture/{name}"]).max()
        found[name] = {"crc32": zlib.crc32(picture.tobytes()), "levels": int(difference)}
    return {"pixels": found}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

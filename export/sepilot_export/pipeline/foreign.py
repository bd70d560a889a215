"""A model file as it came, and whoever can say what it should answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.stated import Plan, StatedContract, plan_of, tensor_input
from sepilot_export.convert.wrapping import onnx_precision, tflite_precision
from sepilot_export.verify.second_opinion import second_opinion
from sepilot_runtime.base.errors import ModelFileError, NoContractError, UsageError
from sepilot_runtime.engine.bare import BareModel, open_bare
from sepilot_runtime.engine.model_file import read_content, read_model_file
from sepilot_runtime.engine.names import ModelKind
from sepilot_train.base.quiet import quiet
from sepilot_train.base.stored import Pictures

__all__ = ["Asked", "Foreign", "open_foreign"]

LONGEST_S = 60.0
"""For the answers of the reference, which may be slow; fewer frames are taken then."""

FEWEST_FRAMES, MOST_FRAMES = 32, 2000

Vectors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Foreign:
    """A file as it came.

    Attributes:
        reference: whose answers count, by the file's own names.
        files: by format, with the same names.
        single: the reference is the interpreter that will run it.
    """

    path: Path
    reference: BareModel
    files: Mapping[str, bytes]
    single: bool = False

    def plan(self, stated: StatedContract) -> Plan:
        """What it and a statement say together. Raises UsageError."""
        return plan_of(stated, self.reference.inputs, self.reference.outputs, str(self.path))


def open_foreign(
    path: Path, work: Path, *, reference: str = "", single: bool = False, formats: Sequence[str] = ()
) -> Foreign:
    """Read a .tflite, .onnx, .keras or .h5 file and find out who can say what it should answer.

    Args:
        work: a folder for what conversions leave.
        reference: another interpreter by name; "" for the first that runs it.
        single: without another, its own interpreter will do.
        formats: to make of a Keras net; all that need no calibration where it is empty.

    Raises:
        ModelFileError, RunError: it cannot be read, run or converted.
        UsageError: see `second_opinion`.
    """
    if path.suffix in (".keras", ".h5"):
        from sepilot_export.convert.keras_source import FORMATS, converted, open_keras

        if unknown := set(formats) - set(FORMATS):
            raise UsageError(f"--formats: {', '.join(FORMATS)} expected of a Keras net, found {min(unknown)}")
        model, net = open_keras(path)
        files = converted(net, model, work / "saved_model", formats or FORMATS)
        return Foreign(path=path, reference=model, files=files)
    if formats:
        raise UsageError(f"--formats: a .keras or .h5 file expected, {path} stays what it is")
    kind, content = read_content(path)
    with contextlib.suppress(NoContractError):
        read_model_file(path)
        raise UsageError(f"{path}: a file without a contract expected, it has one: see `sepilot check`")
    with quiet(f"opening {path.name}"):
        mine = open_bare(path, content=content)
        precision = (tflite_precision if kind is ModelKind.TFLITE else onnx_precision)(content)
    other = second_opinion(mine, content, reference, single=single)
    # Integers by the frame have no format of their own in ONNX; int8 is what they may differ as much as.
    if (precision, kind) == ("dynamic", ModelKind.ONNX):
        precision = "int8"
    return Foreign(path=path, reference=other, files={f"{precision}.{kind}": content}, single=other is mine)


class Asked:
    """The reference, asked as the contract's inputs and outputs are."""

    def __init__(self, foreign: Foreign, plan: Plan) -> None:
        self._model, self._plan = foreign.reference, plan

    def answers(
        self, pictures: Sequence[NDArray[np.uint8]] | Pictures, vectors: Vectors
    ) -> dict[str, NDArray[np.float32]]:
        """(n,) of each output to n pictures (h, w, c) uint8. Raises ModelFileError where one is no number."""
        plan, found = self._plan, {name: np.empty(len(pictures), np.float32) for name in self._plan.taken}
        for i, picture in enumerate(pictures):
            feed = {plan.image.name: tensor_input(plan, picture)}
            feed |= {t.name: vectors[n][i].astype(t.dtype).reshape(t.shape) for n, t in plan.fed.items()}
            answer = self._model.run(feed)
            for name, (tensor, index, factor) in plan.taken.items():
                stored = answer[tensor.name]
                values = stored if tensor.affine is None else tensor.affine.dequantize(stored)
                found[name][i] = np.float32(values.reshape(-1)[index]) * np.float32(factor)
        for name, said in found.items():
            if not np.isfinite(said).all():
                raise ModelFileError(f"{self._model.path}: answers NaN or infinity for {name}")
        return found

    def most_frames(self) -> int:
        """As many as it answers in `LONGEST_S`."""
        picture = np.zeros(self._plan.picture.shape, np.uint8)
        nothing = {v.name: np.zeros((1, v.size), np.float32) for v in self._plan.vectors}
        self.answers([picture], nothing)
        start = time.perf_counter()
        self.answers([picture], nothing)
        return int(np.clip(LONGEST_S / (time.perf_counter() - start), FEWEST_FRAMES, MOST_FRAMES))

"""A model file as it came, and whoever can say what it should answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.formats import Format, choose_formats, format_named
from sepilot_export.convert.keras_source import open_keras
from sepilot_export.convert.stated import Plan, StatedContract, plan_of, tensor_input
from sepilot_export.convert.wrapping import onnx_precision, tflite_precision
from sepilot_export.verify.second_opinion import second_opinion
from sepilot_runtime.base.errors import ModelFileError, NoContractError, UsageError
from sepilot_runtime.engine.bare import BareModel, open_bare
from sepilot_runtime.engine.model_file import read_content, read_model_file
from sepilot_runtime.engine.names import ModelKind
from sepilot_train.base.quiet import quiet

__all__ = ["Foreign", "Vectors", "open_foreign"]

LONGEST_S = 60.0
"""For the answers of the reference, which may be slow; fewer frames are taken then."""

FEWEST_FRAMES, MOST_FRAMES = 32, 2000

Vectors = Mapping[str, NDArray[np.float32]]
"""By vector input, (n, size)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Foreign:
    """A file as it came.

    Attributes:
        reference: whose answers count, by the file's own names.
        formats: to make of it: its own, or those of a Keras net.
        net: of Keras; None for a file that stays what it is, its `content`.
        single: the reference is the interpreter that will run it.
    """

    path: Path
    reference: BareModel
    formats: tuple[Format, ...]
    net: Any = None
    content: bytes = b""
    single: bool = False

    def plan(self, stated: StatedContract) -> Plan:
        """What it and a statement say together. Raises UsageError."""
        return plan_of(stated, self.reference.inputs, self.reference.outputs, str(self.path))

    def answers(self, plan: Plan, pictures: Iterable[NDArray[np.uint8]], vectors: Vectors) -> dict[str, NDArray[Any]]:
        """By output, (n, *shape) float32, or (n,) of one number, to n pictures (h, w, c). Raises ModelFileError."""
        found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in plan.taken}
        for i, picture in enumerate(pictures):
            feed = {plan.image.name: tensor_input(plan, picture)}
            feed |= {t.name: vectors[n][i].astype(t.dtype).reshape(t.shape) for n, t in plan.fed.items()}
            answer = self.reference.run(feed)
            for name, taken in plan.taken.items():
                found[name].append(taken.of(answer[taken.tensor.name]))
        for name, said in found.items():
            if not np.isfinite(said).all():
                raise ModelFileError(f"{self.path}: answers NaN or infinity for {name}")
        stacked = {name: np.stack(said) for name, said in found.items()}
        return {name: said[:, 0] if said.shape[1] == 1 else said for name, said in stacked.items()}

    def most_frames(self, plan: Plan) -> int:
        """As many as the reference answers in `LONGEST_S`."""
        picture = np.zeros(plan.picture.shape, np.uint8)
        nothing = {v.name: np.zeros((1, v.size), np.float32) for v in plan.vectors}
        self.answers(plan, [picture], nothing)
        start = time.perf_counter()
        self.answers(plan, [picture], nothing)
        return int(np.clip(LONGEST_S / (time.perf_counter() - start), FEWEST_FRAMES, MOST_FRAMES))


def open_foreign(path: Path, *, reference: str = "", single: bool = False, formats: Sequence[str] = ()) -> Foreign:
    """Read a .tflite, .onnx, .keras or .h5 file and find out who can say what it should answer.

    Args:
        reference: another interpreter by name; "" for the first that runs it.
        single: without another, its own interpreter will do.
        formats: to make of a Keras net, as words of `choose_formats`; all where it is empty.

    Raises:
        ModelFileError, RunError: it cannot be read or run.
        UsageError: see `second_opinion`.
    """
    if path.suffix in (".keras", ".h5"):
        chosen = choose_formats(formats or ["all"])
        model, net = open_keras(path)
        return Foreign(path=path, reference=model, formats=chosen, net=net)
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
    form = format_named(f"{precision}.{kind}")
    return Foreign(path=path, reference=other, formats=(form,), content=content, single=other is mine)

"""One model in all its formats; what several of them need is made once."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert import embed, onnx_file, tflite
from sepilot_export.convert.formats import Format
from sepilot_export.convert.in_memory import Suffix
from sepilot_export.convert.inputs import ExportInputs, Step
from sepilot_export.convert.int8_as_onnx import Twin, to_onnx
from sepilot_export.pipeline.ready import Ready
from sepilot_export.quantize.int8 import Int8, Int8File
from sepilot_export.quantize.pair_sums import all_fit, tflite_kernels
from sepilot_export.record.exports import TOOLS, ExportedFile, OutputLimits
from sepilot_runtime.base.files import gzip_size, sha256_of
from sepilot_runtime.contract.contract import Contract
from sepilot_runtime.device.conditions import versions
from sepilot_train.base.quiet import quiet

__all__ = ["Converter", "Made"]

ENOUGH_ZEROS = 0.3
"""Share of zeros in one kernel from which the converter stores it as sparse; below it, places cost more than zeros."""

CUT_OFF = (
    "int8.tflite: trained by an earlier version; ONNX Runtime and OpenVINO cut off sums of its kernels on processors "
    "without VNNI, so that its twin steers otherwise there; compress again"
)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Made:
    """A file without its contract, and what was decided about it.

    Attributes:
        int8: of a file that was quantized here, or of the one that this one was made from.
        twin: of a twin, how it stands to its TFLite file.
        answers: of one that takes frames, what it said to the pictures without the preprocessing in front.
        warnings: one line each.
    """

    content: bytes
    int8: Int8File | None = None
    twin: Twin | None = None
    answers: Mapping[str, NDArray[np.float32]] | None = None
    warnings: tuple[str, ...] = ()


class Converter:
    """Makes the formats of one model; what several of them are made from is made once."""

    def __init__(self, source: ExportInputs, ready: Ready, int8: Int8, work: Path, step: Step) -> None:
        self._source, self._ready, self._int8, self._work, self._step = source, ready, int8, work, step
        self._made = {name: Made(content=content) for name, content in ready.contents.items()}
        self._makers: dict[str, Callable[[], Made]] = {
            "float32.tflite": lambda: Made(content=tflite.convert(self._saved(), "float32")),
            "float16.tflite": lambda: Made(content=tflite.convert(self._saved(), "float16")),
            "dynamic.tflite": lambda: Made(content=tflite.convert(self._saved(), "dynamic")),
            "sparse.tflite": lambda: Made(content=tflite.convert(self._saved(), "sparse")),
            "int8.tflite": lambda: self._trained_int8() or self._quantized("int8.tflite", "tflite"),
            "int8-float-head.tflite": lambda: self._quantized("int8-float-head.tflite", "tflite", float_head=True),
            "float32.onnx": lambda: Made(content=onnx_file.convert_float32(ready.deployed, source.contract)),
            "float16.onnx": lambda: Made(content=onnx_file.to_float16(self._make("float32.onnx").content)),
            "int8.onnx": lambda: self._quantized("int8.onnx", "onnx"),
            "int8-twin.onnx": self._twin,
        }

    def reason_to_skip(self, form: Format) -> str:
        """Why a format is of no use for this model, "" where it is."""
        if form.name != "sparse.tflite":
            return ""
        kernels = (w for w in self._ready.deployed.get_weights() if w.ndim > 1 and w.size >= 64)
        if any((kernel == 0).mean() >= ENOUGH_ZEROS for kernel in kernels):
            return ""
        return f"{form.name}: left out, as no kernel has {ENOUGH_ZEROS:.0%} zeros that it could leave out"

    def write(self, form: Format, folder: Path) -> tuple[ExportedFile, Made]:
        """Make a file and, once it is proved, put it into `folder`.

        Returns:
            What export.json says about it, and what was decided.

        Raises:
            RunError: it cannot be converted.
            ModelFileError: the file does not answer, or not as its golden frames say.
        """
        self._step(form.name)
        begin = time.perf_counter()
        made = self._make(form.name)
        content = made.content
        seconds = time.perf_counter() - begin
        weights = (embed.tflite_weights if form.suffix == "tflite" else embed.onnx_weights)(content)
        share = round(embed.sparsity(weights), 4)
        contract = _contract_for(self._source.contract, form, share)
        if self._ready.frames is not None:
            content, contract, answers = self._ready.frames.put_in(content, contract, form)
            made = dataclasses.replace(made, answers=answers)
        path = self._proved(content, contract, form)
        data = path.read_bytes()
        exported = ExportedFile(
            file=path.name,
            format=form.name,
            precision=form.precision,
            engine=form.engine,
            bytes=len(data),
            gzip_bytes=gzip_size(data),
            sha256=sha256_of(path),
            sparsity=share,
            seconds=round(seconds, 2),
            limits=next(iter(self._ready.limits[form.name].values())),
            outputs={name: OutputLimits(limits=limits) for name, limits in self._ready.limits[form.name].items()},
            of_training=self._source.trained_int8 is not None and "int8.tflite" in (form.name, form.made_from),
            **_decisions(made),
        )
        (folder / path.name).write_bytes(data)
        return exported, made

    def _proved(self, content: bytes, contract: Contract, form: Format) -> Path:
        """A file that carries its contract and has passed its golden frames."""
        put = embed.embed_tflite if form.suffix == "tflite" else embed.embed_onnx
        stem = re.sub(r"[^\w.-]+", "_", contract.provenance.recipe) or "model"
        path = self._work / f"{stem}{'-frame' if contract.frame else ''}-{form.name}"
        path.write_bytes(put(content, contract))
        self._ready.prove(path, form)
        return path

    def _make(self, name: str) -> Made:
        """The file called `name`, made on first use."""
        if name not in self._made:
            with quiet(f"conversion to {name}"):
                self._made[name] = self._makers[name]()
        return self._made[name]

    def _saved(self) -> Path:
        folder = self._work / "saved_model"
        if not folder.exists():
            tflite.save_graph(self._ready.deployed, self._source.contract, folder)
        return folder

    def _quantized(self, name: str, suffix: Suffix, *, float_head: bool = False) -> Made:
        file = self._int8.file(name, suffix, float_head=float_head)
        return Made(content=file.content, int8=file, warnings=file.warnings)

    def _trained_int8(self) -> Made | None:
        if self._source.trained_int8 is None:
            return None
        content = self._source.trained_int8.read_bytes()
        tflite.require_exact_input(content, self._source.contract)
        warnings = () if all_fit(tflite_kernels(content)) else (CUT_OFF,)
        return Made(content=content, warnings=warnings)

    def _twin(self) -> Made:
        pictures = self._source.training.pictures
        few = pictures[np.linspace(0, len(pictures) - 1, min(64, len(pictures))).astype(np.int64)]
        origin = self._make("int8.tflite")
        content, twin = to_onnx(origin.content, self._source.contract, few)
        return Made(content=content, int8=origin.int8, twin=twin)


def _decisions(made: Made) -> dict[str, Any]:
    """What was decided about a file, for export.json. Cost and figures are the quantized file's, not its twin's."""
    found: dict[str, Any] = {"twin": made.twin}
    if made.int8 and (mixed := made.int8.mixed):
        found |= {"kept_float": mixed.kept, "kept_because": mixed.reasons if mixed.kept else ()}
        if made.twin is None:
            found |= {"cost": mixed.cost, "figures": made.int8.figures}
    return found


def _contract_for(contract: Contract, form: Format, share: float) -> Contract:
    provenance = dataclasses.replace(
        contract.provenance,
        precision=form.precision,
        sparsity=share,
        versions={**contract.provenance.versions, **versions(TOOLS)},
    )
    tolerance = {output.name: form.tolerance * output.magnitude for output in contract.outputs}
    return dataclasses.replace(contract, provenance=provenance, tolerance=tolerance)

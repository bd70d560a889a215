"""One model in all its formats; what several of them need is made once."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert import embed, onnx_file, tflite
from sepilot_export.convert.formats import Format, GateLimits
from sepilot_export.convert.inputs import ExportInputs, Step
from sepilot_export.convert.int8_as_onnx import ALLOWED_STEPS, Twin, output_step, to_onnx, twin_gap
from sepilot_export.convert.sizes import gzip_size
from sepilot_export.pipeline import sparse
from sepilot_export.pipeline.frame_input import FrameFiles
from sepilot_export.quantize.int8 import Int8, Int8Options
from sepilot_export.quantize.pair_sums import all_fit, tflite_kernels
from sepilot_export.record.exports import TOOLS, ExportedFile
from sepilot_runtime.base.errors import ContractError, ModelFileError
from sepilot_runtime.base.files import sha256_of
from sepilot_runtime.contract.contract import Contract
from sepilot_runtime.device.conditions import versions
from sepilot_runtime.engine.pilot import load_pilot
from sepilot_train.base.quiet import quiet

__all__ = ["Converter", "ExportInputs", "Step"]


class Converter:
    """Makes the formats of one model. `int8` tells about the calibration, where there was one."""

    def __init__(
        self, source: ExportInputs, model: Any, deployed: Any, work: Path, limits: Mapping[str, GateLimits],
        options: Int8Options, step: Step, frames: FrameFiles | None = None,
    ) -> None:  # fmt: skip
        """`limits`: by format, of all of them. `frames`: puts the preprocessing into the files."""
        self._frames = frames
        self.int8 = Int8(source, model, work, limits, options, step)
        self._source, self._deployed, self._work, self._limits, self._step = source, deployed, work, limits, step
        self._made: dict[str, bytes] = {}
        self._makers: dict[str, Callable[[], bytes]] = {
            "float32.tflite": lambda: tflite.convert(self._saved(), "float32"),
            "float16.tflite": lambda: tflite.convert(self._saved(), "float16"),
            "dynamic.tflite": lambda: tflite.convert(self._saved(), "dynamic"),
            "sparse.tflite": lambda: sparse.convert_sparse(self._saved()),
            "int8.tflite": self._trained_int8
            if source.trained_int8
            else lambda: self.int8.content("int8.tflite", "tflite"),
            "int8-float-head.tflite": lambda: self.int8.content("int8-float-head.tflite", "tflite", float_head=True),
            "float32.onnx": lambda: onnx_file.convert_float32(deployed, source.contract),
            "float16.onnx": lambda: onnx_file.to_float16(self._content("float32.onnx")),
            "int8.onnx": lambda: self.int8.content("int8.onnx", "onnx"),
            "int8-twin.onnx": self._twin,
        }

    def reason_to_skip(self, form: Format) -> str:
        """Why a format is of no use for this model, "" where it is."""
        if form.name != "sparse.tflite":
            return ""
        if sparse.has_enough_zeros([kernel for layer in self._deployed.layers for kernel in _kernels(layer)]):
            return ""
        return f"{form.name}: left out, as no kernel has {sparse.ENOUGH:.0%} zeros that it could leave out"

    def write(self, form: Format, folder: Path) -> ExportedFile:
        """Make a file and, once it is proved, put it into `folder`.

        Raises:
            RunError: it cannot be converted.
            ModelFileError: the file does not answer, or not as its golden frames say.
        """
        self._step(form.name)
        begin = time.perf_counter()
        content = self._content(form.name)
        seconds = time.perf_counter() - begin
        weights = (embed.tflite_weights if form.suffix == "tflite" else embed.onnx_weights)(content)
        share = round(embed.sparsity(weights), 4)
        contract = _contract_for(self._source.contract, form, share)
        if self._frames is not None:
            content, contract = self._frames.put_in(content, contract, form)
        put = embed.embed_tflite if form.suffix == "tflite" else embed.embed_onnx
        stem = _file_stem(contract.provenance.recipe) + ("-frame" if contract.frame else "")
        path = self._work / f"{stem}-{form.name}"
        path.write_bytes(put(content, contract))
        _require_loadable(path, form)
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
            limits=self._limits[form.name],
            of_training=self._source.trained_int8 is not None and "int8.tflite" in (form.name, form.made_from),
            **self._decisions(form),
        )
        (folder / path.name).write_bytes(data)
        return exported

    def _content(self, name: str) -> bytes:
        """The file called `name`, without its contract; made on first use."""
        if name not in self._made:
            with quiet(f"conversion to {name}"):
                self._made[name] = self._makers[name]()
        return self._made[name]

    def _saved(self) -> Path:
        folder = self._work / "saved_model"
        if not folder.exists():
            tflite.save_graph(self._deployed, self._source.contract, folder)
        return folder

    def _trained_int8(self) -> bytes:
        assert self._source.trained_int8 is not None
        content = self._source.trained_int8.read_bytes()
        tflite.require_exact_input(content, self._source.contract)
        if not all_fit(tflite_kernels(content)):
            self.int8.warnings.append(
                "int8.tflite: trained by an earlier version; ONNX Runtime and OpenVINO cut off sums of its kernels on "
                "processors without VNNI, so that its twin steers otherwise there; compress again"
            )
        return content

    def _twin(self) -> bytes:
        return to_onnx(self._content("int8.tflite"), self._source.contract, self._twin_pictures())

    def _twin_pictures(self) -> NDArray[np.uint8]:
        pictures = self._source.training.pictures
        return pictures[np.linspace(0, len(pictures) - 1, min(64, len(pictures))).astype(np.int64)]

    def _decisions(self, form: Format) -> dict[str, Any]:
        """What was decided about a file, for export.json."""
        found: dict[str, Any] = {}
        origin = "int8.tflite" if form.name == "int8-twin.onnx" else form.name
        if made := self.int8.mixed.get(origin):
            found = {"kept_float": made.kept, "kept_because": made.reasons if made.kept else ()}
            found["cost"] = made.cost if origin == form.name else None
            found["figures"] = self.int8.figures[origin] if origin == form.name else ()
        if origin != form.name:
            one, other = self._content(origin), self._content(form.name)
            found["twin"] = Twin(
                of=origin,
                output_step=output_step(one),
                steps=twin_gap(one, other, self._source.contract, self._twin_pictures()),
                allowed_steps=ALLOWED_STEPS,
            )
        return found


def _kernels(layer: Any) -> list[NDArray[Any]]:
    return [w for w in layer.get_weights() if w.ndim > 1]


def _file_stem(recipe: str) -> str:
    """A recipe's name as part of a file name."""
    return re.sub(r"[^\w.-]+", "_", recipe) or "model"


def _require_loadable(path: Path, form: Format) -> None:
    try:
        with quiet(f"loading {form.name}"):
            load_pilot(path)
    except (ModelFileError, ContractError) as e:
        reason = str(e).removeprefix(f"{path}: ")
        raise ModelFileError(f"{form.name}: the file does not pass its own golden frames: {reason}") from e


def _contract_for(contract: Contract, form: Format, share: float) -> Contract:
    provenance = dataclasses.replace(
        contract.provenance,
        precision=form.precision,
        sparsity=share,
        versions={**contract.provenance.versions, **versions(TOOLS)},
    )
    return dataclasses.replace(contract, provenance=provenance, tolerance=form.tolerance)

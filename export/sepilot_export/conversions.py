"""One model in all its formats; what several of them need is made once."""

from __future__ import annotations

import dataclasses
import gzip
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export import calibration, deploy, embed, onnx_file, tflite
from sepilot_export.equalize import equalize
from sepilot_export.formats import Format, Limits
from sepilot_export.ranges import Activations, Range, fit_ranges, output_range
from sepilot_runtime.contract import Contract
from sepilot_runtime.errors import ContractError, ModelFileError, RunError
from sepilot_runtime.files import sha256_of
from sepilot_runtime.pilot import load_pilot
from sepilot_train.learner import predict
from sepilot_train.quiet import quiet
from sepilot_train.recipe import Gate
from sepilot_train.run import FrameSet

__all__ = ["Converter", "Exported", "Source", "Step", "tool_versions"]

_TOOLS = ("sepilot", "tensorflow", "keras", "ai-edge-quantizer", "ai-edge-litert", "tf2onnx", "onnx", "onnxruntime",
          "numpy")  # fmt: skip

Step = Callable[[str], None]
"""Told the name of each step as it begins."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Source:
    """What an export starts from.

    Attributes:
        training, held_out: frames that trained and that judged the model.
        saved: the answers on `held_out` as the training left them.
        constant: the mean of the training labels.
        min_throttle: frames at or below it were left out as standing still.
    """

    model_path: Path
    contract: Contract
    gates: Mapping[str, Gate]
    training: FrameSet
    held_out: FrameSet
    saved: NDArray[np.float32]
    constant: float
    min_throttle: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """One written file. `sparsity` is the share of zero weights; `seconds` the time that its conversion took."""

    file: str
    format: str
    precision: str
    engine: str
    bytes: int
    gzip_bytes: int
    sha256: str
    sparsity: float
    seconds: float
    limits: dict[str, float]


class Converter:
    """Makes the formats of one model.

    `manifest` and `warnings` are about the calibration, where there was one.
    """

    def __init__(
        self, source: Source, model: Any, deployed: Any, work: Path, calibration_frames: int, seed: int, step: Step
    ) -> None:
        self.manifest: dict[str, Any] | None = None
        self.warnings: list[str] = []
        self._source, self._model, self._deployed = source, model, deployed
        self._work, self._count, self._seed, self._step = work, calibration_frames, seed, step
        self._made: dict[str, bytes] = {}
        self._chosen: _Calibration | None = None
        self._tflite_ranges: tuple[bytes, dict[str, Range]] | None = None
        self._makers: dict[str, Callable[[], bytes]] = {
            "float32.tflite": lambda: tflite.convert(self._saved(), "float32"),
            "float16.tflite": lambda: tflite.convert(self._saved(), "float16"),
            "dynamic.tflite": lambda: tflite.convert(self._saved(), "dynamic"),
            "int8.tflite": lambda: self._int8_tflite(float_head=False),
            "int8-float-head.tflite": lambda: self._int8_tflite(float_head=True),
            "float32.onnx": lambda: onnx_file.convert_float32(deployed, source.contract),
            "float16.onnx": lambda: onnx_file.to_float16(self._content("float32.onnx")),
            "int8.onnx": self._int8_onnx,
        }

    def write(self, form: Format, limits: Limits, folder: Path) -> Exported:
        self._step(form.name)
        begin = time.perf_counter()
        content = self._content(form.name)
        seconds = time.perf_counter() - begin
        weights = (embed.tflite_weights if form.suffix == "tflite" else embed.onnx_weights)(content)
        share = round(embed.sparsity(weights), 4)
        contract = _contract_for(self._source.contract, form, share)
        put = embed.embed_tflite if form.suffix == "tflite" else embed.embed_onnx
        path = folder / f"{_file_stem(contract.provenance.recipe)}-{form.name}"
        path.write_bytes(put(content, contract))
        _require_loadable(path, form)
        data = path.read_bytes()
        return Exported(
            file=path.name,
            format=form.name,
            precision=form.precision,
            engine=form.engine,
            bytes=len(data),
            gzip_bytes=len(gzip.compress(data, 9)),
            sha256=sha256_of(path),
            sparsity=share,
            seconds=round(seconds, 2),
            limits=dataclasses.asdict(limits),
        )

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

    def _int8_tflite(self, *, float_head: bool) -> bytes:
        if self._tflite_ranges is None:
            folder = self._work / "equalized"
            tflite.save_graph(self._calibration().graph, self._source.contract, folder)
            content = tflite.convert(folder, "float32")
            self._tflite_ranges = content, self._fit(tflite.activations_of(content), tflite.tensor_names(content))
        content, ranges = self._tflite_ranges
        return tflite.quantize(content, self._source.contract, ranges, float_head=float_head)

    def _int8_onnx(self) -> bytes:
        source, chosen = self._source, self._calibration()
        content = onnx_file.prepare(onnx_file.convert_float32(chosen.graph, source.contract))
        ranges = self._fit(onnx_file.activations_of(content, source.contract), {})
        return onnx_file.quantize(content, source.contract, chosen.pictures[:4], ranges)

    def _fit(self, activations: Activations, names: Mapping[str, str]) -> dict[str, Range]:
        """Ranges of all tensors, those of the outputs with headroom. `names`: output to tensor, where they differ."""
        fitted = fit_ranges(activations, self._calibration().pictures)
        if self.manifest is not None and "halves" not in self.manifest:
            self.manifest["halves"] = fitted.stability()
            self.warnings += fitted.warnings()
        outputs = [names.get(o.name, o.name) for o in self._source.contract.outputs]
        return {**fitted.ranges, **{name: output_range(fitted.seen[name]) for name in outputs}}

    def _calibration(self) -> _Calibration:
        if self._chosen is None:
            self._step("calibration")
            source, held = self._source, self._source.held_out
            predictions = predict(self._model, source.training.pictures)
            chosen = calibration.select(
                source.training, predictions, count=self._count, seed=self._seed,
                held_out=set(zip(held.drives, held.names, strict=True)),
            )  # fmt: skip
            self.manifest = calibration.manifest(source.training, predictions, chosen, self._seed)
            pictures = source.training.pictures[chosen.index]
            graph = deploy.deploy_graph(self._model, source.contract)
            equalize(graph, pictures)
            deploy.require_parity(self._model, graph, pictures[:32])
            self._chosen = _Calibration(pictures=pictures, graph=graph)
        return self._chosen


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Calibration:
    """Calibration pictures, and the deploy graph equalized on them."""

    pictures: NDArray[np.uint8]
    graph: Any


def tool_versions() -> dict[str, str]:
    """Versions of everything that has a say in the files."""
    from importlib import metadata

    found = {}
    for package in _TOOLS:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _file_stem(recipe: str) -> str:
    """A recipe's name as part of a file name."""
    return re.sub(r"[^\w.-]+", "_", recipe) or "model"


def _require_loadable(path: Path, form: Format) -> None:
    try:
        with quiet(f"loading {form.name}"):
            load_pilot(path)
    except (ModelFileError, ContractError) as e:
        reason = str(e).removeprefix(f"{path}: ")
        raise RunError(f"{form.name}: the file does not pass its own golden frames: {reason}") from e


def _contract_for(contract: Contract, form: Format, share: float) -> Contract:
    provenance = dataclasses.replace(
        contract.provenance,
        precision=form.precision,
        sparsity=share,
        versions={**contract.provenance.versions, **tool_versions()},
    )
    return dataclasses.replace(contract, provenance=provenance, tolerance=form.tolerance)

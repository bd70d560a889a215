"""From a finished training to a directory of model files, each with its contract inside.

    swift-float32.tflite …   the files
    export.json              what made them: recipe, tools, sizes, hashes, gates
    calibration.json         the frames that the int8 formats were calibrated on
    reference.npz            held-out pictures with the training model's answers, for `sepilot check`

The directory appears when everything in it is whole, and every file has been loaded and has passed its golden frames.
"""

from __future__ import annotations

import dataclasses
import gzip
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export import calibration, deploy, embed, onnx_file, support, tflite
from sepilot_export.formats import Format, limits_of
from sepilot_export.quiet import quiet
from sepilot_export.reference import EXPORT_NAME, REFERENCE_NAME, Reference
from sepilot_runtime.contract import Contract
from sepilot_runtime.errors import RunError
from sepilot_runtime.files import atomic_directory, read_json, require_new, sha256_of, write_json
from sepilot_runtime.pilot import load_pilot
from sepilot_train.learner import predict
from sepilot_train.recipe import Gate
from sepilot_train.run import FrameSet, Run

__all__ = ["Exported", "Source", "export_source", "source_of", "tool_versions"]

AGREEMENT = 0.01
"""Largest difference between the answers saved by the training and the same model's answers here, in output values.

A training on a GPU in reduced precision differs by a thousandth; another crop, or a drive that has changed, by far more.
"""

MAX_REFERENCE_FRAMES = 20_000

_TOOLS = ("sepilot", "tensorflow", "keras", "ai-edge-quantizer", "ai-edge-litert", "tf2onnx", "onnx", "onnxruntime", "numpy")

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


def source_of(run: Run, *, moved_to: Sequence[Path] = (), progress: bool = False) -> Source:
    """Everything that an export needs of a training run.

    Raises:
        RunError: a drive is missing or has changed, or the run's parts do not belong together.
    """
    if run.contract.picture != run.recipe.picture:
        raise RunError(f"{run.path}: contract.json and recipe.toml disagree about the picture; train again")
    held_out = run.frames("validation", moved_to=moved_to, progress=progress)
    saved = run.predictions()
    if list(zip(saved.drives, saved.names, strict=True)) != list(zip(held_out.drives, held_out.names, strict=True)):
        raise RunError(f"{run.path}: predictions.npz is about other frames than split.json; train again")
    summary = read_json(run.path / "validation.json", RunError)
    return Source(
        model_path=run.model_path,
        contract=run.contract,
        gates=run.recipe.gates,
        training=run.frames("train", moved_to=moved_to, progress=progress),
        held_out=held_out,
        saved=saved.predictions,
        constant=float(summary["metrics"]["constant"]),
        min_throttle=run.recipe.data.min_throttle,
    )


def export_source(
    source: Source,
    formats: Sequence[Format],
    out: Path,
    *,
    calibration_frames: int = 300,
    seed: int = 0,
    step: Step = lambda name: None,
) -> tuple[list[Exported], list[str]]:
    """Write `formats` into the new directory `out`.

    Returns:
        What was written, and warnings, one line each.

    Raises:
        RunError: the model cannot be exported; the message names the layer, the format or the frame.
        OutputError: `out` exists or cannot be written.
    """
    require_new(out)
    step("loading the model")
    model = deploy.load_training_model(source.model_path, source.contract)
    support.require_supported(model, formats)
    step("deploy graph")
    with quiet("deploy graph"):
        reference = _reference(source, model)
        deployed = deploy.deploy_graph(model, source.contract)
        parity = deploy.require_parity(model, deployed, _spread(source.held_out.pictures, reference.predictions))
    with atomic_directory(out) as part, tempfile.TemporaryDirectory(prefix="sepilot-export-") as work:
        converter = _Converter(source, model, deployed, Path(work), calibration_frames, seed, step)
        files = [converter.write(form, part) for form in formats]
        if converter.manifest is not None:
            write_json(part / "calibration.json", converter.manifest)
        step(REFERENCE_NAME)
        reference.save(part / REFERENCE_NAME)
        write_json(part / EXPORT_NAME, _record(source, files, parity, converter.warnings, seed))
    return files, converter.warnings


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


def _reference(source: Source, model: Any) -> Reference:
    """The held-out frames with the model's answers, computed here and held against those that the training saved."""
    held = source.held_out
    answers = predict(model, held.pictures)
    worst = float(np.abs(answers - source.saved).max())
    if not worst <= AGREEMENT:
        place = int(np.nanargmax(np.abs(answers - source.saved)))
        raise RunError(
            f"{source.model_path}: does not answer as it did in training: frame {held.names[place]} of drive "
            f"{held.drives[place]}: {source.saved[place]:.4f} then, {answers[place]:.4f} now; the drive, the picture's "
            "definition or the model has changed"
        )
    index = np.linspace(0, len(answers) - 1, min(len(answers), MAX_REFERENCE_FRAMES)).astype(np.int64)
    return Reference(
        pictures=held.pictures[index],
        drives=tuple(held.drives[i] for i in index),
        names=tuple(held.names[i] for i in index),
        labels=held.labels[index],
        predictions=answers[index],
        constant=source.constant,
        contract=source.contract,
    )


def _spread(pictures: NDArray[np.uint8], predictions: NDArray[np.float32], count: int = 32) -> NDArray[np.uint8]:
    """Pictures from the lowest to the highest prediction."""
    order = np.argsort(predictions, kind="stable")
    return pictures[order[np.linspace(0, len(order) - 1, min(count, len(order))).astype(np.int64)]]


class _Converter:
    """Makes the formats of one model; what several of them need is made once."""

    def __init__(
        self, source: Source, model: Any, deployed: Any, work: Path, calibration_frames: int, seed: int, step: Step
    ) -> None:
        self.manifest: dict[str, Any] | None = None
        self.warnings: list[str] = []
        self._source, self._model, self._deployed = source, model, deployed
        self._work, self._count, self._seed, self._step = work, calibration_frames, seed, step
        self._made: dict[str, bytes] = {}
        self._calibration: tuple[NDArray[np.uint8], tflite.Calibrated] | None = None
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

    def write(self, form: Format, folder: Path) -> Exported:
        self._step(form.name)
        begin = time.perf_counter()
        content = self._content(form.name)
        seconds = time.perf_counter() - begin
        weights = (embed.tflite_weights if form.suffix == "tflite" else embed.onnx_weights)(content)
        share = round(embed.sparsity(weights), 4)
        contract = _contract_for(self._source.contract, form, share)
        put = embed.embed_tflite if form.suffix == "tflite" else embed.embed_onnx
        path = folder / f"{contract.provenance.recipe}-{form.name}"
        path.write_bytes(put(content, contract))
        with quiet(f"loading {form.name}"):
            load_pilot(path)
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
            limits=dataclasses.asdict(limits_of(form, self._source.gates)),
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
        _, calibrated = self._calibrated()
        return tflite.quantize(self._content("float32.tflite"), self._source.contract, calibrated, float_head=float_head)

    def _int8_onnx(self) -> bytes:
        pictures, calibrated = self._calibrated()
        return onnx_file.quantize(
            self._content("float32.onnx"), self._source.contract, pictures, calibrated.output_ranges
        )

    def _calibrated(self) -> tuple[NDArray[np.uint8], tflite.Calibrated]:
        if self._calibration is None:
            self._step("calibration")
            source, held = self._source, self._source.held_out
            predictions = predict(self._model, source.training.pictures)
            chosen = calibration.select(
                source.training, predictions, count=self._count, seed=self._seed,
                held_out=set(zip(held.drives, held.names, strict=True)),
            )  # fmt: skip
            self.manifest = calibration.manifest(source.training, predictions, chosen, self._seed)
            pictures = source.training.pictures[chosen.index]
            calibrated = tflite.calibrate(self._content("float32.tflite"), source.contract, pictures)
            self.manifest["halves"] = calibrated.stability()
            self.warnings += calibrated.warnings()
            self._calibration = pictures, calibrated
        return self._calibration


def _contract_for(contract: Contract, form: Format, share: float) -> Contract:
    provenance = dataclasses.replace(
        contract.provenance,
        precision=form.precision,
        sparsity=share,
        versions={**contract.provenance.versions, **tool_versions()},
    )
    return dataclasses.replace(contract, provenance=provenance, tolerance=form.tolerance)


def _record(source: Source, files: Sequence[Exported], parity: float, warnings: Sequence[str], seed: int) -> dict[str, Any]:
    provenance = source.contract.provenance
    return {
        "version": 1,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "recipe": provenance.recipe,
        "recipe_sha256": provenance.recipe_sha256,
        "model_sha256": sha256_of(source.model_path),
        "tools": tool_versions(),
        "seed": seed,
        "min_throttle": source.min_throttle,
        "deploy_graph_difference": parity,
        "warnings": list(warnings),
        "files": [dataclasses.asdict(f) for f in files],
    }

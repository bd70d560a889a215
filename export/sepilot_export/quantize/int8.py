"""The int8 files of one model: calibrated once, quantized for each interpreter, repaired where they must be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert import deploy, onnx_file, tflite
from sepilot_export.convert.equalize import equalize
from sepilot_export.convert.formats import GateLimits
from sepilot_export.convert.in_memory import Suffix
from sepilot_export.convert.inputs import ExportInputs, Step
from sepilot_export.convert.layer_names import names_of
from sepilot_export.convert.ranges import Activations, Fitted, Range, asked_range, fit_ranges, output_range
from sepilot_export.quantize import calibration, mixed_precision
from sepilot_export.quantize.calibration import Choice
from sepilot_export.quantize.calibration_choice import choice_error, choice_warnings
from sepilot_export.quantize.calibration_manifest import Choices, Manifest, manifest
from sepilot_export.quantize.calibration_stability import stability, stability_warnings
from sepilot_export.quantize.mixed_precision import Mixed, Sensitivity
from sepilot_export.quantize.quantizers import OnnxQuantizer, TfliteQuantizer
from sepilot_export.quantize.sqnr import FRAMES, Noise
from sepilot_export.record.exports import TuningFigures
from sepilot_export.verify import tuning_set as trial
from sepilot_export.verify.tuning_set import TuningSet
from sepilot_runtime.base.errors import RunError
from sepilot_train.fit.predict import predict

__all__ = ["Int8", "Int8Options"]

COMPARISON_FRAMES = 2000
"""On which choices of calibration frames are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Options:
    """How the int8 files are made.

    Attributes:
        choice: of the calibration frames.
        max_drop: what the task MAE may rise by, in label units; layers are kept in float32 until a file holds it and
            its other gates. None: every layer is int8, come what may.
    """

    calibration_frames: int = 300
    choice: Choice = "tails"
    max_drop: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Calibrated:
    """What the two quantizers share.

    Attributes:
        graph: the deploy graph equalized on the calibration frames.
        frames: positions of the calibration frames in the training frames, for the choice that was made and the others.
        trial: None where too few frames are left for it.
    """

    graph: Any
    frames: Mapping[Choice, NDArray[np.int64]]
    trial: TuningSet | None


class Int8:
    """Makes int8 files. `manifest`, `warnings`, `mixed` and `figures` (by format) tell what was done."""

    def __init__(
        self,
        source: ExportInputs,
        model: Any,
        work: Path,
        limits: Mapping[str, GateLimits],
        options: Int8Options,
        step: Step,
    ) -> None:
        """`limits`: by format."""
        self.manifest: Manifest | None = None
        self.warnings: list[str] = []
        self.mixed: dict[str, Mixed] = {}
        self.figures: dict[str, tuple[TuningFigures, ...]] = {}
        self._source, self._model, self._work, self._limits = source, model, work, limits
        self._options, self._step = options, step
        self._calibrated: _Calibrated | None = None
        self._quantizers: dict[Suffix, TfliteQuantizer | OnnxQuantizer] = {}
        self._rankings: dict[Suffix, tuple[Sensitivity, ...]] = {}

    def content(self, name: str, suffix: Suffix, *, float_head: bool = False) -> bytes:
        """The file of the format `name`; see `Int8Options.max_drop`.

        Raises:
            RunError: it cannot be made, or too few frames are left to decide on.
        """
        quantizer = self._quantizer(suffix)
        always = list(self._heads().values()) if float_head else []
        if self._options.max_drop is None:
            return quantizer.quantize(always)
        frames = self._require_trial()

        def ranking() -> tuple[Sensitivity, ...]:
            if suffix not in self._rankings:
                self._step(f"{name}: ranking layers")
                self._rankings[suffix] = mixed_precision.rank(quantizer, frames)
            return self._rankings[suffix]

        found = mixed_precision.keep_float(quantizer, frames, self._limits[name], ranking, always=always)
        self.mixed[name] = found
        if found.reasons and not found.kept:
            self.warnings.append(
                f"{name}: misses its gates on training frames ({'; '.join(found.reasons)}), and so it does with the "
                "worst half of its layers in float32; the plain int8 file was written"
            )
        self.figures[name] = self._judged(name, suffix, found)
        return found.content

    def _judged(self, name: str, suffix: Suffix, found: Mixed) -> tuple[TuningFigures, ...]:
        """The figures of the chosen file, also on the held-out frames, which had no say in the choice."""
        source, limits = self._source, self._limits[name]
        held = TuningSet(
            pictures=source.held_out.pictures, drives=source.held_out.drives, labels=source.held_out.labels,
            predictions=source.saved, contract=source.contract, name="held-out frames",
        )  # fmt: skip
        decided, judged = (frames.figures(found.content, suffix, limits) for frames in (self._require_trial(), held))
        if judged.misses and not decided.misses:
            self.warnings.append(
                f"{name}: keeps its gates on the training frames that decide which layers stay in float32, but not on "
                f"the held-out frames: {'; '.join(judged.misses)}"
            )
        self.warnings += [f"{name}: {note}" for note in decided.notes]
        return decided, judged

    @property
    def quantized(self) -> list[Suffix]:
        """The kinds of files that were quantized here."""
        return list(self._quantizers)

    def layers(self, suffix: Suffix) -> tuple[list[Noise], dict[str, float]]:
        """What plain int8 does to each tensor of such a file on calibration frames, and the bits of layers' kernels."""
        quantizer = self._quantizers[suffix]
        plain = quantizer.quantize(())
        return quantizer.noise(plain, self.calibration_pictures()[:FRAMES]), quantizer.kernel_bits(plain)

    def calibration_pictures(self) -> NDArray[np.uint8]:
        """The pictures (n, h, w, c) that the files are calibrated on."""
        return self._pictures(self._options.choice)

    def _quantizer(self, suffix: Suffix) -> TfliteQuantizer | OnnxQuantizer:
        if suffix not in self._quantizers:
            first = not self._quantizers
            make, activations, heads = self._tflite_parts() if suffix == "tflite" else self._onnx_parts()
            fitted = fit_ranges(activations, self.calibration_pictures())
            self._quantizers[suffix] = make(_ranges(fitted, heads, self._asked()))
            if first:
                self._judge_calibration(suffix, make, activations, heads, fitted)
        return self._quantizers[suffix]

    def _tflite_parts(self) -> tuple[Callable[[Mapping[str, Range]], TfliteQuantizer], Activations, list[str]]:
        folder, contract = self._work / "equalized", self._source.contract
        tflite.save_graph(self._calibration().graph, contract, folder)
        content = tflite.convert(folder, "float32")
        tensors = tflite.tensor_names(content)
        layers, some = names_of(self._calibration().graph), self.calibration_pictures()

        def make(ranges: Mapping[str, Range]) -> TfliteQuantizer:
            return TfliteQuantizer(content, contract, ranges, layers, self._heads(), some)

        return make, tflite.activations_of(content), [tensors[o.name] for o in contract.outputs]

    def _onnx_parts(self) -> tuple[Callable[[Mapping[str, Range]], OnnxQuantizer], Activations, list[str]]:
        contract = self._source.contract
        content = onnx_file.prepare(onnx_file.convert_float32(self._calibration().graph, contract))
        layers, some = names_of(self._calibration().graph), self.calibration_pictures()

        def make(ranges: Mapping[str, Range]) -> OnnxQuantizer:
            return OnnxQuantizer(content, contract, ranges, layers, some)

        return make, onnx_file.activations_of(content, contract), [o.name for o in contract.outputs]

    def _judge_calibration(
        self,
        suffix: Suffix,
        make: Callable[[Mapping[str, Range]], TfliteQuantizer | OnnxQuantizer],
        activations: Activations,
        heads: Sequence[str],
        fitted: Fitted,
    ) -> None:
        """Fill the manifest: do the halves agree, and would other frames have done better?"""
        assert self.manifest is not None
        training, chosen = self._source.training, self._options.choice
        index = self._calibration().frames[chosen]
        drives, names = ([column[i] for i in index] for column in (training.drives, training.names))
        self.manifest = dataclasses.replace(self.manifest, halves=stability(fitted.reaches))
        self.warnings += stability_warnings(fitted.reaches, drives, names)
        if self._calibration().trial is None:
            return
        frames = self._require_trial().thinned(COMPARISON_FRAMES)
        self._step("calibration: other choices")
        errors = []
        for choice in calibration.CHOICES:
            seen = fitted if choice == chosen else fit_ranges(activations, self._pictures(choice))
            content = make(_ranges(seen, heads, self._asked())).quantize(())
            errors.append(choice_error(choice, frames.fidelity(content, suffix)))
        choices = Choices(
            of=f"deviation of int8.{suffix} from the training model",
            on=f"{len(frames.pictures)} training frames that none of the choices holds",
            errors=tuple(errors),
        )
        self.manifest = dataclasses.replace(self.manifest, choices=choices)
        self.warnings += choice_warnings(chosen, errors)

    def _pictures(self, choice: Choice) -> NDArray[np.uint8]:
        return self._source.training.pictures[self._calibration().frames[choice]]

    def _asked(self) -> Range:
        output = self._source.contract.outputs[0]
        return asked_range(self._source.training.labels, output.low, output.high)

    def _heads(self) -> dict[str, str]:
        """Output to the layer that makes it."""
        outputs = self._calibration().graph.output
        return {o.name: outputs[o.name]._keras_history.operation.name for o in self._source.contract.outputs}

    def _require_trial(self) -> TuningSet:
        frames = self._calibration().trial
        if frames is None:
            raise RunError(
                f"--max-drop: {trial.MINIMUM} training frames beside the calibration frames expected to decide on; "
                "lower --calibration-frames or record more"
            )
        return frames

    def _calibration(self) -> _Calibrated:
        if self._calibrated is None:
            self._step("calibration")
            source, options, held = self._source, self._options, self._source.held_out
            predictions = predict(self._model, source.training.pictures)
            known = set(zip(held.drives, held.names, strict=True))
            selections = {
                choice: calibration.select(
                    source.training, predictions, count=options.calibration_frames, seed=options.seed, choice=choice,
                    held_out=known,
                )
                for choice in calibration.CHOICES
            }  # fmt: skip
            frames = {choice: s.index for choice, s in selections.items()}
            self.manifest = manifest(
                source.training, predictions, selections[options.choice], options.seed, options.choice
            )
            pictures = source.training.pictures[frames[options.choice]]
            graph = deploy.deploy_graph(self._model, source.contract)
            equalize(graph, pictures)
            deploy.require_parity(self._model, graph, pictures[:32])
            self._calibrated = _Calibrated(graph=graph, frames=frames, trial=_trial(source, predictions, frames))
        return self._calibrated


def _ranges(fitted: Fitted, heads: Sequence[str], asked: Range) -> dict[str, Range]:
    """Ranges of all tensors, those of the outputs with headroom and with room for what the labels ask."""
    return {**fitted.ranges, **{name: output_range(fitted.seen[name], asked) for name in heads}}


def _trial(
    source: ExportInputs, predictions: NDArray[np.float32], frames: Mapping[Choice, NDArray[np.int64]]
) -> TuningSet | None:
    training = source.training
    taken = {int(i) for index in frames.values() for i in index}
    index = calibration.spared(len(predictions), taken, trial.MOST)
    if len(index) < trial.MINIMUM:
        return None
    return TuningSet(
        pictures=training.pictures[index],
        drives=tuple(training.drives[i] for i in index),
        labels=training.labels[index],
        predictions=predictions[index],
        contract=source.contract,
    )

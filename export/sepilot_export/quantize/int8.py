"""The int8 files of one model: calibrated once, quantized for each interpreter, repaired where they must be."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepilot_export.convert.formats import Limits
from sepilot_export.convert.in_memory import Suffix
from sepilot_export.convert.inputs import ExportInputs, Step
from sepilot_export.convert.ranges import Fitted, fit_ranges, output_range
from sepilot_export.quantize import calibration, mixed_precision
from sepilot_export.quantize.calibrated import Calibrated, calibrate
from sepilot_export.quantize.calibration import Choice
from sepilot_export.quantize.calibration_choice import ChoiceError, choice_errors, choice_warnings
from sepilot_export.quantize.calibration_manifest import ChoiceErrors, Manifest
from sepilot_export.quantize.calibration_stability import stability, stability_warnings
from sepilot_export.quantize.mixed_precision import Mixed, Sensitivity
from sepilot_export.quantize.quantizers import OnnxQuantizer, Quantizer, TfliteQuantizer
from sepilot_export.quantize.sqnr import FRAMES, Noise
from sepilot_export.record.exports import TuningFigures
from sepilot_export.verify.tuning_set import TuningSet
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_train.inspect.keras_graph import graph_of, maker_of

__all__ = ["Int8", "Int8File", "Int8Options"]

ARRANGING = ("Concatenate", "Flatten", "Permute", "Reshape")
"""Layers that change no number."""

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
class Int8File:
    """An int8 file, and what was decided about it.

    Attributes:
        mixed: what came of the search for layers to keep in float32; None where there was none.
        figures: with that, on the frames that decided and on the held-out frames.
        warnings: one line each.
    """

    content: bytes
    mixed: Mixed | None = None
    figures: tuple[TuningFigures, ...] = ()
    warnings: tuple[str, ...] = ()


class Int8:
    """Makes int8 files. What several of them need, the calibration and a quantizer for each suffix, is made once."""

    def __init__(
        self,
        source: ExportInputs,
        model: Any,
        work: Path,
        limits: Mapping[str, Limits],
        options: Int8Options,
        step: Step,
    ) -> None:
        """`limits`: by format."""
        self._source, self._model, self._work, self._limits = source, model, work, limits
        self._options, self._step = options, step
        self._calibrated: Calibrated | None = None
        self._judgement: tuple[Mapping[str, Any], Sequence[str]] = {}, ()
        self._quantizers: dict[Suffix, Quantizer] = {}
        self._rankings: dict[Suffix, tuple[Sensitivity, ...]] = {}

    def file(self, name: str, suffix: Suffix, *, float_head: bool = False) -> Int8File:
        """The file of the format `name`; see `Int8Options.max_drop`.

        Raises:
            RunError: it cannot be made, or too few frames are left to decide on.
        """
        quantizer = self._quantizer(suffix)
        always = self._head_layers() if float_head else []
        if self._options.max_drop is None:
            return Int8File(content=quantizer.quantize(always))
        frames = self._calibrate().require_trial()

        def ranking() -> tuple[Sensitivity, ...]:
            if suffix not in self._rankings:
                self._step(f"{name}: ranking layers")
                self._rankings[suffix] = mixed_precision.rank(quantizer, frames)
            return self._rankings[suffix]

        found = mixed_precision.keep_float(quantizer, frames, self._limits[name], ranking, always=always)
        figures, warnings = self._judged(name, suffix, found)
        if found.reasons and not found.kept:
            plain = (
                f"{name}: misses its gates on training frames ({'; '.join(found.reasons)}), and so it does with the "
                "worst half of its layers in float32; the plain int8 file was written"
            )
            warnings = (plain, *warnings)
        return Int8File(content=found.content, mixed=found, figures=figures, warnings=warnings)

    def _judged(self, name: str, suffix: Suffix, found: Mixed) -> tuple[tuple[TuningFigures, ...], tuple[str, ...]]:
        """The figures of the chosen file, also on the held-out frames, which had no say in the choice; warnings."""
        source, limits = self._source, self._limits[name]
        held = TuningSet(
            pictures=source.held_out.pictures, drives=source.held_out.drives, labels=source.held_out.labels,
            predictions=source.saved, contract=source.contract, name="held-out frames",
            vectors=source.held_out.vectors,
        )  # fmt: skip
        trial = self._calibrate().require_trial()
        decided, judged = (frames.figures(found.content, suffix, limits) for frames in (trial, held))
        notes = dict.fromkeys(f"{name}: {note}" for figures in decided for note in figures.notes)
        misses = [reason for figures in judged for reason in figures.misses]
        if misses and not any(figures.misses for figures in decided):
            lost = (
                f"{name}: keeps its gates on the training frames that decide which layers stay in float32, but not on "
                f"the held-out frames: {'; '.join(misses)}"
            )
            return (*decided, *judged), (lost, *notes)
        return (*decided, *judged), tuple(notes)

    def calibration(self) -> tuple[Manifest, Sequence[str]] | None:
        """What the files made so far were calibrated on, with a line for each warning; None where none was."""
        if self._calibrated is None:
            return None
        found, warnings = self._judgement
        return dataclasses.replace(self._calibrated.manifest, **found), warnings

    @property
    def quantized(self) -> list[Suffix]:
        """The kinds of files that were quantized here."""
        return list(self._quantizers)

    def layers(self, suffix: Suffix) -> tuple[list[Noise], dict[str, float]]:
        """What plain int8 does to each tensor of such a file on calibration frames, and the bits of layers' kernels."""
        quantizer = self._quantizers[suffix]
        plain = quantizer.quantize(())
        return quantizer.noise(plain, self._calibrate().pictures()[:FRAMES]), quantizer.kernel_bits(plain)

    def _quantizer(self, suffix: Suffix) -> Quantizer:
        if suffix not in self._quantizers:
            first, calibrated = not self._quantizers, self._calibrate()
            kind = TfliteQuantizer if suffix == "tflite" else OnnxQuantizer
            plain = kind.of(calibrated.graph, self._source.contract, self._makers(), calibrated.pictures(), self._work)
            fitted = fit_ranges(plain.activations(), plain.pictures)
            self._quantizers[suffix] = self._ranged(plain, fitted)
            if first:
                self._judgement = self._calibration_judged(plain, fitted)
        return self._quantizers[suffix]

    def _ranged(self, plain: Quantizer, fitted: Fitted) -> Quantizer:
        """With ranges of all tensors, those of the outputs with headroom and with room for what the labels ask."""
        ranges, labels = dict(fitted.ranges), self._source.training.labels
        for output in self._source.contract.outputs:
            asked = task_of(output).asked(labels[output.name])
            for name in output.tensors:
                tensor = plain.heads[name]
                ranges[tensor] = output_range(fitted.seen[tensor], asked.get(name, (0.0, 0.0)))
        return dataclasses.replace(plain, ranges=ranges)

    def _calibration_judged(self, plain: Quantizer, fitted: Fitted) -> tuple[dict[str, Any], list[str]]:
        """Do the halves agree, and would other frames have done better? For the manifest, and warnings."""
        training, calibrated = self._source.training, self._calibrate()
        chosen = calibrated.choice
        drives, names = ([column[i] for i in calibrated.frames[chosen]] for column in (training.drives, training.names))
        found: dict[str, Any] = {"halves": stability(fitted.reaches)}
        warnings = stability_warnings(fitted.reaches, drives, names)
        if calibrated.trial is None:
            return found, warnings
        frames = calibrated.trial.thinned(COMPARISON_FRAMES)
        self._step("calibration: other choices")
        errors: list[ChoiceError] = []
        for choice in calibration.CHOICES:
            seen = fitted if choice == chosen else fit_ranges(plain.activations(), calibrated.pictures(choice))
            content = self._ranged(plain, seen).quantize(())
            errors += choice_errors(choice, frames.fidelity(content, plain.suffix), self._source.contract.outputs)
        found["choices"] = ChoiceErrors(
            of=f"deviation of int8.{plain.suffix} from the training model",
            on=f"{len(frames.pictures)} training frames that none of the choices holds",
            errors=tuple(errors),
        )
        return found, [*warnings, *choice_warnings(chosen, errors)]

    def _head_layers(self) -> list[str]:
        """The layers that compute the outputs, with those that only arrange what they give."""
        found, calls = dict[str, None](), list(graph_of(self._calibrate().graph).outputs)
        for call in calls:
            found[call.layer.name] = None
            calls += call.parents if call.kind in ARRANGING else ()
        return list(found)

    def _makers(self) -> dict[str, str]:
        """Output tensor to the layer that makes it."""
        outputs = self._calibrate().graph.output
        return {name: maker_of(outputs[name]).name for name in self._source.contract.tensors}

    def _calibrate(self) -> Calibrated:
        if self._calibrated is None:
            self._step("calibration")
            options = self._options
            self._calibrated = calibrate(
                self._model, self._source, count=options.calibration_frames, seed=options.seed, choice=options.choice
            )
        return self._calibrated

"""What every file of an export is made from and judged by: the training model, its deploy graph, and its answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert import deploy, support
from sepilot_export.convert.failures import Failure, lines_of
from sepilot_export.convert.formats import FORMATS, Format, Limits, limits_of
from sepilot_export.convert.inputs import ExportInputs, Step
from sepilot_export.pipeline.frame_input import FrameFiles
from sepilot_export.quantize.int8 import Int8Options
from sepilot_export.record.exports import SeenDrives
from sepilot_export.verify.raw_frames import RawFrames
from sepilot_export.verify.reference import Reference
from sepilot_runtime.base.errors import ContractError, ModelFileError, RunError
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.engine.pilot import load_pilot
from sepilot_train.base.frame_set import FrameSet
from sepilot_train.base.quiet import quiet
from sepilot_train.fit.predict import predict

__all__ = ["Ready", "make_ready", "nothing_made"]

AGREEMENT = 0.01
"""Largest difference between the answers saved by the training and the same model's answers here, in output values.

A training on a GPU in reduced precision differs by a thousandth; another crop or a changed drive by far more.
"""

MAX_REFERENCE_FRAMES = 20_000


def require_loadable(path: Path, form: Format) -> None:
    """Raise ModelFileError where a file does not pass its golden frames."""
    try:
        with quiet(f"loading {form.name}"):
            load_pilot(path)
    except (ModelFileError, ContractError) as e:
        reason = str(e).removeprefix(f"{path}: ")
        raise ModelFileError(f"{form.name}: the file does not pass its own golden frames: {reason}") from e


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Ready:
    """What the files are made from.

    Attributes:
        parity: largest difference between the training model and the deploy graph.
        frames: puts the preprocessing into the files, where that was asked.
        broken: formats that need not be tried.
        contents: of formats that are made already.
        prove: raises ModelFileError for a file that must not be written.
        seen: the drives, where there is no run that knows them.
        notes: further warnings, complete when the files are written.
    """

    model: Any
    deployed: Any
    parity: float
    reference: Reference
    frames: FrameFiles | None
    limits: Mapping[str, Limits]
    broken: Sequence[Failure]
    contents: Mapping[str, bytes] = field(default_factory=dict)
    prove: Callable[[Path, Format], None] = require_loadable
    seen: SeenDrives | None = None
    notes: Sequence[str] = ()


def make_ready(
    source: ExportInputs, formats: Sequence[Format], int8: Int8Options, raw: RawFrames | None, step: Step
) -> Ready:
    """Load the model, rewrite it into its deploy graph, and hold both against what the training saved.

    Raises:
        RunError: it cannot be loaded, answers differently than in training, or none of `formats` can be made of it.
    """
    if raw is not None and source.contract.vectors:
        raise RunError(
            f"{source.model_path}: --with-preprocessing: a net that takes its picture alone expected, found "
            f"{source.contract.vectors[0].name} beside it"
        )
    limits = {form.name: limits_of(form, source.gates, source.contract.outputs, int8.max_drop) for form in FORMATS}
    step("loading the model")
    model = deploy.load_training_model(source.model_path, source.contract)
    broken = support.unsupported(model, formats, repaired=int8.max_drop is not None)
    if len(broken) == len(formats):
        raise nothing_made(source, broken)
    step("deploy graph")
    with quiet("deploy graph"):
        reference = _reference(source, model)
        deployed = deploy.deploy_graph(model, source.contract)
        some = _spread(source, reference.predictions)
        parity = deploy.require_parity(model, deployed, np.asarray(some.pictures), some.vectors)
    frames = None
    if raw is not None:
        step("preprocessing")
        frames = FrameFiles(model, source, raw)
        limits = {name: frames.limits(limit) for name, limit in limits.items()}
    return Ready(
        model=model, deployed=deployed, parity=parity, reference=reference, frames=frames, limits=limits, broken=broken
    )


def nothing_made(source: ExportInputs, failed: Sequence[Failure], left_out: Sequence[str] = ()) -> RunError:
    """The error of an export without a file: why each format failed, or that all were left out."""
    if not failed:
        return RunError(f"{source.model_path}: nothing to export: {'; '.join(left_out)}")
    lines = [f"{names}: {reason}" + (f"; {way}" if way else "") for names, reason, way in lines_of(failed)]
    return RunError(f"{source.model_path}: no file could be made: {'; '.join(lines)}")


def _reference(source: ExportInputs, model: Any) -> Reference:
    """The held-out frames with the model's answers, computed here and held against those that the training saved."""
    held = source.held_out
    answers = predict(model, held.pictures, held.vectors)
    for name, now in answers.items():
        difference = np.abs(now - source.saved[name])
        if not float(difference.max()) <= AGREEMENT:
            place = int(np.nanargmax(difference))
            raise RunError(
                f"{source.model_path}: does not answer as it did in training: frame {held.names[place]} of drive "
                f"{held.drives[place]}: {name} {source.saved[name][place]:.4f} then, {now[place]:.4f} now; the drive, "
                "the picture's definition or the model has changed"
            )
    index = np.linspace(0, len(held) - 1, min(len(held), MAX_REFERENCE_FRAMES)).astype(np.int64)
    held = held.take(index)
    return Reference(
        pictures=np.asarray(held.pictures),
        drives=held.drives,
        names=held.names,
        labels=held.labels,
        predictions={name: values[index] for name, values in answers.items()},
        constant=source.constant,
        contract=source.contract,
        vectors=held.vectors,
    )


def _spread(source: ExportInputs, predictions: Mapping[str, NDArray[np.float32]], count: int = 32) -> FrameSet:
    """Frames from one end of each output's predictions to the other."""
    chosen: dict[int, None] = {}
    for output in source.contract.outputs:
        order = task_of(output).ordered(predictions[output.name])
        places = np.linspace(0, len(order) - 1, min(count, len(order))).astype(np.int64)
        chosen |= dict.fromkeys(order[places].tolist())
    return source.held_out.take(np.fromiter(chosen, np.int64))

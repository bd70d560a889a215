"""A net or an int8 file on the held-out frames, and what it lost against the net that it was made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sepilot_export.compress.kernels import kernels_of
from sepilot_export.convert.embed import embed_tflite, sparsity
from sepilot_export.convert.formats import format_named
from sepilot_export.record.compressions import Evaluation
from sepilot_export.verify.fidelity import task_increase
from sepilot_runtime.contract.contract import Contract
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.engine.pilot import answers_to, load_pilot
from sepilot_train.base.frame_set import Answers
from sepilot_train.base.stored import Pictures
from sepilot_train.inspect.keras import keras_nodes
from sepilot_train.inspect.table import layer_table
from sepilot_train.run.run import Run

__all__ = ["judge_int8", "judge_net"]


def judge_net(name: str, model: Any, run: Run, before: Answers | None = None) -> tuple[Evaluation, ...]:
    """Judge the Keras 3 net of a run, output by output, by the answers that the run has saved.

    Args:
        before: the answers that it is compared with, to the same frames.
    """
    table = layer_table(keras_nodes(model))
    return _figures(
        name, run.predictions(), run.contract, before,
        parameters=table.parameters, macs=table.macs, sparsity=sparsity([k.values for k in kernels_of(model)]),
    )  # fmt: skip


def judge_int8(
    path: Path, content: bytes, run: Run, pictures: Pictures, before: Answers
) -> tuple[tuple[Evaluation, ...], Mapping[str, float]]:
    """Judge an int8 TFLite file, through the interpreter; it is written to `path` with the run's contract inside.

    Args:
        pictures: of the run's held-out frames, (n, h, w, c).

    Returns:
        The figures, and how far at most each output is from that of the run's float net, in output values.
    """
    form, contract, own = format_named("int8.tflite"), run.contract, run.predictions()
    provenance = dataclasses.replace(contract.provenance, precision=form.precision)
    tolerance = {output.name: form.tolerance * output.magnitude for output in contract.outputs}
    path.write_bytes(embed_tflite(content, dataclasses.replace(contract, provenance=provenance, tolerance=tolerance)))
    answers = answers_to(load_pilot(path).infer_picture, pictures)
    distances = {o.name: task_of(o).distance(answers[o.name], own.values[o.name]) / o.scale for o in contract.outputs}
    figures = _figures(path.name, dataclasses.replace(own, values=answers), contract, before)
    return figures, {name: float(distance.max()) for name, distance in distances.items()}


def _figures(
    name: str, found: Answers, contract: Contract, before: Answers | None, **net: Any
) -> tuple[Evaluation, ...]:
    rows = []
    for output in contract.outputs:
        labels, said = found.frames.labels[output.name], found.values[output.name]
        task, increase = task_of(output), None
        if before is not None:
            increase = task_increase(said, before.values[output.name], labels, found.frames.drives, output)
        mae, r2 = float(task.error(said, labels).mean()), task.r2(said, labels)
        rows.append(Evaluation(name=name, output=output.name, r2=r2, mae=mae, mae_increase=increase, **net))
    return tuple(rows)

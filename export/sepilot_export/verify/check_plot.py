"""The picture of a check: errors of every file, and its answers beside the reference's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sepilot_export.verify.file_check import FileCheck
from sepilot_export.verify.reference import Reference
from sepilot_runtime.contract.contract import Output
from sepilot_runtime.contract.outputs.kinds import task_of

__all__ = ["draw"]


def draw(checks: Sequence[FileCheck], reference: Reference, path: Path) -> None:
    """A PNG with the distribution of each file's error, and each file's answers against the reference's, by output."""
    from sepilot_train.base import plots

    shown = [(c, output) for c in checks if c.outputs for output in reference.contract.outputs]
    if not shown:
        return
    columns = min(4, len(shown))
    bands = -(-len(shown) // columns)
    fig = plots.figure(3.0 * columns, 4.9 * bands + 0.4)
    provenance = reference.contract.provenance
    fig.suptitle(
        f"{provenance.recipe}: {len(reference):,} frames, each file against {reference.source}",
        x=0.01, ha="left", fontsize=12, color=plots.INK,
    )  # fmt: skip
    grid = fig.add_gridspec(2 * bands, columns, height_ratios=[1.0, 1.35] * bands)
    for i, (check, output) in enumerate(shown):
        band, column = divmod(i, columns)
        _draw_errors(fig, grid[2 * band, column], check, reference, output)
        _draw_answers(fig, grid[2 * band + 1, column], check, reference, output)
    plots.save(fig, path)


def _draw_errors(fig: Any, cell: Any, check: FileCheck, reference: Reference, output: Output) -> None:
    from sepilot_train.base import plots

    said, expected = check.answers[output.name], reference.predictions[output.name]
    # With its side, which a distance has not.
    task = task_of(output)
    error = task.distance(said, expected) * np.sign(task.reading(said, expected) - task.reading(expected, expected))
    reach = max(float(np.abs(error).max()), 1e-9) * 1.4
    name = check.candidate.form.name + (f", {output.name}" if len(reference.contract.outputs) > 1 else "")
    ax = plots.axes(fig, name, f"error{_axis(output)}", "frames", cell)
    ax.hist(error, bins=np.linspace(-reach, reach, 61).tolist(), color=plots.ACCENT)
    ax.set_yscale("log")
    ax.set_xlim(-reach, reach)
    ax.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))
    limit = check.candidate.limits[output.name].get("max_error", math.inf) * output.full_scale
    for side in (-limit, limit):
        if abs(side) <= reach:
            ax.axvline(side, color=plots.SECOND, linewidth=1)
    ax.set_ylim(0.6, None)
    verdict, colour = ("pass", plots.GOOD) if check.passes(output.name) else ("FAIL", plots.BAD)
    style = {"transform": ax.transAxes, "va": "top", "fontsize": 9}
    ax.text(0.97, 0.97, verdict, ha="right", color=colour, fontweight="bold", **style)
    figures = f"max {np.abs(error).max():.2g}" + (f"\ngate {limit:.2g}" if math.isfinite(limit) else "")
    ax.text(0.03, 0.97, figures, ha="left", color=plots.INK, **style)


def _draw_answers(fig: Any, cell: Any, check: FileCheck, reference: Reference, output: Output) -> None:
    from sepilot_train.base import plots

    task, theirs = task_of(output), reference.predictions[output.name]
    said, expected = (task.reading(answers, theirs) for answers in (check.answers[output.name], theirs))
    ax = plots.axes(fig, "", f"training model{_axis(output)}", f"file{_axis(output)}", cell)
    low, high = (float(end) for end in (min(said.min(), expected.min()), max(said.max(), expected.max())))
    margin = max(0.05 * (high - low), 1e-3)
    ends = (low - margin, high + margin)
    ax.plot(ends, ends, color=plots.SECOND, linewidth=0.8)
    ax.scatter(expected, said, s=3, alpha=0.3, color=plots.ACCENT, linewidths=0, rasterized=True)
    ax.set_xlim(*ends)
    ax.set_ylim(*ends)
    ax.set_aspect("equal")


def _axis(output: Output) -> str:
    return f" [{output.unit}]" if output.unit else ""

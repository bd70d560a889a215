"""What a training tells while it runs and when it is done."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from sepilot_runtime.contract.contract import Output
from sepilot_train.fit.outputs.protocol import COLLAPSED, Comparing
from sepilot_train.run.material import Material
from sepilot_train.run.recipe import Recipe
from sepilot_train.run.run import Run
from sepilot_train.run.training import constant_errors
from sepilot_train.run.validation import Validation

__all__ = ["EpochWatch", "collapsed", "print_figures"]

PATIENCE_EPOCHS = 5
"""After so many a net that learns is better than a constant."""

BY_HEART = 0.5
"""A net whose error on training frames is below this part of that on held-out ones knows them by heart."""


class EpochWatch:
    """Told of every epoch; says what a user can act on.

    Attributes:
        last: the latest row of the history, with no entries before the first.
    """

    def __init__(self, recipe: Recipe, material: Material, *, every: bool) -> None:
        """`every`: a line for each epoch, where no bar is drawn."""
        self.last: Mapping[str, float] = {}
        self._recipe, self._every = recipe, every
        self._constant = next(iter(constant_errors(material).values()))
        self._best = float("inf")

    def __call__(self, row: dict[str, float]) -> None:
        before, self.last = self.last, row
        self._best = min(self._best, row["val_mae"])
        if row["epoch"] == 1 and len(self._recipe.targets) > 1:
            self._tell(self._shares(row))
        if self._every:
            self._tell(
                f"epoch {row['epoch']:.0f}/{self._recipe.training.epochs}: loss {row['loss']:.4f}, validation "
                f"{row['val_loss']:.4f}, error {row['val_mae']:.4f}, {row['seconds']:.1f} s"
            )
        for name, spread in collapsed(self._recipe, row, before).items():
            self._tell(
                f"warning: epoch {row['epoch']:.0f}: {name}: all pictures get nearly the same vector (spread "
                f"{spread:.3f} of 1): the training has collapsed; a lower training.learning_rate or "
                f'outputs.{name}.mining = "semi-hard" is what to try first'
            )
        if row["epoch"] == PATIENCE_EPOCHS < self._recipe.training.epochs and self._best >= self._constant:
            self._tell(
                f"warning: after {PATIENCE_EPOCHS} epochs no better than always saying the same ({self._best:.4f} "
                f"against {self._constant:.4f}): labels and learning rate are what to look at first"
            )

    def _shares(self, row: Mapping[str, float]) -> str:
        """What each output has in the loss."""
        targets = self._recipe.targets
        parts = {name: (row[f"val_loss:{name}"], target.weight) for name, target in targets.items()}
        shares = ", ".join(
            f"{name} {loss:.4f} x {weight:g} = {loss * weight:.4f} ({loss * weight / row['val_loss']:.0%})"
            for name, (loss, weight) in parts.items()
        )
        return f"validation loss by output, times its weight: {shares}"

    def _tell(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


def collapsed(recipe: Recipe, row: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    """By output, the spread of answers that say nothing and do not begin to: those of a new net are alike too.

    Args:
        row, before: of the history, and the one before, if there is one.
    """
    found = {}
    for name in (name for name, target in recipe.targets.items() if isinstance(target, Comparing)):
        key = f"spread:{name}"
        if row[key] < COLLAPSED and row[key] <= before.get(key, 0.0):
            found[name] = row[key]
    return found


def print_figures(run: Run, found: Validation, last: Mapping[str, float]) -> None:
    """The held-out figures, what they warn of, and what comes next.

    Args:
        last: row of the history.
    """
    from rich.console import Console

    console, outputs = Console(highlight=False), run.contract.outputs
    numbers = [output for output in outputs if found.of(output.name).constant_r2 is not None]
    others = [output for output in outputs if output not in numbers]
    console.print(f"[b]{found.metrics.count:,} held-out frames[/b]")
    if numbers:
        console.print(_numbers(numbers, run, found))
    for output in others:
        console.print(_others(output, run, found))
    for line in _warnings(found, last):
        console.print(f"warning: {line}", style="yellow")
    console.print(
        f"\n{found.epochs} epochs in {found.seconds:.0f} s, epoch {found.kept_epoch} kept\n"
        f"run directory: {run.path}\n"
        f"next: sepilot export {run.path} --out {run.path.parent / (run.path.name + '-export')}"
    )


def _numbers(outputs: list[Output], run: Run, found: Validation) -> object:
    """Errors of numbers, beside those of a constant and of a look-up."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("", "R²", "MAE", "MAE °", "MAE label≠0"):
        table.add_column(column, justify="right" if column else "left")
    for output in outputs:
        m, mine = found.of(output.name), run.recipe.name
        before = f"{output.name}: " if len(run.contract.outputs) > 1 else ""
        scale = output.scale if output.unit == "deg" else None
        best, still = (_number(m.mae, scale, 2), _number(m.constant_mae, scale, 2)) if scale else ("", "")
        table.add_row(f"{before}{mine}", _number(m.r2), _number(m.mae), best, _number(m.figures.get("mae_nonzero")))
        table.add_row(f"{before}constant", _number(m.constant_r2), _number(m.constant_mae), still, "")
        if output is run.contract.outputs[0]:
            seen = _number(found.leak.lookup_mae, scale, 2) if scale else ""
            table.add_row(f"{before}look-up (leak figure)", "", _number(found.leak.lookup_mae), seen, "")
    return table


def _others(output: Output, run: Run, found: Validation) -> object:
    """What another kind says of itself."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    for told in found.of(output.name).told(output):
        table.add_row(f"{output.name}: {told.name.lower()}", told.value, f"[dim]{told.remark}[/dim]")
    # Of a label that is not trained on a look-up knows nothing.
    if output is run.contract.outputs[0] and not isinstance(run.recipe.targets[output.name], Comparing):
        leak, what = f"{found.leak.lookup_mae:.3f}", "[dim]nearest training picture; the leak figure[/dim]"
        table.add_row(f"{output.name}: error of a look-up", leak, what)
    return table


def _warnings(found: Validation, last: Mapping[str, float]) -> list[str]:
    first, lines = found.metrics, []
    if first.mae >= first.constant_mae:
        lines.append(f"no better than always saying the same ({first.mae:.4f} against {first.constant_mae:.4f})")
    if found.leak.lookup_mae < first.mae:
        lines.append("looking up the nearest training picture beats the model: the split leaks, or the model is poor")
    learned = last.get("train_mae")
    if learned is not None and learned < BY_HEART * first.mae and first.mae - learned > 0.05 * first.constant_mae:
        lines.append(
            f"error {learned:.4f} on frames that it was trained on, {first.mae:.4f} on others: it knows them by heart; "
            "more drives or pictures, more augmentation, a smaller net"
        )
    return lines


def _number(value: float | None, scale: float = 1.0, digits: int = 3) -> str:
    return "n/a" if value is None else f"{value * scale:.{digits}f}"

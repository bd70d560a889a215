"""`sepilot train`: drives in, a run directory out."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepilot_runtime.base.claims import claimed
from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.base.files import require_new
from sepilot_runtime.base.terminal import legible
from sepilot_runtime.commands.arguments import LARGEST_SEED, seed

if TYPE_CHECKING:
    from sepilot_train.run.material import Material
    from sepilot_train.run.recipe import Recipe
    from sepilot_train.run.request import Request
    from sepilot_train.run.run import Run
    from sepilot_train.run.validation import Validation

__all__ = ["main"]

EPILOG = """examples:
  sepilot train ~/mycar/data --out runs/first
  sepilot train tubs/monday tubs/tuesday --val tubs/friday --recipe swift --out runs/week
  sepilot train tubs/* --recipe v27 --set training.epochs=30 --seed 1 --out runs/v27
  sepilot train --resume --out runs/week          after a kill, to the same result
  sepilot train tubs/* --recipe swift-throttle --out runs/both    steering and throttle
  sepilot train tubs/* --recipe own.toml --out runs/own  a net of your own code: model.builder = "my_nets.py:build"
  sepilot train tubs/* --preview sheet.png        look at the augmentation, train nothing

Without --val whole drives are held out (five drives or more), or blocks of time with a guard gap.

Frames of a standing car are skipped: those with a throttle at or below the recipe's data.min_throttle, in drives whose
throttle varies (--set data.min_throttle=0 takes all). --min-throttle X stands in place of that rule and holds for every
drive; frames without a throttle are skipped with it as well.
"""


def main(argv: Sequence[str]) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    out: Path | None = arguments.out
    if out is None and (arguments.preview is None or arguments.resume):
        raise UsageError("--out DIR: where the run is to be written is missing")
    if out is not None and arguments.resume:
        parser.set_defaults(**_as_begun(out))
        arguments = parser.parse_args(argv)
    if not arguments.drives:
        raise UsageError("DRIVE: at least one recording is needed, found none")
    request, recipe = _request(arguments)
    if arguments.preview is not None:
        return _preview(arguments.preview, request, recipe)
    assert out is not None
    command = legible(shlex.join(["sepilot", "train", *argv]))
    with claimed(out):
        return _train(out, request, recipe, command, resume=arguments.resume, as_json=arguments.json)


def _parser() -> argparse.ArgumentParser:
    from sepilot_runtime.commands.reader_arguments import add_filter_arguments, add_reader_arguments

    parser = argparse.ArgumentParser(
        prog="sepilot train",
        description="Train a steering model on recorded drives. Writes a run directory: model, resolved recipe, split, "
        "history, figures, and predictions on frames that were held out.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("drives", metavar="DRIVE", nargs="*", type=Path, help="a recording, or a folder of recordings")
    parser.add_argument("--recipe", default="swift", help="a shipped recipe or a .toml file (default: swift)")
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override one value of the recipe",
    )
    parser.add_argument(
        "--val", metavar="DRIVE", nargs="+", type=Path, default=[], help="drives to judge on, never trained on"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="the run directory to write")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last finished epoch in --out, with the run's own settings"
    )
    parser.add_argument(
        "--seed", type=seed, help="of weights, order, augmentation and split (default: the recipe's training.seed)"
    )
    parser.add_argument("--preview", metavar="PNG", type=Path, help="write a sheet of augmented frames and stop")
    parser.add_argument("--json", action="store_true", help="print validation.json instead of the table")
    add_reader_arguments(parser)
    add_filter_arguments(parser)
    return parser


def _as_begun(out: Path) -> dict[str, Any]:
    """What the run to resume was asked for, as the options that are not given again."""
    from sepilot_train.run.run import read_request

    request = read_request(out)
    return {
        "drives": [Path(p) for p in request.drives],
        "val": [Path(p) for p in request.validation_drives],
        "seed": request.seed,
        "recipe": str(out / "recipe.toml"),
        **dataclasses.asdict(request.reader),
        **dataclasses.asdict(request.filter),
    }


def _request(arguments: argparse.Namespace) -> tuple[Request, Recipe]:
    from sepilot_runtime.commands.reader_arguments import drive_filter, reader_options
    from sepilot_train.run.material import columns_of
    from sepilot_train.run.recipe import load_recipe
    from sepilot_train.run.request import Request

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    seed = recipe.training.seed if arguments.seed is None else arguments.seed
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"training.seed: 0 to {LARGEST_SEED} expected, found {seed}")
    throttle = arguments.min_throttle
    if throttle is not None and not math.isfinite(throttle):
        raise UsageError(f"--min-throttle: a finite number expected, found {throttle}")
    _require_one_of("--seed", seed, "training.seed", recipe.training.seed, arguments.overrides)
    if throttle is not None:
        _require_one_of("--min-throttle", throttle, "data.min_throttle", recipe.data.min_throttle, arguments.overrides)
    reader = reader_options(arguments)
    columns = dict.fromkeys((*reader.labels, *columns_of(recipe).values()))
    further = tuple(name for name in columns if name not in ("steering", "throttle"))
    request = Request(
        drives=tuple(str(p.resolve()) for p in arguments.drives),
        validation_drives=tuple(str(p.resolve()) for p in arguments.val),
        reader=dataclasses.replace(reader, labels=further),
        filter=drive_filter(arguments),
        seed=seed,
    )
    return request, recipe.with_choices(seed=seed, min_throttle=throttle)


def _require_one_of(flag: str, given: float, key: str, set_to: float, overrides: Sequence[str]) -> None:
    """An option takes the place of the recipe's value; an override of that value beside it is a mistake."""
    if given != set_to and any(o.partition("=")[0].strip() == key for o in overrides):
        raise UsageError(f"--set {key}={set_to}: {given} expected as {flag} has it; give one of them")


def _train(out: Path, request: Request, recipe: Recipe, command: str, *, resume: bool, as_json: bool) -> int:
    from sepilot_train.base.cache import usable_cache
    from sepilot_train.base.quiet import start_keras
    from sepilot_train.run.material import gather, open_sides
    from sepilot_train.run.net import build_net
    from sepilot_train.run.training import require_same, require_same_recipe, start_run, train_run
    from sepilot_train.run.validation import read_validation

    # Whatever speaks against the paths is said before the back end is imported and minutes go into decoding.
    if resume:
        require_same(out, request)
    else:
        require_new(out)
    sides = open_sides(request, told=_left_out)
    recipe = recipe.settled(sides[0])
    if resume:
        require_same_recipe(out, request, recipe)
    usable_cache()
    start_keras()
    build_net(recipe)
    progress = sys.stderr.isatty()
    material = gather(request, recipe, sides=sides, progress=progress)
    _announce(request, recipe, material)
    if not resume:
        start_run(out, request, recipe, command)
    on_epoch = functools.partial(_say, recipe=recipe, every=not progress)
    run = train_run(out, recipe, material, resume=resume, progress=progress, on_epoch=on_epoch)
    found = read_validation(run.path)
    if as_json:
        print(json.dumps(dataclasses.asdict(found), indent=2))
    else:
        _report(run, found)
    return 0


def _announce(request: Request, recipe: Recipe, material: Material) -> None:
    train, held = material.split.counts()
    skipped: Counter[str] = Counter()
    for drive in material.drives:
        skipped.update(drive.skipped)
    why = ", ".join(f"{count:,} {reason}" for reason, count in skipped.most_common())
    how = {
        "given": "on the drives named with --val",
        "drives": "on whole drives held out",
        "blocks": f"on blocks of time, {recipe.data.guard_s:g} s of guard around each",
        "groups": "on groups of pictures held out",
    }[material.split.kind]
    print(
        f"{recipe.name}: {train:,} frames to train on, {held:,} to judge on ({how}); "
        f"{skipped.total():,} skipped{f' ({why})' if why else ''}; seed {request.seed}",
        file=sys.stderr,
    )


def _left_out(line: str) -> None:
    print(f"left out: {line}", file=sys.stderr)


def _say(row: dict[str, float], *, recipe: Recipe, every: bool) -> None:
    """After the first epoch what each output has in the loss, and `every` epoch a line where no bar is drawn."""
    if row["epoch"] == 1 and len(recipe.targets) > 1:
        parts = {name: (row[f"val_loss:{name}"], target.weight) for name, target in recipe.targets.items()}
        shares = ", ".join(
            f"{name} {loss:.4f} x {weight:g} = {loss * weight:.4f} ({loss * weight / row['val_loss']:.0%})"
            for name, (loss, weight) in parts.items()
        )
        print(f"validation loss by output, times its weight: {shares}", file=sys.stderr)
    if not every:
        return
    print(
        f"epoch {row['epoch']:.0f}/{recipe.training.epochs}: loss {row['loss']:.4f}, validation {row['val_loss']:.4f}, "
        f"{row['seconds']:.1f} s",
        file=sys.stderr,
        flush=True,
    )


def _report(run: Run, found: Validation) -> None:
    from rich.console import Console
    from rich.table import Table

    leak, console = found.leak, Console(highlight=False)
    table = Table(box=None, pad_edge=False, title=f"{found.metrics.count:,} held-out frames", title_justify="left")
    outputs = run.contract.outputs
    for column in ("", "R²", "MAE", "MAE °", "MAE label≠0"):
        table.add_column(column, justify="right" if column else "left")
    for output in outputs:
        m, mine = found.of(output.name), run.recipe.name
        before = f"{output.name}: " if len(outputs) > 1 else ""
        scale = output.scale if output.unit == "deg" else None
        best, still = (_number(m.mae, scale, 2), _number(m.constant_mae, scale, 2)) if scale else ("", "")
        table.add_row(f"{before}{mine}", _number(m.r2), _number(m.mae), best, _number(m.figures.get("mae_nonzero")))
        table.add_row(f"{before}constant", _number(m.constant_r2), _number(m.constant_mae), still, "")
        if output is outputs[0]:
            seen = _number(leak.lookup_mae, scale, 2) if scale else ""
            table.add_row(f"{before}look-up (leak figure)", "", _number(leak.lookup_mae), seen, "")
    console.print(table)
    if leak.lookup_mae < found.metrics.mae:
        console.print(
            "warning: looking up the nearest training picture beats the model: the split leaks, or the model is poor",
            style="yellow",
        )
    console.print(
        f"\n{found.epochs} epochs in {found.seconds:.0f} s, epoch {found.kept_epoch} kept\n"
        f"run directory: {run.path}\n"
        f"next: sepilot export {run.path} --out {run.path.parent / (run.path.name + '-export')}"
    )


def _number(value: float | None, scale: float = 1.0, digits: int = 3) -> str:
    return "n/a" if value is None else f"{value * scale:.{digits}f}"


def _preview(path: Path, request: Request, recipe: Recipe) -> int:
    from sepilot_train.base.quiet import start_keras
    from sepilot_train.run.material import gather
    from sepilot_train.run.preview import draw_preview, require_preview_path

    require_preview_path(path)
    material = gather(request, recipe, progress=sys.stderr.isatty())
    start_keras()
    draw_preview(material.frames("train"), recipe, path, seed=request.seed)
    print(path)
    return 0

"""A sheet of augmented pictures: one row per kind that is on, at its recipe's strength, and one with all of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.base.files import require_new
from sepilot_train.base import plots
from sepilot_train.base.frame_set import FrameSet
from sepilot_train.fit.augment import Augmentation, apply, draw_uniforms, motion_of
from sepilot_train.run.recipe import Recipe

__all__ = ["draw_preview", "require_preview_path"]

KINDS = {
    "as recorded": (),
    "mirror": ("mirror",),
    "flip": ("flip_vertical",),
    "shift": ("shift_x", "shift_x_label", "shift_y"),
    "rotate": ("rotate_deg",),
    "zoom": ("zoom",),
    "shear": ("shear_deg",),
    "light": ("brightness", "contrast", "gamma"),
    "color": ("saturation", "hue_deg"),
    "shadow": ("shadow", "shadow_darkness"),
    "blur": ("blur", "blur_width"),
    "noise": ("noise",),
    "cutout": ("cutout", "cutout_size"),
    "mixup": ("mixup",),
}
"""Row of the sheet to the fields of `Augmentation` that it shows; every field stands in one."""

COLUMNS = 6


def require_preview_path(path: Path) -> None:
    """Refuse a path that cannot become a new sheet, before any work is done for it.

    Raises:
        UsageError: the suffix is not that of a PNG.
        OutputError: it exists already, or cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"--preview: a file that ends in .png expected, found {path}")
    require_new(path)


def draw_preview(frames: FrameSet, recipe: Recipe, path: Path, *, seed: int) -> None:
    """Write the sheet as PNG. Pictures, chances and labels are those that training sees; chances are raised to 1.

    Over each picture stands the label of the first output.
    """
    settings, (name, target) = recipe.augmentation, next(iter(recipe.targets.items()))
    rng = np.random.default_rng([seed, 7])
    chosen = rng.choice(len(frames), COLUMNS, replace=len(frames) < COLUMNS)
    pictures, labels = frames.pictures[chosen], frames.labels[name][chosen]
    kinds = {kind: _only(settings, fields) for kind, fields in KINDS.items()}
    off = [kind for kind, fields in KINDS.items() if fields and kinds[kind] == _only(settings, ())]
    rows = [row for row in kinds.items() if row[0] not in off] + [("all of them", settings)]
    fig = plots.figure(1.8 * COLUMNS, 1.35 * len(rows))
    grid = fig.subplots(len(rows), COLUMNS, squeeze=False)
    for line, (kind, augmentation) in zip(grid, rows, strict=True):
        uniforms = draw_uniforms(rng, (COLUMNS,), augmentation)
        changed = np.asarray(apply(pictures, uniforms, augmentation))
        moved = target.moved(labels, motion_of(uniforms, augmentation, pictures.shape[1:]))
        for ax, picture, label in zip(line, changed, moved, strict=True):
            # Channels come as blue, green, red.
            ax.imshow(picture[..., ::-1] if picture.shape[2] == 3 else picture[..., 0], cmap="gray", vmin=0, vmax=1)
            ax.set_title(f"{label:+.2f}", fontsize=8, color=plots.INK, pad=2)
            ax.set_axis_off()
        line[0].text(
            -0.04, 0.5, kind, transform=line[0].transAxes, ha="right", va="center", fontsize=9, color=plots.INK
        )
    if off:
        fig.supxlabel(f"off: {', '.join(off)}", fontsize=9, color=plots.INK)
    plots.save(fig, path)


def _only(settings: Augmentation, fields: tuple[str, ...]) -> Augmentation:
    """Just the named strengths; what happens with a chance happens always, so that it can be seen."""
    nothing = Augmentation(mirror=0.0)
    kept = {name: getattr(settings, name) for name in fields}
    certain = {name: 1.0 for name in ("mirror", "flip_vertical", "shadow", "blur", "cutout") if kept.get(name)}
    return dataclasses.replace(nothing, **{**kept, **certain})

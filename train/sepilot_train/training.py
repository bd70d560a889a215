"""From drives to a run directory: split, fit, judge, and write down what was promised."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime import __version__
from sepilot_runtime.contract import Contract, Golden, Output, Picture, Provenance, golden_from
from sepilot_runtime.errors import DriveError, FrameError, RunError
from sepilot_runtime.files import atomic_file, read_json, write_json
from sepilot_runtime.novelty import statistics_of
from sepilot_runtime.preprocess import golden_copy, picture_of
from sepilot_train import figures, split
from sepilot_train.drives import Drive, PictureSet, StoredPictures
from sepilot_train.learner import History, OnEpoch, Samples, fit, predict
from sepilot_train.metrics import SteeringMetrics, steering_metrics
from sepilot_train.models import build_model
from sepilot_train.recipe import Recipe, load_recipe, to_toml
from sepilot_train.run import (
    Predictions,
    Request,
    Run,
    first_difference,
    load_sets,
    open_run,
    open_sides,
    read_request,
    write_text,
)
from sepilot_train.split import Leak, Split

__all__ = [
    "Material",
    "complete_run",
    "gather",
    "material_of",
    "require_buildable",
    "require_same",
    "start_run",
    "summary",
    "train_run",
]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Material:
    """Drives decoded and split. The `train` and `validation` index arrays of `split` go with `sets`."""

    drives: tuple[Drive, ...]
    sets: tuple[PictureSet, ...]
    split: Split

    def samples(self, side: str) -> Samples:
        """Pictures and labels of one side ("train" or "validation") in a row."""
        parts = [(s, i) for s, i in zip(self.sets, getattr(self.split, side), strict=True) if len(i)]
        return Samples(
            pictures=StoredPictures.joined([(s.pictures, i) for s, i in parts]),
            labels=np.concatenate([s.steering[i] for s, i in parts]).astype(np.float32),
        )

    def ids(self, side: str) -> tuple[str, ...]:
        """The drives that have frames on one side."""
        return tuple(s.drive_id for s, i in zip(self.sets, getattr(self.split, side), strict=True) if len(i))


def gather(
    request: Request, recipe: Recipe, *, sides: tuple[list[Drive], list[Drive]] | None = None, progress: bool
) -> Material:
    """Read, filter, decode and split the drives of a request.

    Args:
        sides: as `open_sides` gave them, where the drives were opened before.

    Raises:
        DriveError: unreadable, without labels, of different full scales, or too short to split.
    """
    first, given = sides or open_sides(request)
    everything = load_sets([*first, *given], recipe, request.filter, progress=progress)
    _require_usable(everything)
    sets = [s for _, s in everything]
    if given:
        frames = [np.arange(len(s.steering)) for s in sets]
        # Side cameras widen what is trained on; the car drives by the centre one, so that one judges.
        centre = [np.flatnonzero(s.camera == 0) for s in sets]
        nothing = np.arange(0)
        parts = Split(
            kind="given",
            train=tuple(frames[i] if i < len(first) else nothing for i in range(len(sets))),
            validation=tuple(centre[i] if i >= len(first) else nothing for i in range(len(sets))),
        )
    else:
        data = recipe.data
        parts = split.split_frames(
            sets, fraction=data.validation_fraction, block_s=data.block_s, guard_s=data.guard_s, seed=request.seed
        )
        parts = dataclasses.replace(
            parts, validation=tuple(v[s.camera[v] == 0] for s, v in zip(sets, parts.validation, strict=True))
        )
    return Material(drives=tuple(d for d, _ in everything), sets=tuple(sets), split=parts)


def material_of(
    run: Run, *, moved_to: Sequence[Path] = (), picture: Picture | None = None, progress: bool = False
) -> Material:
    """The material of a finished run, split as it was.

    Args:
        moved_to: where the run's drives are now, when not where they were at training.
        picture: of another net; the run's own where there is none.

    Raises:
        RunError: a drive is gone or has changed since the training.
    """
    drives = run.drives(moved_to=moved_to, picture=picture, progress=progress)
    return Material(
        drives=tuple(d.drive for d in drives),
        sets=tuple(d.pictures for d in drives),
        split=Split(
            kind=summary(run)["split"],
            train=tuple(d.train for d in drives),
            validation=tuple(d.validation for d in drives),
        ),
    )


def _require_usable(everything: Sequence[tuple[Drive, PictureSet]]) -> None:
    known: dict[str, Drive] = {}
    for drive, pictures in everything:
        first = known.setdefault(pictures.fingerprint, drive)
        if first is not drive:
            raise DriveError(
                f"{drive.path}: a copy of {first.path}; a drive must not train and judge, give one of them"
            )
    for drive, pictures in everything:
        if not drive.labelled or not np.isfinite(pictures.steering).all():
            raise DriveError(f"{drive.path}: has no steering labels; it can be driven over but not trained on")
    scales = {d.full_scale_deg for d, _ in everything}
    if len(scales) > 1:
        raise DriveError(
            f"{everything[0][0].path}: drives of different full-scale angles "
            f"({', '.join(f'{s:g}' for s in sorted(scales))} degrees) cannot be trained on together; "
            "give the one that is meant with --full-scale-deg"
        )


def start_run(out: Path, request: Request, recipe: Recipe, command: str) -> None:
    """Make the run directory with what was asked for, and the `command` line that did. Raises OutputError."""
    write_text(out / "command.txt", command + "\n")
    write_text(out / "recipe.toml", to_toml(recipe))
    write_json(out / "request.json", dataclasses.asdict(request))


def require_same(out: Path, request: Request, recipe: Recipe) -> None:
    """Make sure that the run to resume was asked for in the same way.

    Raises:
        RunError: there is none, or it was asked for differently.
    """
    own = "a run goes on with its own settings; leave the option out, or train into a new directory"
    begun = read_request(out)
    if difference := first_difference(begun, request):
        raise RunError(f"{out}: {difference}; {own}")
    kept = load_recipe(str(out / "recipe.toml")).with_choices(seed=begun.seed, min_throttle=begun.filter.min_throttle)
    if kept.sha256 != recipe.sha256:
        raise RunError(f"{out}: another recipe or other overrides than its recipe.toml has; {own}")


def require_buildable(recipe: Recipe) -> None:
    """Build the recipe's net once, to say what is wrong with it before minutes go into decoding. Raises RecipeError."""
    build_model(recipe.model.builder, recipe.picture.shape, recipe.model.options)


def train_run(
    out: Path,
    request: Request,
    recipe: Recipe,
    material: Material,
    *,
    resume: bool,
    progress: bool,
    on_epoch: OnEpoch | None = None,
) -> Run:
    """Fit the recipe's net to the material and complete the run directory `out`.

    Args:
        on_epoch: as in `learner.fit`.

    Returns:
        The finished run.
    """
    import keras

    settings = dataclasses.replace(recipe.training, seed=request.seed)
    keras.utils.set_random_seed(request.seed)
    net = build_model(recipe.model.builder, recipe.picture.shape, recipe.model.options)
    train, validation = material.samples("train"), material.samples("validation")
    begin = time.perf_counter()
    # A training that was killed in its first epoch has nothing to go on from, and starts over.
    resume = resume and (out / "checkpoint" / "state.npz").exists()
    history = fit(
        net, train, validation, settings, recipe.augmentation, out, resume=resume, on_epoch=on_epoch,
        show_progress=progress,
    )  # fmt: skip
    complete_run(out, recipe, material, net, history, time.perf_counter() - begin)
    return open_run(out)


def complete_run(
    out: Path, recipe: Recipe, material: Material, net: Any, history: History, seconds: float
) -> SteeringMetrics:
    """Judge a trained net on the held-out frames and write everything of the run directory that follows from it.

    Args:
        net: Keras 3 Functional, pictures of `recipe` in, one output of shape (n, 1).
        seconds: that the training took.
    """
    write_json(out / "split.json", split.to_json(material.sets, material.split))
    train, validation = material.samples("train"), material.samples("validation")
    answers = predict(net, validation.pictures)
    metrics = steering_metrics(validation.labels, answers, float(train.labels.mean()))
    leak = split.measure_leak(material.sets, material.split)
    _write_judgement(out, material, validation, answers, metrics, leak, history, seconds)
    write_text(out / "contract.json", _contract(recipe, material, train, net, answers, metrics).to_json())
    _draw(out, material, validation, answers, metrics, history)
    with atomic_file(out / "model.keras") as part:
        net.save(part)
    return metrics


def _write_judgement(
    out: Path,
    material: Material,
    validation: Samples,
    answers: NDArray[np.float32],
    metrics: SteeringMetrics,
    leak: Leak,
    history: History,
    seconds: float,
) -> None:
    parts = [(s, i) for s, i in zip(material.sets, material.split.validation, strict=True) if len(i)]
    Predictions(
        drives=tuple(s.drive_id for s, i in parts for _ in i),
        names=tuple(s.names[j] for s, i in parts for j in i),
        labels=validation.labels,
        predictions=answers,
    ).save(out / "predictions.npz")
    frames = material.split.counts()
    write_json(
        out / "validation.json",
        {
            "split": material.split.kind,
            "train_frames": frames[0],
            "validation_frames": frames[1],
            "train_drives": material.ids("train"),
            "validation_drives": material.ids("validation"),
            "full_scale_deg": material.drives[0].full_scale_deg,
            "metrics": metrics.to_json(),
            "leak": dataclasses.asdict(leak),
            "epochs": len(history.rows),
            "kept_epoch": history.kept_epoch,
            "stopped_early": history.stopped_early,
            # Of this process: a resumed training counts from where it went on.
            "seconds": round(seconds, 2),
            "skipped": {s.drive_id: dict(s.skipped) for s in material.sets},
        },
    )


def _contract(
    recipe: Recipe,
    material: Material,
    train: Samples,
    net: Any,
    answers: NDArray[np.float32],
    metrics: SteeringMetrics,
) -> Contract:
    fingerprints = [s.fingerprint for s, i in zip(material.sets, material.split.train, strict=True) if len(i)]
    figures_ = {
        "r2": metrics.r2,
        "mae": metrics.mae,
        "mae_nonzero": metrics.mae_nonzero,
        "constant_mae": metrics.constant_mae,
        "frames": float(metrics.count),
    }
    return Contract(
        task=recipe.task,
        picture=recipe.picture,
        outputs=(Output(name="steering", scale=material.drives[0].full_scale_deg),),
        provenance=Provenance(
            recipe=recipe.name,
            recipe_sha256=recipe.sha256,
            dataset_fingerprint=hashlib.sha256("".join(fingerprints).encode()).hexdigest(),
            drives=material.ids("train"),
            validation_drives=material.ids("validation"),
            validation={k: round(v, 6) for k, v in figures_.items() if np.isfinite(v)},
            versions=_versions(),
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        ),
        statistics=dataclasses.replace(statistics_of(train.pictures), frame_size=_frame_size(material)),
        golden=_golden_frames(material, recipe.picture, net, answers),
    )


def _versions() -> dict[str, str]:
    found = {"sepilot": __version__}
    for package in ("keras", "tensorflow", "jax", "numpy", "opencv-python", "opencv-python-headless"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _frame_size(material: Material) -> tuple[int, int] | None:
    """(width, height) of the training frames, by the first of each drive; None where their shapes differ."""
    sizes = []
    for drive in material.drives:
        try:
            height, width = drive.read(0).shape[:2]
        except FrameError:
            continue
        sizes.append((width, height))
    aspects = [width / height for width, height in sizes]
    return sizes[0] if sizes and max(aspects) < 1.02 * min(aspects) else None


def _golden_frames(
    material: Material, picture: Picture, net: Any, answers: NDArray[np.float32], count: int = 3
) -> tuple[Golden, ...]:
    """Small copies of held-out frames from hardest left to hardest right, with the training model's answers."""
    owners = [(d, int(j)) for d, i in _validation_frames(material) for j in i]
    order = np.argsort(answers, kind="stable")
    frames = []
    for place in np.linspace(0, len(order) - 1, min(count, len(order))).astype(int):
        drive, index = owners[order[place]]
        try:
            frames.append(golden_copy(drive.read(index)))
        except FrameError:
            continue
    if not frames:
        raise DriveError(f"{material.drives[0].path}: no frame can be read any more for the golden frames")
    pictures = np.stack([picture_of(frame, picture) for frame in frames])
    expected = predict(net, pictures)
    return tuple(
        golden_from(frame, {"steering": float(answer)}, pixels)
        for frame, answer, pixels in zip(frames, expected, pictures, strict=True)
    )


def _validation_frames(material: Material) -> list[tuple[Drive, list[int]]]:
    """Each drive with the indices of its held-out frames in the drive."""
    result = []
    for drive, pictures, held in zip(material.drives, material.sets, material.split.validation, strict=True):
        place = {name: i for i, name in enumerate(drive.names)}
        result.append((drive, [place[pictures.names[j]] for j in held]))
    return result


def _draw(
    out: Path,
    material: Material,
    validation: Samples,
    answers: NDArray[np.float32],
    metrics: SteeringMetrics,
    history: History,
) -> None:
    scale = material.drives[0].full_scale_deg
    folder = out / "figures"
    columns = {key: [row[key] for row in history.rows] for key in (history.rows[0] if history.rows else {})}
    if columns:
        figures.draw_history(columns, folder / "training.png")
    figures.draw_scatter(validation.labels, answers, metrics, scale, folder / "scatter.png")
    figures.draw_driving(validation.labels, answers, scale, folder / "driving.png")
    figures.draw_bins(metrics, scale, folder / "bins.png")


def summary(run: Run) -> dict[str, Any]:
    """validation.json of a run."""
    return dict(read_json(run.path / "validation.json", RunError))

"""What `sepilot bench` will measure, found out before minutes go into measuring."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepilot_runtime.base.errors import MissingExtraError, ModelFileError, NoContractError, UsageError
from sepilot_runtime.commands.bench_request import BenchRequest

if TYPE_CHECKING:
    from sepilot_runtime.bench.latency_bench import Variant
    from sepilot_runtime.bench.record import Benchmark
    from sepilot_runtime.engine.engines import Engine
    from sepilot_runtime.engine.model_file import ModelFile

__all__ = ["RANDOM_INPUTS", "BenchPlan", "planned"]

RANDOM_INPUTS = "random inputs"
"""In the place of frames, where no file says what it makes of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchPlan:
    """What will be measured.

    Attributes:
        files: those with a contract; every file is in `variants`.
        references: engines to compare with; `missing` says why others are none.
        names: of the files and of the references' files, each unlike the others.
    """

    files: Sequence[ModelFile]
    variants: Sequence[Variant]
    references: Sequence[Engine]
    missing: Sequence[str]
    names: Mapping[Path, str]
    frames: Sequence[Any]
    settings: Mapping[str, Any]


def planned(request: BenchRequest, old: Benchmark | None) -> BenchPlan:
    """Everything is read, and whatever can be told beforehand is said, before minutes go into measuring."""
    import numpy as np

    from sepilot_runtime.base.opencv import cv2
    from sepilot_runtime.base.unique_names import names_of
    from sepilot_runtime.bench.profile import require_eligible
    from sepilot_runtime.bench.regression import require_comparable
    from sepilot_runtime.engine.model_file import model_files

    paths = model_files(request.files)
    files = [file for path in paths if (file := _with_contract(path))]
    known = {file.path for file in files}
    if len(known) < len(paths):
        _require_contracts(known, paths, request)
    variants = _variants(paths, known, request.threads, request.engine)
    if request.write_profile:
        require_eligible(request.write_profile, [(v.path, str(v.engine)) for v in variants])
    # As `sepilot drive` runs.
    cv2.setNumThreads(1)
    frames = _frames(request, files) if files else [np.zeros((1, 1, 3), np.uint8)]
    references, missing = _references(request, files)
    paths += [engine.path for engine in references]
    height, width = frames[0].shape[:2]
    plan = BenchPlan(
        files=files, variants=variants, references=references, missing=missing, frames=frames,
        names=dict(zip(paths, names_of(paths), strict=True)),
        settings={
            "frames": (request.frames or "synthetic") if files else RANDOM_INPUTS,
            "frame_width": width,
            "frame_height": height,
            "frame_count": len(frames),
            **{name: getattr(request, name) for name in ("rounds", "calls", "seed")},
        },
    )  # fmt: skip
    if old is not None:
        keys = [(plan.names[v.path], str(v.engine), v.threads) for v in plan.variants]
        keys += [(plan.names[e.path], e.name, e.threads) for e in plan.references]
        require_comparable(old, plan.settings, [(key, request.rounds) for key in keys])
    return plan


def _with_contract(path: Path) -> ModelFile | None:
    """The file at `path`, None where it is anybody's and has no contract."""
    from sepilot_runtime.engine.model_file import read_model_file

    try:
        return read_model_file(path)
    except NoContractError:
        return None


def _require_contracts(known: Collection[Path], paths: Sequence[Path], request: BenchRequest) -> None:
    """What cannot be done with a file of which nobody knows what it sees."""
    bare = next(path for path in paths if path not in known)
    for name in ("keras", "paced", "write_profile", *(() if known else ("frames", "references"))):
        if getattr(request, name):
            raise UsageError(
                f"--{name.replace('_', '-')}: files with a contract expected, {bare} has none; bring it under one with "
                f"`sepilot adopt {bare}`"
            )


def _references(request: BenchRequest, files: Sequence[ModelFile]) -> tuple[list[Engine], list[str]]:
    """Engines to compare with, and why others are none."""
    from sepilot_runtime.engine.names import ModelKind

    engines: list[Engine] = []
    missing: list[str] = []
    if request.references:
        from sepilot_runtime.engine.opencv_dnn import OpenCvDnnEngine

        onnx = [file for file in files if file.kind is ModelKind.ONNX]
        if not onnx:
            missing.append("opencv-dnn: runs .onnx files, and none was given")
        for file in onnx:
            try:
                engines.append(OpenCvDnnEngine(file))
            except ModelFileError as e:
                missing.append(f"opencv-dnn: {e}")
    if request.keras:
        from sepilot_runtime.base.plugins import REFERENCES, load_plugin

        # What runs on the car must not know of Keras.
        keras_engines = load_plugin(REFERENCES, "keras")
        if keras_engines is None:
            raise MissingExtraError("sepilot_export", "export")
        engines += keras_engines(request.keras, files[0].contract)
    return engines, missing


def _variants(
    paths: Sequence[Path], known: Collection[Path], threads: Sequence[int], words: Sequence[str]
) -> list[Variant]:
    """Files and thread counts, by engine where engines are asked for; each file on those of them that run its kind."""
    from sepilot_runtime.bench.latency_bench import Variant
    from sepilot_runtime.engine.names import ENGINES, ModelKind, engine_named, runs

    kinds = {path: ModelKind(path.suffix.lower()[1:]) for path in paths}
    engines = [engine_named(word) for word in words]
    for path, kind in kinds.items():
        if engines and not any(runs(engine, kind) for engine in engines):
            raise UsageError(f"--engine: for {path} one of {', '.join(ENGINES[kind])} expected")
    return [
        Variant(path=path, threads=n, engine=engine or ENGINES[kind][0], bare=path not in known)
        for engine in engines or (None,)
        for path, kind in kinds.items()
        if engine is None or runs(engine, kind)
        for n in threads
    ]


def _frames(request: BenchRequest, files: Sequence[ModelFile]) -> Sequence[Any]:
    """Recorded ones, or noise: of the size that files with the preprocessing inside take, or a usual camera's."""
    from sepilot_runtime.bench.latency_bench import read_frames, synthetic_frames

    sizes = {(f.contract.frame.height, f.contract.frame.width): f.path for f in files if f.contract.frame}
    if len(sizes) > 1:
        found = ", ".join(f"{height}x{width} ({path})" for (height, width), path in sizes.items())
        raise UsageError(f"files that take frames of one size expected, found {found}; measure them one by one")
    if request.frames:
        return read_frames(request.frames, request.reader)
    height, width = next(iter(sizes), (480, 640))
    return synthetic_frames(height=height, width=width, seed=request.seed)

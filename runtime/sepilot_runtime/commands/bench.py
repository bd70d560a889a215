"""`sepilot bench FILE…`: latency from frame to angle on this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepilot_runtime.base.errors import MissingExtraError, ModelFileError, NoContractError, UsageError
from sepilot_runtime.commands.bench_request import BenchRequest, bench_request

if TYPE_CHECKING:
    from sepilot_runtime.bench.latency_bench import Variant
    from sepilot_runtime.bench.tables import Report
    from sepilot_runtime.engine.engines import Engine
    from sepilot_runtime.engine.model_file import ModelFile

__all__ = ["main"]


RANDOM_INPUTS = "random inputs"
"""In the place of frames, where no file says what it makes of them."""


def main(argv: Sequence[str]) -> int:
    """Run `sepilot bench`."""
    request = bench_request(argv)
    from sepilot_runtime.base.files import require_new
    from sepilot_runtime.bench.regression import read_benchmark

    old = read_benchmark(request.against) if request.against else None
    if old is not None and request.compares_documents:
        return _compare(old, read_benchmark(request.files[0]), request)
    if request.write_profile:
        require_new(request.write_profile)
    report = _measure(_planned(request, old), request)
    # What was measured is said before anything else is done with it, which may fail.
    code = _say(report, old, request)
    if request.write_profile:
        _write_profile(request.write_profile, report)
    return code


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
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


def _planned(request: BenchRequest, old: Mapping[str, Any] | None) -> _Plan:
    """Everything is read, and whatever can be told beforehand is said, before minutes go into measuring."""
    import numpy as np

    from sepilot_runtime.base.opencv import cv2
    from sepilot_runtime.base.unique_names import names_of
    from sepilot_runtime.bench.profile import require_eligible
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
    plan = _Plan(
        files=files,
        variants=variants,
        references=references,
        missing=missing,
        names=dict(zip(paths, names_of(paths), strict=True)),
        frames=frames,
        settings={
            "frames": (request.frames or "synthetic") if files else RANDOM_INPUTS,
            "frame_width": frames[0].shape[1],
            "frame_height": frames[0].shape[0],
            "frame_count": len(frames),
            "rounds": request.rounds,
            "calls": request.calls,
            "seed": request.seed,
        },
    )
    if old is not None:
        _require_comparable(old, plan)
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


def _require_comparable(old: Mapping[str, Any], plan: _Plan) -> None:
    from sepilot_runtime.bench.regression import require_comparable

    keys = [(plan.names[v.path], str(v.engine), v.threads) for v in plan.variants]
    keys += [(plan.names[e.path], e.name, e.threads) for e in plan.references]
    require_comparable(old, plan.settings, [(key, plan.settings["rounds"]) for key in keys])


def _measure(plan: _Plan, request: BenchRequest) -> Report:
    from sepilot_runtime.base.files import sha256_of
    from sepilot_runtime.bench.cold_start import cold_start
    from sepilot_runtime.bench.latency_bench import measure
    from sepilot_runtime.bench.roofline import gemm_rate, model_macs
    from sepilot_runtime.bench.tables import Report
    from sepilot_runtime.device.conditions import conditions_now

    files, frames, settings = plan.files, plan.frames, plan.settings
    before = conditions_now()
    results = measure(
        plan.variants, frames, rounds=request.rounds, calls=request.calls, seed=request.seed,
        references=plan.references,
    )  # fmt: skip
    starts, height, width = request.cold_starts, settings["frame_height"], settings["frame_width"]
    colds = [cold_start(variant, starts, height=height, width=width) for variant in plan.variants] if starts else []
    paced = [_paced(variant, frames, request) for variant in plan.variants] if request.paced else []
    macs_of = {path: model_macs(path) for path in dict.fromkeys(variant.path for variant in plan.variants)}
    of_recipe = {f.contract.provenance.recipe_sha256: macs_of[f.path] for f in files if macs_of[f.path]}
    recipes = {file.path: file.contract.provenance.recipe_sha256 for file in files}
    # An ONNX file does not say it; that of the same recipe does, and the references stand beside the first.
    macs = [macs_of.get(r.path) or of_recipe.get(recipes.get(r.path, "")) for r in results if not r.reference]
    return Report(
        settings=settings,
        before=before,
        after=conditions_now(),
        results=results,
        macs=macs + [of_recipe.get(next(iter(recipes.values())))] * (len(results) - len(macs)),
        colds=colds,
        paced=paced,
        gemm_gmacs=gemm_rate(),
        missing=plan.missing,
        names=plan.names,
        sha256={path: sha256_of(path) for path in macs_of},
    )


def _references(request: BenchRequest, files: Sequence[ModelFile]) -> tuple[list[Engine], list[str]]:
    """Engines to compare with, and why others are none."""
    from sepilot_runtime.engine.model_file import ModelKind

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
        from importlib import metadata

        # As the command line finds verbs: what runs on the car must not know of Keras.
        found = metadata.entry_points(group="sepilot.engines", name="keras")
        if not found:
            raise MissingExtraError("sepilot_export", "export")
        engines += found["keras"].load()(request.keras, files[0].contract)
    return engines, missing


def _paced(variant: Variant, frames: Sequence[Any], request: BenchRequest) -> Any:
    from sepilot_runtime.bench.soak import soak_test
    from sepilot_runtime.engine.pilot import load_pilot
    from sepilot_runtime.engine.trial import time_limit

    with time_limit(variant.path):
        pilot = load_pilot(variant.path, threads=variant.threads, engine=variant.engine)
    return soak_test(pilot, frames, rate_hz=request.paced, seconds=request.minutes * 60)


def _variants(
    paths: Sequence[Path], known: Collection[Path], threads: Sequence[int], words: Sequence[str]
) -> list[Variant]:
    """Files and thread counts, by engine where engines are asked for; each file on those of them that run its kind."""
    from sepilot_runtime.bench.latency_bench import Variant
    from sepilot_runtime.engine.engines import ENGINES, engine_named
    from sepilot_runtime.engine.model_file import ModelKind

    kinds = {path: ENGINES[ModelKind(path.suffix.lower()[1:])] for path in paths}
    engines = [engine_named(word) for word in words]
    for path, able in kinds.items():
        if words and not set(engines) & set(able):
            raise UsageError(f"--engine: for {path} one of {', '.join(able)} expected")
    return [
        Variant(path=path, threads=n, engine=engine or able[0], bare=path not in known)
        for engine in engines or (None,)
        for path, able in kinds.items()
        if engine in (None, *able)
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
        return read_frames(request.frames)
    height, width = next(iter(sizes), (480, 640))
    return synthetic_frames(height=height, width=width, seed=request.seed)


def _say(report: Report, old: Mapping[str, Any] | None, request: BenchRequest) -> int:
    """Print what was measured, or how it compares; the exit code."""
    from sepilot_runtime.bench.tables import document

    new = document(report)
    if old is not None:
        return _compare(old, new, request)
    if request.json:
        print(json.dumps(new, indent=2))
    else:
        _print(report, request)
    return 0


def _print(report: Report, request: BenchRequest) -> None:
    from sepilot_runtime.bench.tables import paced_table, table

    before, settings = report.before, report.settings
    print(before)
    if before.governor not in (None, "performance"):
        print(f"sepilot: governor {before.governor!r}; 'performance' gives steadier figures", file=sys.stderr)
    if report.after.throttled not in (None, "no"):
        print(f"sepilot: throttled: {report.after.throttled}; cool or power it better", file=sys.stderr)
    size = f"frame {settings['frame_width']}x{settings['frame_height']}"
    path = f"{size} ({settings['frames']}, {settings['frame_count']} in memory) to angle"
    print(
        f"\n{RANDOM_INPUTS + ' to outputs' if settings['frames'] == RANDOM_INPUTS else path}, microseconds,\n"
        f"{settings['rounds']} rounds x {settings['calls']} calls, interleaved\n"
    )
    print(table(report, by_engine=bool(request.engine)))
    if report.paced:
        print(f"\npaced at {request.paced:g} Hz for {request.minutes:g} min, the whole turn of the live loop\n")
        print(paced_table(report))


def _compare(old: Mapping[str, Any], new: Mapping[str, Any], request: BenchRequest) -> int:
    from dataclasses import asdict

    from sepilot_runtime.bench.regression import compare
    from sepilot_runtime.bench.tables import comparison_table

    found, remarks = compare(old, new, tolerance=request.tolerance)
    failed = any(row.failed for row in found)
    if request.json:
        print(json.dumps({**new, "against": [asdict(row) for row in found], "remarks": remarks}, indent=2))
    else:
        print(comparison_table(found))
        print("".join(f"\n{remark}" for remark in remarks).removeprefix("\n"))
        if failed:
            print(f"slower by more than {request.tolerance:.0%}")
    return 1 if failed else 0


def _write_profile(path: Path, report: Report) -> None:
    from sepilot_runtime.bench.profile import write_profile

    profile, lines = write_profile(path, report.results, report.before.cpu)
    for line in lines:
        print(f"not eligible: {line}", file=sys.stderr)
    threads = f"{profile.threads} thread{'s' * (profile.threads > 1)}"
    print(f"{path}: {profile.file} on {profile.engine}, {threads}, {profile.us_p50:.1f} us", file=sys.stderr)

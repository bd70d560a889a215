"""`sepilot bench FILE…`: latency from frame to angle on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepilot_runtime.base.errors import ModelFileError, UsageError
from sepilot_runtime.commands.arguments import count, seed

if TYPE_CHECKING:
    from sepilot_runtime.bench.latency_bench import Variant
    from sepilot_runtime.bench.record import Benchmark
    from sepilot_runtime.bench.tables import Report
    from sepilot_runtime.engine.engines import Engine
    from sepilot_runtime.engine.model_file import ModelFile

__all__ = ["main"]

EPILOG = """\
examples:
  sepilot bench export                                         all model files in it
  sepilot bench swift-f32.tflite swift-int8.tflite --threads 1,2
  sepilot bench swift-int8.tflite --frames road.mp4 --json > bench.json
  sepilot bench export/*32.* --engine litert,onnxruntime,openvino --references --png bench.png
  sepilot bench swift-int8.tflite --paced 30 --minutes 5       misses of a camera's deadline
  sepilot bench export/*.tflite --against bench.json           exit code 1 when slower
  sepilot bench export --write-profile car.json && sepilot drive --profile car.json --source 0

Every round visits each file and thread count in a new random order. Preprocess is frame to
picture; infer is picture to number, with writing the input and dequantizing; total is all of it.
Figures of different machines, or of a machine under load, do not compare; ratios in one run do.
"""


def main(argv: Sequence[str]) -> int:
    """Run `sepilot bench`."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    from sepilot_runtime.bench.regression import read_benchmark

    old = read_benchmark(arguments.against) if arguments.against else None
    if old is not None and [path.suffix for path in arguments.files] == [".json"]:
        _require_nothing_to_measure(parser, arguments)
        return _compare(old, read_benchmark(arguments.files[0]), arguments)
    _require_sense(parser, arguments)
    report = _measure(_planned(arguments, old), arguments)
    # What was measured is said before anything else is done with it, which may fail.
    code = _say(report, old, arguments)
    if arguments.png:
        from sepilot_runtime.bench.chart import write_chart

        write_chart(arguments.png, report)
    if arguments.write_profile:
        _write_profile(arguments.write_profile, report)
    return code


def _require_nothing_to_measure(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Two documents are compared; whatever asks for a measurement would be ignored."""
    for name, value in vars(arguments).items():
        if name not in ("files", "against", "tolerance", "json") and value != parser.get_default(name):
            raise UsageError(
                f"--{name.replace('_', '-')}: model files to measure expected, found {arguments.files[0]}, "
                "which is compared as it is"
            )


def _require_sense(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    from sepilot_runtime.base.files import require_new

    for name, needed in (("minutes", "paced"), ("tolerance", "against")):
        if getattr(arguments, name) != parser.get_default(name) and not getattr(arguments, needed):
            raise UsageError(f"--{name}: --{needed} expected with it, found none")
    if arguments.png and arguments.png.suffix.lower() != ".png":
        raise UsageError(f"--png: a file that ends in .png expected, found {arguments.png}")
    for path in (arguments.png, arguments.write_profile):
        if path is not None:
            require_new(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What will be measured.

    Attributes:
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


def _planned(arguments: argparse.Namespace, old: Benchmark | None) -> _Plan:
    """Everything is read, and whatever can be told beforehand is said, before minutes go into measuring."""
    from sepilot_runtime.base.opencv import cv2
    from sepilot_runtime.base.unique_names import names_of
    from sepilot_runtime.bench.latency_bench import read_frames, synthetic_frames
    from sepilot_runtime.bench.profile import require_eligible
    from sepilot_runtime.engine.model_file import model_files, read_model_file

    files = [read_model_file(path) for path in model_files(arguments.files)]
    variants = _variants(files, arguments.threads, arguments.engine)
    if arguments.write_profile:
        require_eligible(arguments.write_profile, [(v.path, str(v.engine)) for v in variants])
    height, width = _frame_size(files)
    # As `sepilot drive` runs.
    cv2.setNumThreads(1)
    if arguments.frames:
        frames = read_frames(arguments.frames)
    else:
        frames = synthetic_frames(height=height, width=width, seed=arguments.seed)
    references, missing = _references(arguments, files)
    paths = [*(file.path for file in files), *(engine.path for engine in references)]
    plan = _Plan(
        files=files,
        variants=variants,
        references=references,
        missing=missing,
        names=dict(zip(paths, names_of(paths), strict=True)),
        frames=frames,
        settings={
            "frames": arguments.frames or "synthetic",
            "frame_width": frames[0].shape[1],
            "frame_height": frames[0].shape[0],
            "frame_count": len(frames),
            "rounds": arguments.rounds,
            "calls": arguments.calls,
            "seed": arguments.seed,
        },
    )
    if old is not None:
        _require_comparable(old, plan)
    return plan


def _require_comparable(old: Benchmark, plan: _Plan) -> None:
    from sepilot_runtime.bench.regression import require_comparable

    keys = [(plan.names[v.path], str(v.engine), v.threads) for v in plan.variants]
    keys += [(plan.names[e.path], e.name, e.threads) for e in plan.references]
    require_comparable(old, plan.settings, [(key, plan.settings["rounds"]) for key in keys])


def _measure(plan: _Plan, arguments: argparse.Namespace) -> Report:
    import hashlib

    from sepilot_runtime.bench.cold_start import cold_start
    from sepilot_runtime.bench.latency_bench import measure
    from sepilot_runtime.bench.roofline import gemm_rate, model_macs
    from sepilot_runtime.bench.tables import Report
    from sepilot_runtime.device.conditions import conditions_now

    files, frames, settings = plan.files, plan.frames, plan.settings
    before = conditions_now()
    results = measure(
        plan.variants, frames, rounds=arguments.rounds, calls=arguments.calls, seed=arguments.seed,
        references=plan.references,
    )  # fmt: skip
    starts, height, width = arguments.cold_starts, settings["frame_height"], settings["frame_width"]
    colds = [cold_start(variant, starts, height=height, width=width) for variant in plan.variants] if starts else []
    paced = [_paced(variant, frames, arguments) for variant in plan.variants] if arguments.paced else []
    macs_of = {file.path: model_macs(file) for file in files}
    of_recipe = {f.contract.provenance.recipe_sha256: macs_of[f.path] for f in files if macs_of[f.path]}
    recipes = {file.path: file.contract.provenance.recipe_sha256 for file in files}
    return Report(
        settings=settings,
        before=before,
        after=conditions_now(),
        results=results,
        # An ONNX file does not say it; that of the same recipe does.
        macs=[macs_of.get(r.path) or of_recipe.get(recipes.get(r.path, recipes[files[0].path])) for r in results],
        colds=colds,
        paced=paced,
        gemm_gmacs=gemm_rate(),
        missing=plan.missing,
        names=plan.names,
        sha256={file.path: hashlib.sha256(file.content).hexdigest() for file in files},
    )


def _references(arguments: argparse.Namespace, files: Sequence[ModelFile]) -> tuple[list[Engine], list[str]]:
    """Engines to compare with, and why others are none."""
    from sepilot_runtime.engine.model_file import ModelKind

    engines: list[Engine] = []
    missing: list[str] = []
    if arguments.references:
        from sepilot_runtime.engine.opencv_dnn import OpenCvDnnEngine

        onnx = [file for file in files if file.kind is ModelKind.ONNX]
        if not onnx:
            missing.append("opencv-dnn: runs .onnx files, and none was given")
        for file in onnx:
            try:
                engines.append(OpenCvDnnEngine(file))
            except ModelFileError as e:
                missing.append(f"opencv-dnn: {e}")
    if arguments.keras:
        import importlib

        # By name, as the command line finds verbs: what runs on the car must not know of Keras.
        keras = importlib.import_module("sepilot_export.verify.keras_engine")
        engines += keras.keras_engines(arguments.keras, files[0].contract)
    return engines, missing


def _paced(variant: Variant, frames: Sequence[Any], arguments: argparse.Namespace) -> Any:
    from sepilot_runtime.bench.soak import soak_test
    from sepilot_runtime.engine.pilot import load_pilot
    from sepilot_runtime.engine.trial import time_limit

    with time_limit(variant.path):
        pilot = load_pilot(variant.path, threads=variant.threads, engine=variant.engine)
    return soak_test(pilot, frames, rate_hz=arguments.paced, seconds=arguments.minutes * 60)


def _variants(files: Sequence[ModelFile], threads: Sequence[int], words: Sequence[str]) -> list[Variant]:
    """Files and thread counts, by engine where engines are asked for; each file on those of them that run its kind."""
    from sepilot_runtime.bench.latency_bench import Variant
    from sepilot_runtime.engine.engines import ENGINES, engine_named

    if not words:
        return [Variant(path=f.path, threads=n, engine=ENGINES[f.kind][0]) for f in files for n in threads]
    engines = [engine_named(word) for word in words]
    for file in files:
        if not set(engines) & set(ENGINES[file.kind]):
            raise UsageError(f"--engine: for {file.path} one of {', '.join(ENGINES[file.kind])} expected")
    return [
        Variant(path=file.path, threads=n, engine=engine)
        for engine in engines
        for file in files
        if engine in ENGINES[file.kind]
        for n in threads
    ]


def _frame_size(files: Sequence[ModelFile]) -> tuple[int, int]:
    """Height and width of the noise: what files with the preprocessing inside take, or a usual camera's."""
    sizes = {(f.contract.frame.height, f.contract.frame.width): f.path for f in files if f.contract.frame}
    if len(sizes) > 1:
        found = ", ".join(f"{height}x{width} ({path})" for (height, width), path in sizes.items())
        raise UsageError(f"files that take frames of one size expected, found {found}; measure them one by one")
    return next(iter(sizes), (480, 640))


def _say(report: Report, old: Benchmark | None, arguments: argparse.Namespace) -> int:
    """Print what was measured, or how it compares; the exit code."""
    from dataclasses import asdict

    from sepilot_runtime.bench.tables import document

    new = document(report)
    if old is not None:
        return _compare(old, new, arguments)
    if arguments.json:
        print(json.dumps(asdict(new), indent=2))
    else:
        _print(report, arguments)
    return 0


def _print(report: Report, arguments: argparse.Namespace) -> None:
    from sepilot_runtime.bench.tables import paced_table, table

    before, settings = report.before, report.settings
    print(before)
    if before.governor not in (None, "performance"):
        print(f"sepilot: governor {before.governor!r}; 'performance' gives steadier figures", file=sys.stderr)
    if report.after.throttled not in (None, "no"):
        print(f"sepilot: throttled: {report.after.throttled}; cool or power it better", file=sys.stderr)
    print(
        f"\nframe {settings['frame_width']}x{settings['frame_height']} ({settings['frames']}, "
        f"{settings['frame_count']} in memory) to angle, microseconds,\n"
        f"{settings['rounds']} rounds x {settings['calls']} calls, interleaved\n"
    )
    print(table(report, by_engine=bool(arguments.engine)))
    if report.paced:
        print(f"\npaced at {arguments.paced:g} Hz for {arguments.minutes:g} min, the whole turn of the live loop\n")
        print(paced_table(report))


def _compare(old: Benchmark, new: Benchmark, arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from sepilot_runtime.bench.regression import compare
    from sepilot_runtime.bench.tables import comparison_table

    found, remarks = compare(old, new, tolerance=arguments.tolerance)
    failed = any(row.failed for row in found)
    if arguments.json:
        print(json.dumps({**asdict(new), "against": [asdict(row) for row in found], "remarks": remarks}, indent=2))
    else:
        print(comparison_table(found))
        print("".join(f"\n{remark}" for remark in remarks).removeprefix("\n"))
        if failed:
            print(f"slower by more than {arguments.tolerance:.0%}")
    return 1 if failed else 0


def _write_profile(path: Path, report: Report) -> None:
    from sepilot_runtime.bench.profile import write_profile

    profile, lines = write_profile(path, report.results, report.before.cpu)
    for line in lines:
        print(f"not eligible: {line}", file=sys.stderr)
    threads = f"{profile.threads} thread{'s' * (profile.threads > 1)}"
    print(f"{path}: {profile.file} on {profile.engine}, {threads}, {profile.us_p50:.1f} us", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sepilot bench",
        description="Measure latency from frame in memory to angle, on this machine, for one file or several.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE",
        help=".tflite or .onnx files, or directories of them as `sepilot export` writes; or, with --against, one "
        "document of an earlier --json",
    )  # fmt: skip
    parser.add_argument(
        "--frames",
        metavar="SOURCE",
        help="frames of a video, folder or drive (default: noise, 640x480 or of the size that the files take)",
    )
    parser.add_argument(
        "--threads", type=_counts, default=(1,), metavar="N,…", help="thread counts of the interpreter (default 1)"
    )
    parser.add_argument(
        "--engine", type=_words, default=(), metavar="NAME,…",
        help="litert, onnxruntime, openvino, openvino-bf16; each file on all of them that run it (default: the first)",
    )  # fmt: skip
    parser.add_argument("--rounds", type=count, default=20, metavar="N", help="visits to each file (default 20)")
    parser.add_argument("--calls", type=count, default=100, metavar="N", help="measured calls per visit (default 100)")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="of the noise and of the order (default 0)")
    parser.add_argument(
        "--cold-starts", type=_count_or_none, default=3, metavar="N",
        help="fresh processes to start per row, for their time and memory (default 3; 0 leaves it out)",
    )  # fmt: skip
    parser.add_argument(
        "--references", action="store_true", help="measure OpenCV's own interpreter on .onnx files, too"
    )
    parser.add_argument(
        "--keras", type=Path, metavar="PATH",
        help="measure Keras predict, Keras call and tf.function, too, on this run directory or .keras file",
    )  # fmt: skip
    parser.add_argument("--paced", type=_rate, metavar="HZ", help="then drive live at a camera's rate")
    parser.add_argument(
        "--minutes", type=_positive, default=1.0, metavar="M", help="to drive at that rate, for each row (default 1)"
    )
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the table into a new picture")
    parser.add_argument("--against", type=Path, metavar="JSON", help="compare with an earlier --json, and judge")
    parser.add_argument(
        "--tolerance", type=_share, default=0.05, metavar="X",
        help="exit with 1 when slower by more than this share and by more than the noise (default 0.05)",
    )  # fmt: skip
    parser.add_argument(
        "--write-profile", type=Path, metavar="JSON",
        help="store the quickest row whose file passed `sepilot check` on that engine, for `drive --profile`",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON document with all figures and conditions")
    return parser


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _count_or_none(text: str) -> int:
    return 0 if text == "0" else count(text)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(count(part) for part in text.split(","))


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1e4:
        raise argparse.ArgumentTypeError(f"above 0 and at most 10000 expected, found {text}")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"1 to 1000 Hz expected, found {text}")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 10:
        raise argparse.ArgumentTypeError(f"0 to 10 expected, found {text}")
    return value

"""`sepilot bench FILE…`: latency from frame to angle on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepilot_runtime.commands.arguments import count, seed
from sepilot_runtime.errors import ModelFileError, UsageError

if TYPE_CHECKING:
    from sepilot_runtime.bench_report import Report
    from sepilot_runtime.benchmark import Variant
    from sepilot_runtime.engines import Engine
    from sepilot_runtime.modelfile import ModelFile

__all__ = ["main"]

EPILOG = """\
examples:
  sepilot bench export/*.tflite export/*.onnx
  sepilot bench swift-f32.tflite swift-int8.tflite --threads 1,2
  sepilot bench swift-int8.tflite --frames road.mp4 --json > bench.json
  sepilot bench export/*32.* --engine litert,onnxruntime,openvino --references --png bench.png
  sepilot bench swift-int8.tflite --paced 30 --minutes 5       misses of a camera's deadline
  sepilot bench export/*.tflite --against bench.json           exit code 1 when slower
  sepilot bench export/* --write-profile car.json && sepilot drive --profile car.json --source 0

Every round visits each file and thread count in a new random order. Preprocess is frame to
picture; infer is picture to number, with writing the input and dequantizing; total is all of it.
Figures of different machines, or of a machine under load, do not compare; ratios in one run do.
"""


def main(argv: Sequence[str]) -> int:
    """Run `sepilot bench`."""
    arguments = _parser().parse_args(argv)
    from sepilot_runtime.files import require_new
    from sepilot_runtime.verdict import read_benchmark

    old = read_benchmark(arguments.against) if arguments.against else None
    if old is not None and [path.suffix for path in arguments.files] == [".json"]:
        return _compare(old, read_benchmark(arguments.files[0]), arguments)
    for path in (arguments.png, arguments.write_profile):
        if path is not None:
            require_new(path)
    from sepilot_runtime.bench_report import document

    report = _measure(arguments)
    new = document(report)
    if arguments.png:
        from sepilot_runtime.bench_chart import write_chart

        write_chart(arguments.png, report)
    if arguments.write_profile:
        _write_profile(arguments.write_profile, report)
    if old is not None:
        return _compare(old, new, arguments)
    if arguments.json:
        print(json.dumps(new, indent=2))
    else:
        _print(report, arguments)
    return 0


def _measure(arguments: argparse.Namespace) -> Report:
    from sepilot_runtime.bench_report import Report
    from sepilot_runtime.benchmark import measure, read_frames, synthetic_frames
    from sepilot_runtime.coldstart import cold_start
    from sepilot_runtime.conditions import conditions_now
    from sepilot_runtime.floor import gemm_rate, model_macs
    from sepilot_runtime.modelfile import read_model_file
    from sepilot_runtime.opencv import cv2

    # What cannot be read is said before any work is done.
    files = [read_model_file(path) for path in arguments.files]
    variants = _variants(files, arguments.threads, arguments.engine)
    height, width = _frame_size(files)
    # As `sepilot drive` runs.
    cv2.setNumThreads(1)
    if arguments.frames:
        frames = read_frames(arguments.frames)
    else:
        frames = synthetic_frames(height=height, width=width, seed=arguments.seed)
    height, width = frames[0].shape[:2]
    before = conditions_now()
    references, missing = _references(arguments, files)
    results = measure(
        variants, frames, rounds=arguments.rounds, calls=arguments.calls, seed=arguments.seed, references=references
    )
    starts = arguments.cold_starts
    colds = [cold_start(variant, starts, height=height, width=width) for variant in variants] if starts else []
    paced = [_paced(variant, frames, arguments) for variant in variants] if arguments.paced else []
    macs_of = {file.path: model_macs(file) for file in files}
    of_recipe = {f.contract.provenance.recipe_sha256: macs_of[f.path] for f in files if macs_of[f.path]}
    shas = {file.path: file.contract.provenance.recipe_sha256 for file in files}
    return Report(
        settings={
            "frames": arguments.frames or "synthetic",
            "frame_width": width,
            "frame_height": height,
            "frame_count": len(frames),
            "rounds": arguments.rounds,
            "calls": arguments.calls,
            "seed": arguments.seed,
        },
        before=before,
        after=conditions_now(),
        results=results,
        # An ONNX file does not say it; that of the same recipe does.
        macs=[macs_of.get(r.path) or of_recipe.get(shas.get(r.path, shas[files[0].path])) for r in results],
        colds=colds,
        paced=paced,
        gemm_gmacs=gemm_rate(),
        missing=missing,
    )


def _references(arguments: argparse.Namespace, files: Sequence[ModelFile]) -> tuple[list[Engine], list[str]]:
    """Engines to compare with, and why others are none."""
    from sepilot_runtime.modelfile import ModelKind

    engines: list[Engine] = []
    missing: list[str] = []
    if arguments.references:
        from sepilot_runtime.opencvdnn import OpenCvDnnEngine

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
        keras = importlib.import_module("sepilot_export.references")
        engines += keras.keras_engines(arguments.keras, files[0].contract)
    return engines, missing


def _paced(variant: Variant, frames: Sequence[Any], arguments: argparse.Namespace) -> Any:
    from sepilot_runtime.pilot import load_pilot
    from sepilot_runtime.rehearsal import rehearse

    pilot = load_pilot(variant.path, threads=variant.threads, engine=variant.engine)
    return rehearse(pilot, frames, rate_hz=arguments.paced, seconds=arguments.minutes * 60)


def _variants(files: Sequence[ModelFile], threads: Sequence[int], words: Sequence[str]) -> list[Variant]:
    """Files and thread counts, by engine where engines are asked for; each file on those of them that run its kind."""
    from sepilot_runtime.benchmark import Variant
    from sepilot_runtime.engines import ENGINES, engine_named

    if not words:
        return [Variant(path=file.path, threads=n) for file in files for n in threads]
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


def _print(report: Report, arguments: argparse.Namespace) -> None:
    from sepilot_runtime.bench_report import paced_table, table

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


def _compare(old: dict[str, Any], new: dict[str, Any], arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from sepilot_runtime.bench_report import comparison_table
    from sepilot_runtime.verdict import compare

    found, remarks = compare(old, new, tolerance=arguments.tolerance)
    failed = any(row.failed for row in found)
    if arguments.json:
        print(json.dumps({**new, "against": [asdict(row) for row in found], "remarks": remarks}, indent=2))
    else:
        print(comparison_table(found))
        print("".join(f"\n{remark}" for remark in remarks).removeprefix("\n"))
        if failed:
            print(f"slower by more than {arguments.tolerance:.0%}")
    return 1 if failed else 0


def _write_profile(path: Path, report: Report) -> None:
    from sepilot_runtime.profiles import write_profile

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
        help=".tflite or .onnx files of `sepilot export`; or, with --against, one document of an earlier --json",
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

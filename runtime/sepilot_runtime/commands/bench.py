"""`sepilot bench FILE…`: latency from frame to angle on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sepilot_runtime.benchmark import Measurement
    from sepilot_runtime.conditions import Conditions

__all__ = ["main"]

EPILOG = """\
examples:
  sepilot bench export/*.tflite export/*.onnx
  sepilot bench swift-f32.tflite swift-int8.tflite --threads 1,2
  sepilot bench swift-int8.tflite --frames road.mp4 --json > bench.json

Every round visits each file and thread count in a new random order. Preprocess is frame to
picture; infer is picture to number, with writing the input and dequantizing; total is all of it.
Figures of different machines, or of a machine under load, do not compare; ratios in one run do.
"""

NAME_WIDTH = 22


def main(argv: Sequence[str]) -> int:
    """Run `sepilot bench`."""
    arguments = _parser().parse_args(argv)

    from sepilot_runtime.benchmark import Variant, measure, read_frames, synthetic_frames
    from sepilot_runtime.conditions import conditions_now
    from sepilot_runtime.modelfile import read_contract
    from sepilot_runtime.opencv import cv2

    for path in arguments.files:
        read_contract(path)  # What cannot be read is said before any work is done.
    # As `sepilot drive` runs.
    cv2.setNumThreads(1)
    variants = [Variant(path=path, threads=threads) for path in arguments.files for threads in arguments.threads]
    frames = read_frames(arguments.frames) if arguments.frames else synthetic_frames(seed=arguments.seed)
    before = conditions_now()
    results = measure(variants, frames, rounds=arguments.rounds, calls=arguments.calls, seed=arguments.seed)
    after = conditions_now()
    height, width = frames[0].shape[:2]
    what = {
        "frames": arguments.frames or "synthetic",
        "frame_width": width,
        "frame_height": height,
        "frame_count": len(frames),
        "rounds": arguments.rounds,
        "calls": arguments.calls,
        "seed": arguments.seed,
    }
    if arguments.json:
        print(json.dumps(_document(what, before, after, results), indent=2))
        return 0
    print(before)
    if before.governor not in (None, "performance"):
        print(f"sepilot: governor {before.governor!r}; 'performance' gives steadier figures", file=sys.stderr)
    print(
        f"\nframe {width}x{height} ({what['frames']}, {len(frames)} in memory) to angle, microseconds,\n"
        f"{arguments.rounds} rounds x {arguments.calls} calls, interleaved\n"
    )
    print(_table(results))
    return 0


def _document(what: dict[str, Any], before: Conditions, after: Conditions, results: list[Measurement]) -> Any:
    """Conditions at the start (load and temperature at the end too), settings, one row per file and thread count."""
    from dataclasses import asdict

    conditions = {**asdict(before), "load_after": after.load, "temperature_after_c": after.temperature_c}
    return {"conditions": conditions, "settings": what, "rows": [_row(result) for result in results]}


def _row(result: Measurement) -> dict[str, Any]:
    from dataclasses import asdict

    total = result.total
    return {
        "file": result.path.name,
        "path": str(result.path),
        "engine": result.engine,
        "precision": result.precision,
        "threads": result.threads,
        "bytes": result.file_bytes,
        "load_ms": result.load_ms,
        "first_us": result.first_us,
        "us_min": total.min_us,
        "us_p50": total.p50_us,
        "us_p90": total.p90_us,
        "us_p99": total.p99_us,
        "us_max": total.max_us,
        "count": total.count,
        "preprocess": asdict(result.preprocess),
        "infer": asdict(result.infer),
        "ratio": result.ratio,
    }


def _table(results: list[Measurement]) -> str:
    lines = [f"{'file':{NAME_WIDTH}} thr  prep infer    min   p50   p90    p99    max  ratio"]
    for r in results:
        head = f"{_short(r.path.name):{NAME_WIDTH}} {r.threads:>3}"
        stages = f"{_us(r.preprocess.p50_us):>5} {_us(r.infer.p50_us):>5}"
        t = r.total
        total = f"{_us(t.min_us):>5} {_us(t.p50_us):>5} {_us(t.p90_us):>5} {_us(t.p99_us):>6} {_us(t.max_us):>6}"
        lines.append(f"{head} {stages}  {total}  {r.ratio:>5.2f}")
    lines += ["", f"{'file':{NAME_WIDTH}} thr  engine      precision          kB  load ms  first us"]
    for r in results:
        head = f"{_short(r.path.name):{NAME_WIDTH}} {r.threads:>3}"
        kilobytes, first = f"{r.file_bytes / 1000:>5.0f}", _us(r.first_us)
        lines.append(f"{head}  {r.engine:<11} {r.precision:<15} {kilobytes}  {r.load_ms:>7.1f}  {first:>8}")
    return "\n".join(lines)


def _us(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _short(name: str) -> str:
    """A name that fits its column. The middle is cut: the end tells files of one model apart."""
    if len(name) <= NAME_WIDTH:
        return name
    head = NAME_WIDTH // 3
    return f"{name[:head]}…{name[head + 1 - NAME_WIDTH :]}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sepilot bench",
        description="Measure latency from frame in memory to angle, on this machine, for one file or several.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help=".tflite or .onnx files of `sepilot export`"
    )
    parser.add_argument(
        "--frames", metavar="SOURCE", help="frames of a video, folder or drive (default: noise, 640x480)"
    )
    parser.add_argument(
        "--threads", type=_counts, default=(1,), metavar="N,…", help="thread counts of the interpreter (default 1)"
    )
    parser.add_argument("--rounds", type=_count, default=20, metavar="N", help="visits to each file (default 20)")
    parser.add_argument("--calls", type=_count, default=100, metavar="N", help="measured calls per visit (default 100)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise and of the order (default 0)")
    parser.add_argument("--json", action="store_true", help="print one JSON document with all figures and conditions")
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"at least 1 expected, found {value}")
    return value


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_count(part) for part in text.split(","))

"""What `sepilot bench` is asked for: its command line as one frozen request."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.commands.arguments import count, request_of, seed
from sepilot_runtime.commands.reader_arguments import add_reader_arguments, reader_options
from sepilot_runtime.recording.options import ReaderOptions

__all__ = ["BenchRequest", "bench_request"]

EPILOG = """\
examples:
  sepilot bench export                                         all model files in it
  sepilot bench swift-f32.tflite swift-int8.tflite --threads 1,2
  sepilot bench swift-int8.tflite --frames road.mp4 --json > bench.json
  sepilot bench export/*32.* --engine litert,onnxruntime,openvino --references
  sepilot bench swift-int8.tflite --paced 30 --minutes 5       misses of a camera's deadline
  sepilot bench export/*.tflite --against bench.json           exit code 1 when slower
  sepilot bench mobilenet.tflite other.onnx                    anybody's files, on random numbers
  sepilot bench export --write-profile car.json && sepilot drive --profile car.json --source 0

Every round visits each file and thread count in a new random order. Preprocess is frame to
picture; infer is picture to number, with writing the input and dequantizing; total is all of it.
Figures of different machines, or of a machine under load, do not compare; ratios in one run do.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRequest:
    """A field per flag, as its help says it."""

    files: tuple[Path, ...]
    frames: str | None
    reader: ReaderOptions
    threads: tuple[int, ...]
    engine: tuple[str, ...]
    rounds: int
    calls: int
    seed: int
    cold_starts: int
    references: bool
    keras: Path | None
    paced: float | None
    minutes: float
    against: Path | None
    tolerance: float
    write_profile: Path | None
    json: bool

    @property
    def compares_documents(self) -> bool:
        """Whether nothing is measured: two documents are compared."""
        return self.against is not None and [path.suffix for path in self.files] == [".json"]


def bench_request(argv: Sequence[str]) -> BenchRequest:
    """The request of a command line; argparse ends the process where it cannot be read.

    Raises:
        UsageError: a flag that would be ignored.
    """
    parser = argparse.ArgumentParser(
        prog="sepilot bench",
        description="Measure latency from frame in memory to angle, on this machine, for one file or several.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_measurement_arguments(parser)
    _add_use_arguments(parser)
    add_reader_arguments(parser)
    arguments = parser.parse_args(argv)
    request = request_of(BenchRequest, arguments, reader=reader_options(arguments))
    given = [name for name, value in vars(arguments).items() if value != parser.get_default(name)]
    for name in given:
        if request.compares_documents and name not in ("files", "against", "tolerance", "json"):
            raise UsageError(
                f"--{name.replace('_', '-')}: model files to measure expected, found {request.files[0]}, "
                "which is compared as it is"
            )
    reading = [(field.name, "frames") for field in dataclasses.fields(ReaderOptions)]
    for name, needed in (("minutes", "paced"), ("tolerance", "against"), *reading):
        if name in given and not getattr(request, needed):
            raise UsageError(f"--{name}: --{needed} expected with it, found none")
    return request


def _add_measurement_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE",
        help=".tflite or .onnx files, anybody's as well, or directories of them as `sepilot export` writes; or, with "
        "--against, one document of an earlier --json",
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


def _add_use_arguments(parser: argparse.ArgumentParser) -> None:
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

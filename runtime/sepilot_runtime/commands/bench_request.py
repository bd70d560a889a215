"""What `sepilot bench` is asked for: its command line as one frozen request."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.commands.arguments import count, flag, number, request_from, seed, switch
from sepilot_runtime.commands.reader_arguments import READER
from sepilot_runtime.engine.names import OWN
from sepilot_runtime.recording.options import ReaderOptions

__all__ = ["BenchRequest", "bench_request"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _count_or_none(text: str) -> int:
    return 0 if text == "0" else count(text)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(count(part) for part in text.split(","))


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
    """A field per flag, which says what it is."""

    files: tuple[Path, ...] = flag(
        ".tflite or .onnx files, anybody's as well, or directories of them as `sepilot export` writes; or, with "
        "--against, one document of an earlier --json", "FILE", positional=True, nargs="+",
    )  # fmt: skip
    frames: str | None = flag(
        "frames of a video, folder or drive (default: noise, 640x480 or of the size that the files take)", "SOURCE"
    )
    threads: tuple[int, ...] = flag(
        "thread counts of the interpreter (default 1)", "N,…", type=_counts, default=(1,)
    )  # fmt: skip
    engine: tuple[str, ...] = flag(
        f"{', '.join(OWN)}; each file on all of them that run it (default: the first)", "NAME,…", type=_words,
        default=(),
    )  # fmt: skip
    rounds: int = flag("visits to each file (default 20)", "N", default=20)
    calls: int = flag("measured calls per visit (default 100)", "N", default=100)
    seed: int = flag("of the noise and of the order (default 0)", "N", type=seed, default=0)
    cold_starts: int = flag(
        "fresh processes to start per row, for their time and memory (default 3; 0 leaves it out)", "N",
        type=_count_or_none, default=3,
    )  # fmt: skip
    references: bool = switch("measure OpenCV's own interpreter on .onnx files, too")
    keras: Path | None = flag(
        "measure Keras predict, Keras call and tf.function, too, on this run directory or .keras file", "PATH"
    )
    paced: float | None = flag("then drive live at a camera's rate", "HZ", type=number(1, 1000, " Hz"))
    minutes: float = flag(
        "to drive at that rate, for each row (default 1)", "M", type=number(0, 1e4, above=True), default=1.0
    )
    against: Path | None = flag("compare with an earlier --json, and judge", "JSON")
    tolerance: float = flag(
        "exit with 1 when slower by more than this share and by more than the noise (default 0.05)", "X",
        type=number(0, 10), default=0.05,
    )  # fmt: skip
    write_profile: Path | None = flag(
        "store the quickest row whose file passed `sepilot check` on that engine, for `drive --profile`", "JSON"
    )
    json: bool = switch("print one JSON document with all figures and conditions")
    reader: ReaderOptions

    @property
    def compares_documents(self) -> bool:
        """Whether nothing is measured: two documents are compared."""
        return self.against is not None and [path.suffix for path in self.files] == [".json"]


def bench_request(argv: Sequence[str]) -> BenchRequest:
    """The request of a command line; argparse ends the process where it cannot be read.

    Raises:
        UsageError: a flag that would be ignored.
    """
    request = request_from(
        argv, BenchRequest, "bench",
        "Measure latency from frame in memory to angle, on this machine, for one file or several.", EPILOG,
        reader=READER,
    )  # fmt: skip
    given = [*_changed(request), *_changed(request.reader)]
    for name in given:
        if request.compares_documents and name not in ("files", "against", "tolerance", "json", "reader"):
            raise UsageError(
                f"--{name.replace('_', '-')}: model files to measure expected, found {request.files[0]}, "
                "which is compared as it is"
            )
    reading = [(field.name, "frames") for field in dataclasses.fields(ReaderOptions)]
    for name, needed in (("minutes", "paced"), ("tolerance", "against"), *reading):
        if name in given and not getattr(request, needed):
            raise UsageError(f"--{name}: --{needed} expected with it, found none")
    return request


def _changed(options: BenchRequest | ReaderOptions) -> list[str]:
    """What was given another value than that which it has by itself."""
    return [field.name for field in dataclasses.fields(options) if getattr(options, field.name) != field.default]

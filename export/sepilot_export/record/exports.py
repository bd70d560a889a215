"""export.json: what `sepilot export` made, of what, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sepilot_export.convert.failures import Failure
from sepilot_export.convert.formats import GateLimits, format_named
from sepilot_export.convert.int8_as_onnx import Twin
from sepilot_runtime.base.bootstrap import Interval
from sepilot_runtime.base.documents import read_document
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.recording.options import DriveFilter, ReaderOptions

__all__ = ["EXPORT_NAME", "TOOLS", "Cost", "Export", "ExportedFile", "OutputLimits", "Preprocessing", "Processor",
           "SeenDrive", "SeenDrives", "TuningFigures", "read_export"]  # fmt: skip

EXPORT_NAME = "export.json"

TOOLS = ("sepilot", "tensorflow", "keras", "ai-edge-quantizer", "ai-edge-litert", "tf2onnx", "onnx", "onnxruntime",
         "numpy")  # fmt: skip
"""Packages that have a say in the files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of the file with float layers, of plain int8 and of float32: median inference time in µs, bytes without contract.

    Measured on this machine, one thread, all three interleaved.
    """

    us: float
    plain_us: float
    float32_us: float
    bytes: int
    plain_bytes: int
    float32_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningFigures:
    """A file's deviation from the training model on some frames, in degrees, and the gates that it misses there.

    Attributes:
        on: what frames.
        output, unit: what the figures are of; older exports have but one output.
        mae_increase: of the task error, in label units; None without labels.
        notes: what the figures could not decide.
    """

    on: str
    frames: int
    output: str = ""
    unit: str = "deg"
    mean_deg: float
    p99_deg: float
    max_deg: float
    mae_increase: Interval | None
    misses: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputLimits:
    """What a file must keep with one output."""

    limits: GateLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedFile:
    """One written file.

    Attributes:
        limits: of the first output; `outputs`, of each by its name, nothing in what an older sepilot wrote.
        sparsity: share of zero weights.
        seconds: that its conversion took.
        kept_float: layers of an int8 file that --max-drop left in float32, from the most damaging.
        kept_because: what the plain int8 file missed on training frames.
        cost: of that; None where no layer was kept.
        figures: with --max-drop, on the frames that decided and on the held-out frames.
        twin: of a twin, how it stands to its TFLite file.
        of_training: the training made the int8 file itself, so that no option of the export changes it.
    """

    file: str
    format: str
    precision: str
    engine: str
    bytes: int
    gzip_bytes: int
    sha256: str
    sparsity: float
    seconds: float = 0.0
    limits: GateLimits
    outputs: Mapping[str, OutputLimits] = field(default_factory=dict)
    kept_float: tuple[str, ...] = ()
    kept_because: tuple[str, ...] = ()
    cost: Cost | None = None
    figures: tuple[TuningFigures, ...] = ()
    twin: Twin | None = None
    of_training: bool = False

    def __post_init__(self) -> None:
        format_named(self.format)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenDrive:
    """A drive of a run. `train` and `validation` are numbers of frames."""

    id: str
    fingerprint: str
    train: int
    validation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenDrives:
    """What a run has seen, and how its recordings were read.

    Attributes:
        columns: by output, the recordings' column that it learned; those of the outputs' names where nothing is said.
    """

    reader: ReaderOptions
    filter: DriveFilter
    seen: tuple[SeenDrive, ...]
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """What the files were made and judged on."""

    cpu: str
    int8_kernels: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """Of files that take frames: their size, and how the preprocessing inside differs from OpenCV's on some of them."""

    height: int
    width: int
    frames: int
    largest_difference_levels: int
    differing_pixels: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """export.json. What an older sepilot did not write has a default.

    Attributes:
        run: directory of the training; None for a model that has none.
        max_drop: what the task MAE may rise by, in label units; None where every layer is int8.
        min_throttle: frames at or below it were left out as standing still.
        drives: that the run has seen.
        deploy_graph_difference: between training model and deploy graph at most, in output values.
        failed: formats that could not be made.
    """

    version: int = 1
    created: str
    run: str | None = None
    recipe: str = ""
    recipe_sha256: str = ""
    model_sha256: str
    tools: Mapping[str, str]
    processor: Processor | None = None
    seed: int = 0
    max_drop: float | None = None
    min_throttle: float
    drives: SeenDrives | None = None
    deploy_graph_difference: float
    preprocessing: Preprocessing | None = None
    warnings: tuple[str, ...]
    files: tuple[ExportedFile, ...]
    failed: tuple[Failure, ...] = ()


def read_export(folder: Path) -> Export:
    """export.json of an export directory. Raises RunError."""
    return read_document(Export, folder / EXPORT_NAME, RunError)

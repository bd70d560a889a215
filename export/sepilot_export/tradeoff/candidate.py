"""One file with its figures: a line of the table and a dot of the charts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sepilot_export.tradeoff.discovery import Place
from sepilot_export.tradeoff.lineage import Command
from sepilot_runtime.base.bootstrap import Interval

__all__ = ["Entry", "FileFigures", "Timing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Microseconds on this machine.

    Attributes:
        median_us: frame in memory to angle.
        low_us, high_us: between these lie the medians of four rounds in five.
        net_us: the part from picture to number, median.
    """

    median_us: float
    low_us: float
    high_us: float
    net_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFigures:
    """What is known of a file.

    Attributes:
        name: of the export and the format: "week/int8.tflite".
        made_by: recipe of the training, and that of the compression where there was one.
        gzip_bytes: size after gzip -9.
        sparsity: share of zero weights.
        parameters, macs: of the file's own graph; None where it cannot be read here.
        mae_deg: mean error of the first output on the common frames, in its unit; None for a file that never answered.
        max_deviation_deg: largest deviation from its own training model on all its held-out frames.
        timing: None where the file cannot be run.
        reasons: why it fails; empty when it passes.
        notes: what its check could not decide.
    """

    name: str
    made_by: str
    format: str
    precision: str
    engine: str
    bytes: int
    gzip_bytes: int
    sparsity: float
    parameters: int | None
    macs: int | None
    mae_deg: Interval | None
    max_deviation_deg: float | None
    timing: Timing | None
    commands: tuple[Command, ...]
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Entry(FileFigures):
    """A file that is compared.

    Attributes:
        number: on the page, from 1.
        errors_deg: (n,) errors of the first output on the common frames; empty for a file that never answered.
        constant_errors_deg: (n,) of always answering what is right for most training labels.
        further: the mean errors of further outputs by name, with their units.
    """

    number: int
    place: Place
    file: str
    errors_deg: NDArray[np.float64]
    constant_errors_deg: NDArray[np.float64]
    further: Mapping[str, tuple[str, Interval]] = field(default_factory=dict)

    @property
    def constant_mae_deg(self) -> float:
        return float(self.constant_errors_deg.mean())

    @property
    def passed(self) -> bool:
        return not self.reasons

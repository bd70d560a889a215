"""One file with its figures: a line of the table and a dot of the charts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sepilot_export.tradeoff.discovery import Place
from sepilot_export.tradeoff.lineage import Command
from sepilot_runtime.base.bootstrap import Interval

__all__ = ["Entry", "Timing"]


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


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Entry:
    """A file.

    Attributes:
        number: on the page, from 1.
        name: of the export and the format: "week/int8.tflite".
        made_by: recipe of the training, and that of the compression where there was one.
        gzip_bytes: size after gzip -9.
        sparsity: share of zero weights.
        parameters, macs: of the file's own graph; None where it cannot be read here.
        errors_deg: (n,) absolute errors of the first output on the common frames; empty for a file that never answered.
        mae_deg: their mean; None likewise.
        constant_errors_deg: (n,) of always answering the mean of the training labels.
        max_deviation_deg: largest deviation from its own training model on all its held-out frames.
        further: the mean errors of further outputs by name, with their units.
        timing: None where the file cannot be run.
        reasons: why it fails; empty when it passes.
        notes: what its check could not decide.
    """

    number: int
    place: Place
    file: str
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
    errors_deg: NDArray[np.float64]
    mae_deg: Interval | None
    constant_errors_deg: NDArray[np.float64]
    max_deviation_deg: float | None
    further: Mapping[str, tuple[str, Interval]] = field(default_factory=dict)
    timing: Timing | None
    commands: tuple[Command, ...]
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def constant_mae_deg(self) -> float:
        return float(self.constant_errors_deg.mean())

    @property
    def passed(self) -> bool:
        return not self.reasons

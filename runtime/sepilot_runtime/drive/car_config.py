"""What is particular to one car, in one TOML file: its servo, its limits, where what it gets goes.

outputs = ["serial:/dev/ttyACM0"]

[actuation]
trim = 0.03
gain = -1.0
max_rate_per_s = 6.0
throttle = 0.25                 # or "model", or "by-curvature", with
# throttle_max = 0.4            # which no throttle is above

[limits]
max_age_ms = 100
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sepilot_runtime.base.documents import override, parse, read_toml
from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.drive.actuation import Actuation
from sepilot_runtime.drive.supervisor import Limits

__all__ = ["CarConfig", "load_car"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CarConfig:
    """One car's settings. `outputs` as `sepilot drive --to` takes them; the command line's come on top."""

    actuation: Actuation = field(default_factory=Actuation)
    limits: Limits = field(default_factory=Limits)
    outputs: tuple[str, ...] = ()


def load_car(path: Path | None, overrides: Sequence[str] = ()) -> CarConfig:
    """Read a car's file, or start from the defaults, and apply overrides ("section.key=value").

    Raises:
        UsageError: not TOML, an unknown key, a wrong type or range.
    """
    table: dict[str, Any] = read_toml(path, UsageError) if path else {}
    for text in overrides:
        override(table, text, UsageError)
    try:
        return parse(CarConfig, table, "", UsageError, complete=False)
    except UsageError as e:
        raise UsageError(f"{path}: {e}" if path else f"--set: {e}") from e

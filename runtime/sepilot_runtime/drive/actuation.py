"""From what the model says to what the servo gets: calibration, smoothing and a rate limit, all defined in time.

A filter defined per frame changes with the camera's rate; these do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sepilot_runtime.base.errors import ContractError, UsageError
from sepilot_runtime.drive.state import State
from sepilot_runtime.drive.step import Step

# For its types alone: the watchdog's process imports this module, and shall neither wait for numpy nor hold it.
if TYPE_CHECKING:
    from sepilot_runtime.contract.contract import Contract
    from sepilot_runtime.engine.pilot import Prediction
    from sepilot_runtime.source.protocol import Frame

__all__ = ["STEERING", "THROTTLE", "Actuation", "Actuator", "require_drivable", "require_shown", "steers"]

STEERING, THROTTLE = "steering", "throttle"
"""Names of the outputs that a car is driven by."""


def steers(contract: Contract) -> bool:
    """Whether a car can be steered by the model: what it says is obeyed. What others say is shown."""
    from sepilot_runtime.contract.outputs.scalar.output import Scalar

    return any(
        isinstance(o, Scalar) and (o.name, o.positive, o.unit) == (STEERING, "right", "deg") for o in contract.outputs
    )


def require_shown(contract: Contract, path: Path) -> None:
    """A model whose answers can be shown: by its picture alone, and nothing that a car is to obey.

    Raises:
        ContractError: it is another one.
    """
    if steers(contract):
        raise ContractError(f"{path}: it steers a car; drive by it: sepilot drive {path}")
    _require_picture_alone(contract, path)


def require_drivable(contract: Contract, path: Path, actuation: Actuation | None = None) -> None:
    """A model that a car can be driven by says where to go, and how fast where it is asked.

    Raises:
        ContractError: it does not.
    """
    from sepilot_runtime.contract.outputs.scalar.output import Scalar

    if not steers(contract):
        found = ", ".join(output.name for output in contract.outputs)
        raise ContractError(
            f"{path}: {STEERING!r} in degrees with + = right expected among its outputs, found {found}; "
            f"it does not steer, but runs: sepilot run {path}"
        )
    speeds = [o.name for o in contract.outputs if isinstance(o, Scalar) and o.positive != "right"]
    if actuation and actuation.throttle == "model" and THROTTLE not in speeds:
        raise ContractError(f'{path}: actuation.throttle = "model": it has no output {THROTTLE!r} to go by')
    if nameless := [v.name for v in contract.vectors if not (v.columns or v.previous)]:
        raise ContractError(
            f"{path}: it takes {', '.join(nameless)} beside the picture, of which nobody knows the columns"
        )


def _require_picture_alone(contract: Contract, path: Path) -> None:
    if contract.vectors:
        found = ", ".join(vector.name for vector in contract.vectors)
        raise ContractError(f"{path}: it takes {found} beside the picture, which no source of a drive gives")


@dataclass(frozen=True, slots=True, kw_only=True)
class Actuation:
    """How a steering in [-1, 1], + = right, is brought to the car.

    Attributes:
        gain: factor on the steering; negative for a servo that turns the other way.
        trim: added after the gain, so that 0 goes straight.
        low, high: the range that the car's linkage takes, after gain and trim.
        smoothing_s: time constant of a first-order low-pass; 0 takes the steering as it is.
        max_rate_per_s: largest change of the steering per second; None has no limit.
        throttle: while driving: a number, 0 by default; "model": what the model's output of that name says;
            "by-curvature": `throttle_max` straight ahead, and less the further the model steers.
        throttle_max: no throttle is above it. Needed unless `throttle` is a number.
        bend_throttle: "by-curvature" at full steering, as a factor on `throttle_max`.
        degraded_throttle: factor on the throttle in the state `degraded`.
    """

    gain: float = 1.0
    trim: float = 0.0
    low: float = -1.0
    high: float = 1.0
    smoothing_s: float = 0.0
    max_rate_per_s: float | None = None
    throttle: float | Literal["model", "by-curvature"] = 0.0
    throttle_max: float | None = None
    bend_throttle: float = 0.5
    degraded_throttle: float = 0.5

    def __post_init__(self) -> None:
        if not -1 <= self.low < self.high <= 1:
            raise UsageError(f"steering range: -1 <= low < high <= 1 expected, found {self.low:g} to {self.high:g}")
        if not (self.gain and math.isfinite(self.gain)):
            raise UsageError(f"gain: a number other than 0 expected, found {self.gain:g}")
        if not -1 <= self.trim <= 1:
            raise UsageError(f"trim: -1 to 1 expected, found {self.trim:g}")
        if not 0 <= self.smoothing_s < 10:
            raise UsageError(f"smoothing_s: 0 to 10 expected, found {self.smoothing_s:g}")
        if self.max_rate_per_s is not None and not self.max_rate_per_s > 0:
            raise UsageError(f"max_rate_per_s: a positive number expected, found {self.max_rate_per_s:g}")
        self._require_throttle()

    def _require_throttle(self) -> None:
        if isinstance(self.throttle, str):
            if self.throttle_max is None:
                raise UsageError(f'throttle_max: a number above 0 expected with throttle = "{self.throttle}"')
        elif not -1 <= self.throttle <= 1:
            raise UsageError(f"throttle: -1 to 1 expected, found {self.throttle:g}")
        if self.throttle_max is not None:
            if not 0 < self.throttle_max <= 1:
                raise UsageError(f"throttle_max: above 0 and at most 1 expected, found {self.throttle_max:g}")
            if not isinstance(self.throttle, str) and self.throttle > self.throttle_max:
                most = f"throttle_max, {self.throttle_max:g},"
                raise UsageError(f"throttle: at most {most} expected, found {self.throttle:g}")
        for name in ("bend_throttle", "degraded_throttle"):
            if not 0 <= (found := getattr(self, name)) <= 1:
                raise UsageError(f"{name}: 0 to 1 expected, found {found:g}")

    @property
    def straight(self) -> float:
        """Where the wheels stand straight: what the servo gets whenever nobody drives, from whichever process."""
        return min(max(self.trim, self.low), self.high)


class Actuator:
    """Applies an `Actuation` to one steering after the other; where nobody obeys the model, the car gets nothing.

    Attributes:
        obeyed: as in the steps.
    """

    def __init__(self, settings: Actuation, *, obeyed: bool = True) -> None:
        self._settings = settings
        self.obeyed = obeyed
        self._last: tuple[float, int] | None = None

    def steer(self, steering: float, now_ns: int) -> float:
        """What the servo gets for a steering in [-1, 1] decided at `now_ns` (monotonic)."""
        settings = self._settings
        wanted = min(max(steering * settings.gain + settings.trim, settings.low), settings.high)
        if self._last is not None:
            last, last_ns = self._last
            passed_s = max(0.0, (now_ns - last_ns) / 1e9)
            if settings.smoothing_s:
                wanted = last + (wanted - last) * -math.expm1(-passed_s / settings.smoothing_s)
            if settings.max_rate_per_s is not None:
                reach = settings.max_rate_per_s * passed_s
                wanted = min(max(wanted, last - reach), last + reach)
        self._last = (wanted, now_ns)
        return wanted

    def step(
        self,
        frame: Frame,
        prediction: Prediction,
        start_ns: int,
        now_ns: int,
        *,
        at_ns: int | None = None,
        state: State | None = None,
        reason: str = "",
        late: bool = False,
    ) -> Step:
        """What the car gets for a prediction: the turn of a loop, decided at `now_ns`.

        Args:
            start_ns: when the frame was at hand.
            at_ns: the time that smoothing goes by, `now_ns` unless it is that of a recording.
            state: None for the one in which all is well.
        """
        settings, steering, throttle = self._settings, 0.0, 0.0
        if self.obeyed:
            state = state or State.DRIVING
            steering = self.steer(prediction.values[STEERING], now_ns if at_ns is None else at_ns)
            throttle = self._throttle(prediction) * (1.0 if state is State.DRIVING else settings.degraded_throttle)
        return Step(
            frame=frame,
            prediction=prediction,
            steering=steering,
            throttle=throttle,
            state=state or State.RUNNING,
            reason=reason,
            decided_ns=now_ns,
            total_us=(now_ns - start_ns) / 1000,
            age_ms=(now_ns - frame.arrived_ns) / 1e6,
            late=late,
            obeyed=self.obeyed,
        )

    def _throttle(self, prediction: Prediction) -> float:
        """Of a car that goes where the model says; never backwards where the model has a say in it."""
        settings = self._settings
        if not isinstance(settings.throttle, str):
            return settings.throttle
        most = settings.throttle_max or 0.0
        if settings.throttle == "model":
            said: float = prediction.values[THROTTLE]
            return min(max(said, 0.0), most)
        turn: float = abs(prediction.values[STEERING])
        return most * (1.0 - (1.0 - settings.bend_throttle) * min(turn, 1.0))

    def neutral(self, now_ns: int) -> float:
        """Straight ahead, at once: safety is not smoothed. The filter goes on from there."""
        straight = self._settings.straight if self.obeyed else 0.0
        self._last = (straight, now_ns)
        return straight

"""One turn of the loop, what takes it, and the one neutral."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sepilot_runtime.drive.state import State

if TYPE_CHECKING:
    from sepilot_runtime.engine.pilot import Prediction
    from sepilot_runtime.source.protocol import Frame

__all__ = ["Sink", "Step", "neutral_step"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """One turn of the loop.

    Attributes:
        state, reason: of the drive after this turn; `reason` is "" while driving.
        frame, prediction: None where none came, or where the frame was not steered by.
        steering: what the car gets, after calibration, smoothing and limits; straight ahead unless the state steers.
        throttle: what the car gets; 0 unless the state steers.
        decided_ns: `time.monotonic_ns()` of the decision.
        total_us: from the frame in memory to the steering; 0 without a frame.
        age_ms: from the arrival of the frame to the steering; None without a frame.
        late: the frame missed its deadline.
        obeyed: False where the model does not steer: its answers are shown, no car gets anything, and steering and
            throttle stay 0.
    """

    frame: Frame | None
    prediction: Prediction | None
    steering: float
    throttle: float = 0.0
    state: State = State.DRIVING
    reason: str = ""
    decided_ns: int = 0
    total_us: float = 0.0
    age_ms: float | None = None
    late: bool = False
    obeyed: bool = True


def neutral_step(
    straight: float,
    reason: str,
    decided_ns: int,
    *,
    state: State = State.STOPPED,
    frame: Frame | None = None,
    prediction: Prediction | None = None,
    total_us: float = 0.0,
    age_ms: float | None = None,
    late: bool = False,
    obeyed: bool = True,
) -> Step:
    """What the car gets when nobody drives: straight ahead and throttle 0, at once.

    Every neutral is made here: the drive's, that of a servo driver which is opened or closed, and the watchdog's.

    Args:
        straight: `Actuation.straight`.
    """
    return Step(
        frame=frame, prediction=prediction, steering=straight, throttle=0.0, state=state, reason=reason,
        decided_ns=decided_ns, total_us=total_us, age_ms=age_ms, late=late, obeyed=obeyed,
    )  # fmt: skip


class Sink(Protocol):
    """Takes what the loop decided. What drives the car must see every step, neutral ones above all."""

    def write(self, step: Step) -> None:
        """Pass one step on, within a millisecond. Raises OutputError where it cannot."""

    def close(self) -> None:
        """Leave the car in neutral and give back what is held. The last step before it is `stopped`."""

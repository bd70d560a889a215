"""Every step to every output, and what it means for the drive when one does not take it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from sepilot_runtime.base.errors import OutputError
from sepilot_runtime.drive.step import Sink, Step
from sepilot_runtime.drive.supervisor import GOOD, Level, Verdict

__all__ = ["Delivery", "tell_all"]

MOST_PERIODS = 2
"""For so many frame periods the car may be left with a step that is not the newest."""


class Delivery:
    """Passes steps on for as long as the drive lasts, whatever an output says.

    Outputs that may fail for reasons of their own, as a disk that is full, run in the background and say nothing here.
    What is left steers: where it does not take a step the car goes by an older one, or stands.

    Attributes:
        verdict: good; odd after one step that was not taken; trouble after a second one, or where the first took
            `MOST_PERIODS` to fail.
        unwritten: how many steps were not taken, by what the output said.
    """

    def __init__(self, sinks: Sequence[Sink], period_ns: int, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.verdict = GOOD
        self.unwritten: Counter[str] = Counter()
        self._sinks, self._longest_ns, self._clock_ns = sinks, MOST_PERIODS * period_ns, clock_ns
        self._failing: list[Sink] = []

    @property
    def failing(self) -> bool:
        """Did an output not take the last step?"""
        return bool(self._failing)

    def pass_on(self, step: Step) -> None:
        """One step to every output."""
        self._write(self._sinks, step)

    def retry(self, step: Step) -> None:
        """The same word again, for the outputs that did not take it."""
        self._write(self._failing, step)

    def last(self, step: Step) -> None:
        """The last step; as `tell_all`, but an output that does not take it is counted and not raised."""
        try:
            tell_all(self._sinks, step)
        except OutputError as e:
            self.unwritten[str(e)] += 1

    def _write(self, sinks: Sequence[Sink], step: Step) -> None:
        failing: list[Sink] | None = None
        said = ""
        for sink in sinks:
            try:
                sink.write(step)
            except OutputError as e:
                failing = [*(failing or []), sink]
                said = said or str(e)
                self.unwritten[str(e)] += 1
        if failing is None:
            if self._failing:
                self._failing, self.verdict = [], GOOD
            return
        trouble = self._failing or self._clock_ns() - step.decided_ns >= self._longest_ns
        self._failing = failing
        self.verdict = Verdict(Level.TROUBLE if trouble else Level.ODD, said)


def tell_all(sinks: Sequence[Sink], step: Step) -> None:
    """Pass a step on to every sink, whatever happens in one of them, which is raised then.

    One sink's trouble must not keep neutral from the next, which may be the servo.
    """
    failure: Exception | None = None
    for sink in sinks:
        try:
            sink.write(step)
        except Exception as e:  # noqa: BLE001
            failure = failure or e
    if failure is not None:
        raise failure

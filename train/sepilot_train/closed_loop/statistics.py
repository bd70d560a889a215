"""How sure a figure from a few simulated worlds is."""

from __future__ import annotations

import math

__all__ = ["poisson_interval", "wilson_interval"]

Z_95 = 1.959963984540054


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % confidence interval of a share; honest for 24 of 24, where the textbook's interval has no width.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    p, z2 = successes / trials, Z_95**2
    middle = p + z2 / (2 * trials)
    reach = Z_95 * math.sqrt(p * (1 - p) / trials + z2 / (4 * trials**2))
    low, high = ((middle + side * reach) / (1 + z2 / trials) for side in (-1.0, 1.0))
    return max(low, 0.0), min(high, 1.0)


def poisson_interval(events: int) -> tuple[float, float]:
    """95 % confidence interval of an expected number of events, of which `events` were seen; honest for none.

    Source: Byar's approximation, in Breslow & Day, "Statistical Methods in Cancer Research" II (1987), p. 69; for no
    events its lower end is 0 and its upper one the exact 3.69.
    """
    if events == 0:
        return 0.0, -math.log(0.025)

    def end(count: int, side: float) -> float:
        return count * (1 - 1 / (9 * count) + side * Z_95 / (3 * math.sqrt(count))) ** 3

    return end(events, -1.0), end(events + 1, 1.0)

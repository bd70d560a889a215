"""Wrong tokens are answered ever more slowly, one after the other however many come at once."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Guesses"]

FIRST_S, LONGEST_S = 0.5, 30.0
"""Doubled with every wrong token of an address, up to the second."""

FIRST_OF_ALL_S, LONGEST_OF_ALL_S = 0.05, 2.0
"""The same for all addresses together: whoever has many of them gains little."""

FORGIVEN_S = 60.0
"""A time without wrong tokens that halves the count."""

MOST_AHEAD_S, MOST_AHEAD_OF_ALL_S = 600.0, 10.0
"""No answer waits longer, so that those who mistype are not locked out for good by those who guess."""

MOST_ADDRESSES = 512


@dataclass(slots=True)
class _Account:
    """Of one address, or of all: wrong tokens until now, when the last came, and when the next may be answered."""

    first_s: float
    longest_s: float
    most_ahead_s: float
    wrong: float = 0.0
    last_s: float = 0.0
    due_s: float = 0.0

    def charge(self, now_s: float) -> float:
        """Note a wrong token; when it may be answered."""
        self.wrong *= 0.5 ** ((now_s - self.last_s) // FORGIVEN_S)
        self.last_s = now_s
        delay_s = min(self.longest_s, self.first_s * 2.0 ** min(self.wrong, 64.0))
        self.wrong += 1
        self.due_s = min(max(self.due_s, now_s) + delay_s, now_s + self.most_ahead_s)
        return self.due_s


class Guesses:
    """When a wrong token may be answered. Right ones are never asked about here."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._all = _Account(FIRST_OF_ALL_S, LONGEST_OF_ALL_S, MOST_AHEAD_OF_ALL_S)
        self._by_address: OrderedDict[str, _Account] = OrderedDict()

    def wrong(self, address: str) -> float:
        """Seconds until a wrong token from `address` may be answered."""
        now_s, key = self._clock_s(), _network_of(address)
        account = self._by_address.setdefault(key, _Account(FIRST_S, LONGEST_S, MOST_AHEAD_S))
        self._by_address.move_to_end(key)
        if len(self._by_address) > MOST_ADDRESSES:
            self._by_address.popitem(last=False)
        return max(account.charge(now_s), self._all.charge(now_s)) - now_s


def _network_of(address: str) -> str:
    """Whoever has one IPv6 address has the other 2⁶⁴ of its network."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if found.version == 6 and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)

"""Outputs by name, each opened bare: what `open_output` and the watchdog share."""

from __future__ import annotations

import dataclasses
import re
import urllib.parse
from collections.abc import Callable, Mapping

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.drive.step import Sink

__all__ = ["Address", "open_bare", "opener_of"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An output's name, taken apart. `options` are all that stands behind the question mark."""

    spec: str
    scheme: str
    host: str
    port: int | None
    user: str | None
    path: str
    options: Mapping[str, str]

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """An option as a number from `low` to `high`; "0x40" is one too. Raises UsageError."""
        text = self.options.get(name)
        if text is None:
            return default
        try:
            value = float(int(text, 0)) if text.lower().startswith("0x") else float(text)
        except ValueError as e:
            raise UsageError(f"--to {self.spec}: {name}: a number expected, found {text!r}") from e
        if not low <= value <= high:
            raise UsageError(f"--to {self.spec}: {name}: {low:g} to {high:g} expected, found {text}")
        return value

    def require(self, *known: str) -> None:
        """Raise UsageError for an option that is not known."""
        for name in self.options:
            if name not in known:
                raise UsageError(f"--to {self.spec}: unknown option {name}; known: {', '.join(known) or 'none'}")


def open_bare(spec: str, straight: float, *, start: bool = True) -> Sink:
    """Open an output without anything around it. Raises what `open_output` raises, and OutputError for a file too.

    Args:
        start: set up what is at the other end; without, it is not touched before the first step.
    """
    return opener_of(spec, straight, start=start)[1]()


def opener_of(spec: str, straight: float, *, start: bool = True) -> tuple[str, Callable[[], Sink]]:
    """The scheme of an output, and what opens it. Raises UsageError."""
    address = _parsed(spec)
    if address.scheme == "pca9685":
        return address.scheme, _pca9685(address, straight, start=start)
    return address.scheme, _OPENERS[address.scheme](address)


def _parsed(spec: str) -> Address:
    scheme, colon, rest = spec.partition(":")
    scheme = scheme.lower()
    if not colon or scheme not in _SCHEMES:
        raise UsageError(f"--to {spec}: one of {', '.join(f'{s}:' for s in _SCHEMES)} expected")
    if scheme in _URLS:
        return _parsed_url(spec)
    path, *query = re.split(r"\?(?=\w+=)", rest, maxsplit=1)
    return Address(spec=spec, scheme=scheme, host="", port=None, user=None, path=path, options=_options(*query))


def _parsed_url(spec: str) -> Address:
    try:
        parts = urllib.parse.urlsplit(spec)
        port = parts.port
    except ValueError as e:
        raise UsageError(f"--to {spec}: {e}") from e
    if "#" in spec:
        raise UsageError(f"--to {spec}: an address without # expected")
    return Address(
        spec=spec, scheme=parts.scheme, host=parts.hostname or "", port=port, user=parts.username,
        path=urllib.parse.unquote(parts.path), options=_options(parts.query),
    )  # fmt: skip


def _options(query: str = "") -> dict[str, str]:
    return dict(urllib.parse.parse_qsl(query, keep_blank_values=True))


def _jsonl(address: Address) -> Callable[[], Sink]:
    from sepilot_runtime.output.rotation import RotatingLinesSink

    address.require("max_mb", "keep")
    if not address.path:
        raise UsageError(f"--to {address.spec}: jsonl:FILE expected")
    most_bytes = round(address.number("max_mb", 0, 0, 1e6) * 1e6)
    keep = round(address.number("keep", 3, 1, 1000))
    return lambda: RotatingLinesSink(address.path, most_bytes=most_bytes, keep=keep)


def _serial(address: Address) -> Callable[[], Sink]:
    from sepilot_runtime.output.serial import open_serial

    address.require("baud")
    baud = round(address.number("baud", 115200, 300, 4e6))
    return lambda: open_serial(address.path, baud=baud)


def _pca9685(address: Address, straight: float, *, start: bool) -> Callable[[], Sink]:
    from sepilot_runtime.output.pca9685 import ServoSettings, open_servo

    plain = dataclasses.asdict(ServoSettings())
    address.require(*plain)
    if address.path:
        raise UsageError(f"--to {address.spec}: pca9685:?NAME=VALUE&… expected")
    values = {name: round(address.number(name, default, 0, 1e6)) for name, default in plain.items()}
    settings = ServoSettings(**values)
    return lambda: open_servo(settings, straight, start=start)


def _udp(address: Address) -> Callable[[], Sink]:
    from sepilot_runtime.output.udp import UdpSink

    address.require()
    if not address.host or not address.port:
        raise UsageError(f"--to {address.spec}: udp://HOST:PORT expected")
    host, port = address.host, address.port
    return lambda: UdpSink(host, port)


def _mqtt(address: Address) -> Callable[[], Sink]:
    from sepilot_runtime.output.mqtt import open_mqtt

    address.require("ca", "client_id")
    topic = address.path.strip("/")
    if not address.host or not topic:
        raise UsageError(f"--to {address.spec}: {address.scheme}://[USER@]HOST[:PORT]/TOPIC expected")
    tls = address.scheme == "mqtts"
    return lambda: open_mqtt(
        address.host, address.port or (8883 if tls else 1883), topic, user=address.user, tls=tls,
        ca=address.options.get("ca"), client_id=address.options.get("client_id", "sepilot"),
    )  # fmt: skip


_OPENERS: dict[str, Callable[[Address], Callable[[], Sink]]] = {
    "jsonl": _jsonl, "serial": _serial, "udp": _udp, "mqtt": _mqtt, "mqtts": _mqtt,
}  # fmt: skip


_SCHEMES = ("jsonl", "serial", "pca9685", "udp", "mqtt", "mqtts")


_URLS = ("udp", "mqtt", "mqtts")
"""What goes over a network."""

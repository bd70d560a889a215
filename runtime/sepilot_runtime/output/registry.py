"""Outputs by name: what `sepilot drive --to` takes, and the `outputs` of a car's file.

jsonl:drive.jsonl?max_mb=10&keep=5           JSON lines, rotated
serial:/dev/ttyACM0?baud=115200              a microcontroller; see docs/serial.md
pca9685:?bus=1&address=0x40&steering=1&throttle=0&low_us=1000&high_us=2000&rate_hz=60
udp://192.168.1.7:5005                       a JSON datagram per step
mqtt://user@broker:1883/car/steering         mqtts:// for TLS; password in SEPILOT_MQTT_PASSWORD
NAME:…                                       an output of your own: an entry point `sepilot.outputs` of that name

The name of a file or device is taken as it stands, with every # and %; options begin at a question mark that a name and
an equals sign follow. What goes over a network, and whatever begins with NAME://, is a URL.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
import urllib.parse
from collections.abc import Callable, Mapping
from typing import cast

from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.base.plugins import OUTPUTS, load_plugin, plugin_names
from sepilot_runtime.drive.step import Sink

__all__ = ["MODULES", "Address", "open_bare", "open_output"]

MODULES = {
    "jsonl": "rotation", "serial": "serial", "pca9685": "pca9685", "udp": "udp", "mqtt": "mqtt", "mqtts": "mqtt",
}  # fmt: skip
"""Of this room, each with an `open_address(Address) -> Sink`; imported when it is named."""

URLS = ("udp", "mqtt", "mqtts")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An output's name, taken apart, and what whoever opens it needs to know of the car.

    Attributes:
        options: all that stands behind the question mark.
        straight: the steering of neutral, `Actuation.straight`.
        start: set up what is at the other end; without, it is not touched before the first step.
        bare: without anything around it, neither a thread nor a watchdog: so the watchdog opens it.
    """

    spec: str
    scheme: str
    host: str = ""
    port: int | None = None
    user: str | None = None
    path: str = ""
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    straight: float = 0.0
    start: bool = True
    bare: bool = False

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


def open_output(spec: str, straight: float) -> Sink:
    """Open an output as a drive needs it: what holds its last value under a watchdog, what may block in the background.

    What steers must open. What does not, as a file on a full disk or a broker that is not there, keeps nobody from
    driving: it is told on stderr and tried again in the background.

    Args:
        straight: the steering of neutral, `Actuation.straight`.

    Raises:
        UsageError: `spec` names no output, or an option is wrong.
        OutputError: what steers cannot be opened.
        MissingExtraError: the package that it needs is not installed.
    """
    opener, address = _found(spec)
    return opener(dataclasses.replace(address, straight=straight))


def open_bare(spec: str, straight: float, *, start: bool = True) -> Sink:
    """Open an output without anything around it. Raises what `open_output` raises, and OutputError for a file too.

    Args:
        start: as in `Address`.
    """
    opener, address = _found(spec)
    return opener(dataclasses.replace(address, straight=straight, start=start, bare=True))


def _found(spec: str) -> tuple[Callable[[Address], Sink], Address]:
    word, colon, rest = spec.partition(":")
    scheme = word.lower() if word.lower() in MODULES else word
    opener: Callable[[Address], Sink] | None = None
    if colon and scheme in MODULES:
        opener = importlib.import_module(f"sepilot_runtime.output.{MODULES[scheme]}").open_address
    elif colon:
        opener = cast("Callable[[Address], Sink] | None", load_plugin(OUTPUTS, scheme))
    if opener is None:
        known = dict.fromkeys([*MODULES, *plugin_names(OUTPUTS)])
        raise UsageError(f"--to {spec}: one of {', '.join(f'{s}:' for s in known)} expected")
    if scheme in URLS or (scheme not in MODULES and rest.startswith("//")):
        return opener, _parsed_url(spec)
    path, *query = re.split(r"\?(?=\w+=)", rest, maxsplit=1)
    return opener, Address(spec=spec, scheme=scheme, path=path, options=_options(*query))


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

"""Outputs by name: what `sepilot drive --to` takes, and the `outputs` of a car's file.

jsonl:drive.jsonl?max_mb=10&keep=5           JSON lines, rotated
serial:/dev/ttyACM0?baud=115200              a microcontroller; see docs/serial.md
pca9685:?bus=1&address=0x40&steering=1&throttle=0&low_us=1000&high_us=2000&rate_hz=60
udp://192.168.1.7:5005                       a JSON datagram per step
mqtt://user@broker:1883/car/steering         mqtts:// for TLS; password in SEPILOT_MQTT_PASSWORD

The name of a file or device is taken as it stands, with every # and %; options begin at a question mark that a name and
an equals sign follow. What goes over a network is a URL.
"""

from __future__ import annotations

from sepilot_runtime.base.errors import OutputError
from sepilot_runtime.drive.step import Sink
from sepilot_runtime.output.background import Background
from sepilot_runtime.output.registry import opener_of

__all__ = ["open_output"]


def open_output(spec: str, straight: float) -> Sink:
    """Open an output as a drive needs it: what holds its last value under a watchdog, what may block in the background.

    What steers must open. What does not, as a file on a full disk or a broker that is not there, keeps nobody from
    driving: it is told on stderr and tried again in the background.

    Args:
        straight: the steering of neutral, `Actuation.straight`.

    Raises:
        UsageError: `spec` names no output, or an option is wrong.
        OutputError: the servo driver or the serial port cannot be opened.
        MissingExtraError: the package that it needs is not installed.
    """
    scheme, opened = opener_of(spec, straight)
    if scheme == "jsonl":
        return Background(None, keep="all", depth=512, name=spec, reopen=opened)
    sink = opened()
    if scheme in ("mqtt", "mqtts"):
        return Background(sink, keep="newest", name=spec)
    if scheme == "pca9685":
        from sepilot_runtime.output.watchdog import Guarded

        # The chip repeats the last pulse for ever; so somebody watches who survives this process.
        try:
            return Guarded(sink, spec, straight)
        except OutputError:
            sink.close()
            raise
    return sink

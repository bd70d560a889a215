"""Steps to an MQTT broker, for a fleet's screen or a logger. Not for steering: a broker may be slow and far away."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from sepilot_runtime.base.errors import MissingExtraError, OutputError, UsageError
from sepilot_runtime.drive.state import State
from sepilot_runtime.drive.step import Sink, Step
from sepilot_runtime.output.background import Background
from sepilot_runtime.output.json_lines import line_of
from sepilot_runtime.output.registry import Address

__all__ = ["PASSWORD_VARIABLE", "MqttSink", "open_address", "open_mqtt"]

PASSWORD_VARIABLE = "SEPILOT_MQTT_PASSWORD"
"""Where the password comes from; a command line can be read by everyone on the machine."""

LOST = json.dumps({"state": State.STOPPED.value, "steering": 0.0, "throttle": 0.0, "reason": "connection lost"})
"""What the broker tells everyone by itself when this client goes silent (the "last will")."""

KEEPALIVE_S = 5


class MqttSink:
    """One JSON message per step, at most once (QoS 0): an old steering that comes late is worse than none."""

    def __init__(self, client: Any, topic: str, where: str) -> None:
        self._client, self._topic, self._where = client, topic, where
        self._unsent, self._why = 0, "no answer"

    def write(self, step: Step) -> None:
        # Before the broker has answered the client would keep what it is given, without end.
        if not self._client.is_connected():
            self._unsent += 1
            return
        self._client.publish(self._topic, json.dumps(line_of(step)), qos=0)

    def close(self) -> None:
        """
        Raises:
            OutputError: steps were not sent.
        """
        connected = self._client.is_connected()
        self._client.disconnect()
        if connected:
            # Without a connection there is nothing to be sent still, and its thread may be looking up a name for long.
            self._client.loop_stop()
        if self._unsent:
            raise OutputError(f"{self._where}: {self._unsent} steps were not sent: {self._why}")

    def tell(self, why: str) -> None:
        """What keeps the steps from the broker; told at once the first time, and when it is closed."""
        if self._why == "no answer":
            print(f"warning: {self._where}: {why}; trying again", file=sys.stderr)
        self._why = why


def open_address(address: Address) -> Sink:
    """`mqtt://[USER@]HOST[:PORT]/TOPIC`, `mqtts://` for TLS."""
    address.require("ca", "client_id")
    topic, tls = address.path.strip("/"), address.scheme == "mqtts"
    if not address.host or not topic:
        raise UsageError(f"--to {address.spec}: {address.scheme}://[USER@]HOST[:PORT]/TOPIC expected")
    sink = open_mqtt(
        address.host, address.port or (8883 if tls else 1883), topic, user=address.user, tls=tls,
        ca=address.options.get("ca"), client_id=address.options.get("client_id", "sepilot"),
    )  # fmt: skip
    return sink if address.bare else Background(sink, keep="newest", name=address.spec)


def open_mqtt(
    host: str, port: int, topic: str, *, user: str | None, tls: bool, ca: str | None, client_id: str
) -> MqttSink:
    """Connect to a broker in the background; a connection that breaks or is refused is tried again.

    Raises:
        MissingExtraError: paho-mqtt is not installed.
        UsageError: `ca` cannot be read.
    """
    where = f"{'mqtts' if tls else 'mqtt'}://{host}:{port}"
    client = _client(where, topic, user=user, tls=tls, ca=ca, client_id=client_id)
    sink = MqttSink(client, topic, where)

    def connected(client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            sink.tell(f"the broker refuses{f' user {user}' if user else ''}: {reason}")
        else:
            # The broker keeps the last will of a connection before this one for all who come later.
            client.publish(topic, b"", qos=1, retain=True)

    def unconnected(client: Any, userdata: Any) -> None:
        # It is called while the error is handled.
        sink.tell(f"cannot be connected: {sys.exception()}")

    client.on_connect, client.on_connect_fail = connected, unconnected
    client.connect_async(host, port, keepalive=KEEPALIVE_S)
    client.loop_start()
    return sink


def _client(where: str, topic: str, *, user: str | None, tls: bool, ca: str | None, client_id: str) -> Any:
    """Paho's, with its last will."""
    try:
        import paho.mqtt.client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion
    except ModuleNotFoundError as e:
        raise MissingExtraError("paho-mqtt", "mqtt") from e
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id)
    if user:
        client.username_pw_set(user, os.environ.get(PASSWORD_VARIABLE))
    client.will_set(topic, LOST, qos=1, retain=True)
    try:
        if tls:
            client.tls_set(ca_certs=ca)
    except (OSError, ValueError) as e:
        raise UsageError(f"{where}: ca: {ca}: {e}") from e
    return client

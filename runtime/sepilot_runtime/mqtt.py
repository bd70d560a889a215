"""Steps to an MQTT broker, for a fleet's screen or a logger. Not for steering: a broker may be slow and far away."""

from __future__ import annotations

import json
import os
import queue
from typing import Any

from sepilot_runtime.errors import MissingExtraError, OutputError
from sepilot_runtime.sinks import Step, line_of
from sepilot_runtime.states import State

__all__ = ["PASSWORD_VARIABLE", "MqttSink", "open_mqtt"]

PASSWORD_VARIABLE = "SEPILOT_MQTT_PASSWORD"
"""Where the password comes from; a command line can be read by everyone on the machine."""

LOST = json.dumps({"state": State.STOPPED.value, "steering": 0.0, "throttle": 0.0, "reason": "connection lost"})
"""What the broker tells everyone by itself when this client goes silent (the "last will")."""

ANSWER_TIMEOUT_S = 5.0


class MqttSink:
    """One JSON message per step, at most once (QoS 0): an old steering that comes late is worse than none."""

    def __init__(self, client: Any, topic: str) -> None:
        self._client, self._topic = client, topic

    def write(self, step: Step) -> None:
        self._client.publish(self._topic, json.dumps(line_of(step)), qos=0)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def open_mqtt(
    host: str, port: int, topic: str, *, user: str | None, tls: bool, ca: str | None, client_id: str
) -> MqttSink:
    """Connect to a broker; a connection that breaks later comes back by itself.

    Raises:
        MissingExtraError: paho-mqtt is not installed.
        OutputError: the broker does not answer, or refuses, or its certificate does not hold.
    """
    try:
        import paho.mqtt.client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion
    except ModuleNotFoundError as e:
        raise MissingExtraError("paho-mqtt", "mqtt") from e
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id)
    if user:
        client.username_pw_set(user, os.environ.get(PASSWORD_VARIABLE))
    client.will_set(topic, LOST, qos=1, retain=True)
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def connected(client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if not reason.is_failure:
            # The broker keeps the last will of a connection before this one for all who come later.
            client.publish(topic, b"", qos=1, retain=True)
        answers.put(reason)

    client.on_connect = connected
    where = f"{'mqtts' if tls else 'mqtt'}://{host}:{port}"
    try:
        if tls:
            client.tls_set(ca_certs=ca)
        client.connect(host, port, keepalive=5)
    except (OSError, ValueError) as e:
        raise OutputError(f"{where}: cannot be connected: {e}") from e
    client.loop_start()
    try:
        # Until now the broker has only been reached; it may still refuse the user or the password.
        problem = str(reason) if (reason := answers.get(timeout=ANSWER_TIMEOUT_S)).is_failure else ""
    except queue.Empty:
        problem = f"no answer within {ANSWER_TIMEOUT_S:g} s"
    if problem:
        client.on_connect = None
        client.disconnect()
        client.loop_stop()
        raise OutputError(f"{where}: the broker refuses{f' user {user}' if user else ''}: {problem}")
    return MqttSink(client, topic)

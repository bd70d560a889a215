"""Where the page listens, and what that asks for: whoever opens it to a network must set a token."""

from __future__ import annotations

import ipaddress
import os
import socket
import urllib.parse
from dataclasses import dataclass

from sepilot_runtime.base.errors import UsageError

__all__ = ["TOKEN_VARIABLE", "WebAddress", "bind", "web_address"]

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8887
TOKEN_VARIABLE = "SEPILOT_WEB_TOKEN"
SHORTEST_TOKEN = 12

WAITING = 4096
"""Connections that the system holds ready, where `net.core.somaxconn` lets it: a flood of 20,000 a second fills them in
0.2 s. Those of which there is no room come again after a second, and among them may be the owner's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebAddress:
    """Where to listen.

    Attributes:
        loopback: only programs on this machine reach it.
        token: what controls the car, and without `loopback` also what may look; None for a page that is only read.
    """

    family: socket.AddressFamily
    host: str
    port: int
    loopback: bool
    token: str | None


def web_address(text: str, token: str | None) -> WebAddress:
    """Take "HOST:PORT", "HOST", "PORT" or "[IPV6]:PORT" apart; without `token` that of the environment counts.

    Raises:
        UsageError: no such address, a token that is too short, or none where the network is let in.
    """
    host, port = _host_and_port(text)
    token = os.environ.get(TOKEN_VARIABLE) if token is None else token
    if token is not None and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable()):
        raise UsageError(f"--web-token: at least {SHORTEST_TOKEN} printable ASCII characters expected")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as e:
        raise UsageError(f"--web {text}: no such address: {host}") from e
    loopback = all(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_loopback for entry in found)
    if not loopback and token is None:
        raise UsageError(
            f"--web {text}: reachable from the network, so a token is needed: set {TOKEN_VARIABLE} or --web-token"
        )
    family, _, _, _, place = found[0]
    return WebAddress(family=family, host=str(place[0]), port=port, loopback=loopback, token=token)


def bind(address: WebAddress) -> socket.socket:
    """A listening socket. Port 0 takes any that is free.

    Raises:
        UsageError: the port is taken, or not ours to take.
    """
    listener = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(WAITING)
    except OSError as e:
        listener.close()
        shown = f"{address.host}:{address.port}"
        raise UsageError(f"--web {shown}: cannot listen there: {e.strerror or e}; give another HOST:PORT") from e
    return listener


def _host_and_port(text: str) -> tuple[str, int]:
    if text.isdecimal():
        text = f"{DEFAULT_HOST}:{text}"
    try:
        parts = urllib.parse.urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as e:
        raise UsageError(f"--web {text}: HOST:PORT expected: {e}") from e
    if not host or parts.path or parts.query or parts.username is not None:
        raise UsageError(
            f"--web {text}: HOST:PORT expected, as in {DEFAULT_HOST}:{DEFAULT_PORT} or 0.0.0.0:{DEFAULT_PORT}"
        )
    return host, DEFAULT_PORT if port is None else port

"""A small RTSP camera for tests: motion JPEG over RTP in the RTSP connection itself (RFC 2326, RFC 2435)."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 64, 48
PACKET_BYTES = 1200
CLOCK_HZ = 90_000


class RtspCamera:
    """Sends to whoever plays it a picture per period, the n-th after starting of the level `first_level` + n.

    `close` ends every connection, as a camera that loses its power does; `start` on the same port brings it back.
    """

    def __init__(self, *, period_s: float = 0.02) -> None:
        self._period_s = period_s
        self._port = 0
        self._first_level = 20
        self._connections: list[socket.socket] = []
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self._port}/h264"

    def start(self, *, first_level: int = 20) -> None:
        self._first_level = first_level
        self._stop = threading.Event()
        self._server = socket.create_server(("127.0.0.1", self._port))
        self._port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def close(self) -> None:
        self._stop.set()
        for connection in (self._server, *self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._connections.clear()

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection, self._stop), daemon=True).start()

    def _serve(self, connection: socket.socket, stop: threading.Event) -> None:
        # The client hangs up, or the camera is closed in the middle of a packet.
        with contextlib.suppress(OSError, ValueError):
            for method, number in self._asked(connection):
                self.requests.append(method)
                connection.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{self._answer(method)}".encode())
                if method == "PLAY":
                    threading.Thread(target=self._play, args=(connection, stop), daemon=True).start()

    def _asked(self, connection: socket.socket) -> Iterator[tuple[str, str]]:
        """Method and sequence number of each request; the client's own reports in between are left out."""
        with connection.makefile("rb") as lines:
            while first := lines.read(1):
                if first == b"$":
                    lines.read(struct.unpack(">BH", lines.read(3))[1])
                    continue
                method = (first + lines.readline()).decode().split()[0]
                head = {}
                while line := lines.readline().decode().strip():
                    name, _, value = line.partition(":")
                    head[name.strip().lower()] = value.strip()
                yield method, head["cseq"]

    def _answer(self, method: str) -> str:
        if method == "OPTIONS":
            return "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n"
        if method == "DESCRIBE":
            session = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
            media = "m=video 0 RTP/AVP 26\r\na=control:track\r\n"
            return f"Content-Type: application/sdp\r\nContent-Length: {len(session + media)}\r\n\r\n{session}{media}"
        if method == "SETUP":
            return "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n\r\n"
        return "Session: 1\r\n\r\n"

    def _play(self, connection: socket.socket, stop: threading.Event) -> None:
        sequence = 0
        with contextlib.suppress(OSError):
            for number in range(255 - self._first_level):
                picture = np.full((HEIGHT, WIDTH, 3), self._first_level + number, np.uint8)
                for packet in _packets(picture, round(number * self._period_s * CLOCK_HZ), sequence):
                    connection.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                    sequence += 1
                if stop.wait(self._period_s):
                    return


def _packets(picture: NDArray[np.uint8], timestamp: int, sequence: int) -> Iterator[bytes]:
    """RTP packets of one JPEG: without its header, which the receiver makes again from the tables that are sent."""
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    tables, scan = _tables_and_scan(jpeg)
    for start in range(0, len(scan), PACKET_BYTES):
        part = scan[start : start + PACKET_BYTES]
        last = start + PACKET_BYTES >= len(scan)
        head = struct.pack(">BBHII", 0x80, 26 | (0x80 if last else 0), sequence & 0xFFFF, timestamp, 1)
        # Type 1: chroma at half the width and height, as OpenCV writes it; 255: the tables come along.
        kind = struct.pack(">IBBBB", start, 1, 255, WIDTH // 8, HEIGHT // 8)
        yield head + kind + (struct.pack(">BBH", 0, 0, len(tables)) + tables if start == 0 else b"") + part
        sequence += 1


def _tables_and_scan(jpeg: bytes) -> tuple[bytes, bytes]:
    """The quantization tables (luma, chroma) and the compressed data of a baseline JPEG."""
    tables: dict[int, bytes] = {}
    at = 2
    while True:
        marker, size = struct.unpack(">HH", jpeg[at : at + 4])
        body = jpeg[at + 4 : at + 2 + size]
        at += 2 + size
        if marker == 0xFFDB:
            for start in range(0, len(body), 65):
                tables[body[start]] = body[start + 1 : start + 65]
        if marker == 0xFFDA:
            return tables[0] + tables[1], jpeg[at:-2]

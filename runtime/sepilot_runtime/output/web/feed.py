"""What the page knows of the steps: memory that the drive writes into and the page's process reads.

Neither waits for the other. Every record carries its number and a checksum, so that one that is written just now, or
was overwritten meanwhile, is no record; a page's process that was started again finds the last ones still there.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import struct
import tempfile
import zlib
from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.drive.actuation import STEERING
from sepilot_runtime.drive.state import State
from sepilot_runtime.drive.step import Step
from sepilot_runtime.engine.pilot import Prediction

__all__ = ["FRAME_BYTES", "LONGEST_SIDE", "RECORDS", "Change", "Feed", "Record", "WebSink", "small_enough"]

RECORDS = 4096
CHANGES = 64
REPEATED_NS = 1_000_000_000
"""A reason that changes within a state, as a count does, is noted at most so often."""

LONGEST_SIDE = 1280
"""Of a frame in the memory, in pixels; of larger ones every second or third row and column is taken."""

FRAME_BYTES = LONGEST_SIDE * LONGEST_SIDE * 3

STATES = list(State)
FIELDS = struct.Struct("<QqqQQBB7d168p")
CHECKSUM = struct.Struct("<I")
SLOT = FIELDS.size + CHECKSUM.size
FRAME_AT = -(-RECORDS * SLOT // mmap.PAGESIZE) * mmap.PAGESIZE
NOTHING = math.nan


class Record(NamedTuple):
    """What is kept of every step; never its frame.

    Attributes:
        number: counts the steps, from 1.
        late_ns: when the last frame missed its deadline.
        frames, late: how many steps had a frame, and how many of those missed their deadline, until now.
        missed: this one did.
        steering, throttle: what the car gets; None where no car is driven.
        model, model_deg: what the model said, before calibration; None where it was not asked. Of one that does not
            steer, the reading of its first output, within its span.
        recorded: steering of the recording that is played.
    """

    number: int
    decided_ns: int
    late_ns: int
    frames: int
    late: int
    state: State
    missed: bool
    steering: float | None
    throttle: float | None
    model: float | None
    model_deg: float | None
    recorded: float | None
    total_us: float
    age_ms: float | None
    reason: str


class Change(NamedTuple):
    """The drive came into a state, or stayed in it for another reason."""

    at_ns: int
    state: State
    reason: str


class WebSink:
    """Takes the steps of a drive for the page: about 20 µs each, no lock, no system call, nothing that can block.

    Attributes:
        memory: the file descriptor of what is shared.
        frame: where a frame is put for the page's process.
        seen: the last step that had a frame, and how many had one until then.
    """

    def __init__(self) -> None:
        self.memory = _anonymous_file(FRAME_AT + FRAME_BYTES)
        self._shared = mmap.mmap(self.memory, FRAME_AT + FRAME_BYTES)
        self.frame = np.frombuffer(self._shared, np.uint8, FRAME_BYTES, FRAME_AT)
        self.seen: tuple[int, Step] | None = None
        self._number, self._frames, self._late, self._late_ns = 0, 0, 0, 0
        self._reason, self._reason_bytes = "", b""

    def write(self, step: Step) -> None:
        frame, prediction = step.frame, step.prediction
        self._number += 1
        if frame is not None:
            self._frames += 1
        if step.late:
            self._late += 1
            self._late_ns = step.decided_ns
        if step.reason is not self._reason:
            self._reason, self._reason_bytes = step.reason, step.reason.encode(errors="replace")
        deg, recorded = NOTHING, NOTHING
        if not step.obeyed:
            model = NOTHING if prediction is None else reading_of(prediction)
        else:
            model = NOTHING if prediction is None else prediction.values[STEERING]
            deg = NOTHING if prediction is None else prediction.in_unit(STEERING)
            recorded = NOTHING if frame is None else frame.labels.get(STEERING, NOTHING)
        record = FIELDS.pack(
            self._number,
            step.decided_ns,
            self._late_ns,
            self._frames,
            self._late,
            STATES.index(step.state),
            step.late,
            step.steering if step.obeyed else NOTHING,
            step.throttle if step.obeyed else NOTHING,
            model,
            deg,
            recorded,
            step.total_us,
            NOTHING if step.age_ms is None else step.age_ms,
            self._reason_bytes,
        )
        at = self._number % RECORDS * SLOT
        self._shared[at : at + SLOT] = record + CHECKSUM.pack(zlib.crc32(record))
        if frame is not None:
            self.seen = self._frames, step

    def close(self) -> None:
        """The memory goes when the last who uses it goes."""
        with contextlib.suppress(OSError):
            os.close(self.memory)
        self.memory = -1


class Feed:
    """The other end of the memory, in the page's process: what was written, as far back as it reaches.

    Attributes:
        records, changes: the last ones, oldest first.
        change_count: of all changes that were noticed.
        newest: the last record; None before the first.
        state_ns: when the state was entered.
        frame: as in `WebSink`.
    """

    def __init__(self, memory: int) -> None:
        self._shared = mmap.mmap(memory, FRAME_AT + FRAME_BYTES, prot=mmap.PROT_READ)
        self.frame: NDArray[np.uint8] = np.frombuffer(self._shared, np.uint8, FRAME_BYTES, FRAME_AT)
        self.records: deque[Record] = deque(maxlen=RECORDS)
        self.changes: deque[Change] = deque(maxlen=CHANGES)
        self.change_count = 0
        self.newest: Record | None = None
        self.state_ns = 0

    @property
    def count(self) -> int:
        """How many steps there were."""
        return self.newest.number if self.newest else 0

    def catch_up(self) -> bool:
        """Take in what was written since the last call; True where that is something."""
        before = self.count
        while (record := self._read((self.count + 1) % RECORDS)) is not None and record.number == self.count + 1:
            self._take(record)
        if record is not None and record.number > self.count + 1:
            # The drive was a whole round ahead, or had begun before this process did.
            found = [record for slot in range(RECORDS) if (record := self._read(slot)) is not None]
            for record in sorted(found, key=lambda record: record.number):
                if record.number > self.count:
                    self._take(record)
        return self.count != before

    def _read(self, slot: int) -> Record | None:
        """None for a slot that is empty, or written just now."""
        data = self._shared[slot * SLOT : (slot + 1) * SLOT]
        fields = data[: FIELDS.size]
        if CHECKSUM.unpack_from(data, FIELDS.size)[0] != zlib.crc32(fields):
            return None
        values = FIELDS.unpack(fields)
        if values[0] % RECORDS != slot or not values[0]:
            return None
        number, decided_ns, late_ns, frames, late, state, missed, *maybe, reason = values
        steering, throttle, model, model_deg, recorded, total_us, age_ms = (
            None if math.isnan(value) else value for value in maybe
        )
        return Record(
            number, decided_ns, late_ns, frames, late, STATES[state], bool(missed), steering, throttle, model,
            model_deg, recorded, total_us or 0.0, age_ms, reason.decode(errors="ignore"),
        )  # fmt: skip

    def _take(self, record: Record) -> None:
        noted = self.changes[-1] if self.changes else None
        if noted is None or record.state is not noted.state:
            self.state_ns = record.decided_ns
            self._note(record)
        elif record.reason != noted.reason and record.decided_ns - noted.at_ns > REPEATED_NS:
            self._note(record)
        self.records.append(record)
        self.newest = record

    def _note(self, record: Record) -> None:
        self.changes.append(Change(record.decided_ns, record.state, record.reason))
        self.change_count += 1


def reading_of(prediction: Prediction) -> float:
    """How much the first output says of what it says, within its span, such as the probability of the class."""
    name, output = next(iter(prediction.outputs.items()))
    task = task_of(output)
    low, high = task.span
    return float(min(max(task.reading(prediction.said(name))[0], low), high))


def small_enough(image: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """A view of a frame with `LONGEST_SIDE` pixels at most each way; None for one of a shape that no camera sends."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        return None
    if not image.size:
        return None
    every = -(-max(image.shape[:2]) // LONGEST_SIDE)
    return image[::every, ::every]


def _anonymous_file(size: int) -> int:
    """A file without a name, in memory where the system can do that."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("sepilot-page")
    else:
        with tempfile.TemporaryFile() as opened:
            file = os.dup(opened.fileno())
    os.ftruncate(file, size)
    return file

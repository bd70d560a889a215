"""The pilot: frame in, answers out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import ContractError, FrameError, ModelFileError
from sepilot_runtime.contract.contract import Output
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.preprocess import Preprocessor, write_input
from sepilot_runtime.contract.window import window_of
from sepilot_runtime.engine.engines import Engine, open_engine
from sepilot_runtime.engine.golden import verify_golden
from sepilot_runtime.engine.names import EngineName

__all__ = ["Pilot", "Prediction", "answers_to", "fed", "load_pilot"]

Decode = Callable[[NDArray[np.float32]], Any]
"""What the car obeys, of one answer (*shape)."""


class Prediction(NamedTuple):
    """What the model says to one frame. A tuple, as it is made anew for each and takes a third of a dataclass's time.

    Attributes:
        values: of each output, by name, as the car obeys it; of a scalar, a number in its [low, high]. Places are in
            pixels of the frame.
        raw: of each output, the model's own number, or numbers.
        outputs: of the contract, by name.
        preprocess_us: from frame to picture; nothing where the model makes the picture by itself.
        infer_us: from picture (or frame) to the model's numbers: writing the input, running the model, dequantizing.
        post_us: from these to answers: decoding, and places in pixels of the frame.
    """

    values: Mapping[str, Any]
    raw: Mapping[str, Any]
    outputs: Mapping[str, Output]
    preprocess_us: float
    infer_us: float
    post_us: float = 0.0

    def said(self, name: str) -> NDArray[np.float32]:
        """(1, *shape): the model's own answer, as `OutputTask` takes answers."""
        return np.asarray(self.raw[name], np.float32).reshape(1, *self.outputs[name].shape)

    @property
    def total_us(self) -> float:
        """From frame to answers."""
        return self.preprocess_us + self.infer_us + self.post_us

    def in_unit(self, name: str) -> float:
        """A scalar in its output's unit, such as degrees."""
        value: float = self.values[name] * self.outputs[name].scale
        return value


class Pilot:
    """Answers by one engine. Its buffers are allocated once; not for use by two threads at a time.

    Attributes:
        seen: what the model was given last: the picture, or the frame where it makes the picture by itself.
        vectors: (size,) float32 of each vector input, given with every picture; zeros until somebody writes into them.
    """

    def __init__(self, engine: Engine) -> None:
        contract = engine.contract
        self.engine = engine
        self.contract = contract
        self._outputs = {output.name: output for output in contract.outputs}
        tasks = {output.name: task_of(output) for output in contract.outputs}
        decoders: dict[str, Decode] = {name: task.decode for name, task in tasks.items()}
        self._decoders = tuple(decoders.items())
        self._placers = tuple((name, task.in_frame) for name, task in tasks.items() if task.has_places)
        self._preprocessor = Preprocessor(contract.picture)
        self.seen: NDArray[np.uint8] = np.zeros(contract.picture.shape, np.uint8)
        self.vectors = {vector.name: np.zeros(vector.size, np.float32) for vector in contract.vectors}

    def decode_by(self, name: str, decode: Decode) -> None:
        """Give the values of an output by another function of its answer (*shape), as a gallery tells whose it is."""
        self._decoders = tuple((own, decode if own == name else usual) for own, usual in self._decoders)

    def picture_of(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What the model sees of a frame: (h, w, c) uint8, valid until the next call. Raises FrameError.

        A model that makes the picture by itself sees the same but for single gray levels.
        """
        return self._preprocessor.picture_of(frame)

    def infer_picture(self, pixels: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        """The model's raw answers to a picture (h, w, c) uint8 that was cropped and resized before.

        Returns:
            Of each output by name, valid until the next call.

        Raises:
            FrameError: not the shape that the model takes; it may take frames.
            ModelFileError: the model answered with NaN or infinity.
        """
        answers = self._ask(pixels)
        for name, answer in answers.items():
            self._finite(name, answer)
        return answers

    def infer(self, frame: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        """The model's raw answers to a frame (H, W, 3) uint8 BGR, valid until the next call.

        Raises what `predict` raises.
        """
        return self.infer_picture(self._input_of(frame))

    def predict(self, frame: NDArray[np.uint8]) -> Prediction:
        """Answers to a frame (H, W, 3) uint8 BGR, with the time that each stage took.

        Raises:
            FrameError: another shape or dtype.
            ContractError: the model takes frames of one size, and this is another.
            ModelFileError: the model answered with NaN or infinity.
        """
        start = time.perf_counter_ns()
        self.seen = pixels = self._input_of(frame)
        seen = time.perf_counter_ns()
        answers = self._ask(pixels)
        answered = time.perf_counter_ns()
        values: dict[str, Any] = {}
        raw: dict[str, Any] = {}
        for name, decode in self._decoders:
            answer = answers[name]
            if answer.size == 1:
                raw[name] = number = answer.item()
                if not isfinite(number):
                    raise self._no_number(name, answer)
            else:
                raw[name] = self._finite(name, answer).copy()
            values[name] = decode(answer)
        if self._placers:
            window = window_of(frame.shape[0], frame.shape[1], self.contract.picture)
            for name, in_frame in self._placers:
                values[name] = in_frame(values[name], window)
        done = time.perf_counter_ns()
        return Prediction(
            values, raw, self._outputs, (seen - start) / 1000, (answered - seen) / 1000, (done - answered) / 1000
        )

    def _ask(self, pixels: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        engine = self.engine
        write_input(pixels, engine.input_tensor())
        if self.vectors:
            for name, values in self.vectors.items():
                engine.input_tensor(name)[0] = values
        return engine.run()

    def _finite(self, name: str, answer: NDArray[np.float32]) -> NDArray[np.float32]:
        if not np.isfinite(answer).all():
            raise self._no_number(name, answer)
        return answer

    def _no_number(self, name: str, answer: NDArray[np.float32]) -> ModelFileError:
        found = answer[~np.isfinite(answer)].flat[0]
        return ModelFileError(f"{self.engine.path}: the model answered {found} for {name}, not a number to go by")

    def _input_of(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        expected = self.contract.frame
        if expected is None:
            return self._preprocessor.picture_of(frame)
        if frame.dtype != np.uint8:
            raise FrameError("wrong dtype", f"uint8 expected, found {frame.dtype}")
        if frame.shape != expected.shape and frame.ndim == 3 and frame.shape[2] == 3:
            height, width = frame.shape[:2]
            raise ContractError(
                f"{self.engine.path}: frames of {expected.height}x{expected.width} (height x width) expected, "
                f"found {height}x{width}; export for those: sepilot export RUN --with-preprocessing {height}x{width}"
            )
        return frame


def load_pilot(
    path: str | os.PathLike[str], *, threads: int = 1, verify: bool = True, engine: EngineName | None = None
) -> Pilot:
    """Open a model file and, with `verify`, run its golden frames.

    Args:
        engine: the interpreter; None for the usual one of this kind of file.

    Raises:
        ModelFileError: unreadable, damaged, not what its contract says, or it fails its golden frames.
        ContractError: no contract in it, or one that is foreign or was changed.
        MissingExtraError: the interpreter is not installed.
        UsageError: the interpreter does not run this kind of file.
    """
    pilot = Pilot(open_engine(Path(path), threads=threads, engine=engine))
    if verify:
        verify_golden(pilot.engine)
    return pilot


def fed(
    pilot: Pilot, items: Iterable[NDArray[np.uint8]], vectors: Mapping[str, NDArray[np.float32]]
) -> Iterator[NDArray[np.uint8]]:
    """The items, each with its row of `vectors` (n, size) put into the pilot as it comes."""
    for i, item in enumerate(items):
        for name, values in vectors.items():
            pilot.vectors[name][:] = values[i]
        yield item


def answers_to(
    infer: Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.float32]]],
    items: Iterable[NDArray[np.uint8]],
) -> dict[str, NDArray[np.float32]]:
    """Raw answers to many pictures or frames, at least one.

    Args:
        infer: `Pilot.infer_picture` or `Pilot.infer`.

    Returns:
        Of each output by name (n, *shape), or (n,) where it is one number. Raises what `infer` raises.
    """
    found: dict[str, list[NDArray[np.float32]]] = {}
    for item in items:
        for name, answer in infer(item).items():
            found.setdefault(name, []).append(answer.copy())
    stacked = {name: np.stack(answers) for name, answers in found.items()}
    return {name: a[:, 0] if a.shape[1:] == (1,) else a for name, a in stacked.items()}

"""OpenCV's own interpreter as an engine: what a car could do that has OpenCV anyway. A reference for `sepilot bench`.

It is none of the engines to drive with: it runs only float files, and is slower than those made for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import ModelFileError
from sepilot_runtime.base.opencv import cv2, silenced
from sepilot_runtime.engine.model_file import ModelFile, ModelKind
from sepilot_runtime.engine.validation import first_line

__all__ = ["OpenCvDnnEngine"]


class OpenCvDnnEngine:
    """An ONNX file of pictures in float32 on `cv2.dnn`, with OpenCV's own number of threads."""

    name = "opencv-dnn"

    def __init__(self, file: ModelFile) -> None:
        """
        Raises:
            ModelFileError: OpenCV cannot load the file.
        """
        self.path: Path = file.path
        self.contract, self.threads = file.contract, cv2.getNumThreads()
        self.input_dtype: np.dtype[Any] = np.dtype(np.float32)
        if file.kind is not ModelKind.ONNX or file.contract.frame:
            raise ModelFileError(f"{file.path}: OpenCV runs .onnx files that take pictures")
        self._input = np.zeros(file.contract.input_shape, np.float32)
        self._outputs = [output.name for output in file.contract.outputs]
        self._values: tuple[Any, ...] = ()
        try:
            with silenced():
                self._net = cv2.dnn.readNetFromONNX(np.frombuffer(file.content, np.uint8))
            self.invoke()
        except cv2.error as e:
            raise ModelFileError(f"{file.path}: OpenCV cannot load it: {first_line(e)}") from e

    def input_tensor(self) -> NDArray[Any]:
        return self._input

    def invoke(self) -> None:
        self._net.setInput(self._input, self.contract.input_name)
        self._values = tuple(self._net.forward(self._outputs))

    def output(self, name: str) -> float:
        return float(np.asarray(self._values[self._outputs.index(name)]).item())

"""OpenCV's own interpreter as an engine: what a car could do that has OpenCV anyway. A reference for `sepilot bench`.

It is none of the engines to drive with: it runs only float files, and is slower than those made for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_runtime.base.errors import ModelFileError
from sepilot_runtime.base.opencv import cv2, silenced
from sepilot_runtime.engine.buffers import answer_buffers, input_buffers
from sepilot_runtime.engine.model_file import ModelFile
from sepilot_runtime.engine.names import ModelKind
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
        self._inputs = input_buffers(file.contract, self.input_dtype)
        self._answers, self._views = answer_buffers(file.contract)
        try:
            with silenced():
                self._net = cv2.dnn.readNetFromONNX(np.frombuffer(file.content, np.uint8))
            self.run()
        except (cv2.error, ValueError) as e:
            raise ModelFileError(f"{file.path}: OpenCV cannot load it: {first_line(e)}") from e

    def input_tensor(self, name: str | None = None) -> NDArray[Any]:
        return self._inputs[name]

    def run(self) -> Mapping[str, NDArray[np.float32]]:
        for name, value in self._inputs.items():
            if name is not None:
                self._net.setInput(value, name)
        for view, found in zip(self._views.values(), self._net.forward(list(self._views)), strict=True):
            np.copyto(view, np.asarray(found).reshape(view.shape))
        return self._answers

"""Another interpreter's answers to a model file: what it is held against where the model it was made of is not at hand.

Never the interpreter that will run it: a kernel that is wrong would agree with itself. Each of these is another
implementation, and is asked about the file as it was, before anything was put in front of it.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.embed import tflite_model
from sepilot_export.convert.onnx_file import OPSET
from sepilot_export.convert.tflite import tensor_names
from sepilot_runtime.base.errors import ModelFileError, UsageError
from sepilot_runtime.device.conditions import versions
from sepilot_runtime.engine.bare import BareModel, Feed, of_litert, open_bare, random_inputs
from sepilot_runtime.engine.validation import first_line
from sepilot_train.base.quiet import quiet

__all__ = ["OPINIONS", "second_opinion"]


Run = Callable[[Feed], dict[str, NDArray[Any]]]


def second_opinion(file: BareModel, content: bytes, wanted: str = "", *, single: bool = False) -> BareModel:
    """The first interpreter of `OPINIONS` that runs a file, with the inputs and outputs that `file` has.

    Args:
        file: as the interpreter that will run it opened it.
        wanted: the name of one; "" for any.
        single: where there is none, `file` itself, whose answers then prove nothing but that they stay the same.

    Raises:
        UsageError: none runs it, and `single` was not said; each with its reason.
    """
    order = _ORDER[file.path.suffix.lower()[1:], any(t.affine for t in (*file.inputs, *file.outputs))]
    if wanted and wanted not in order:
        raise UsageError(f"--reference: one of {', '.join(order)} expected, found {wanted!r}")
    reasons = []
    for name in [wanted] if wanted else order:
        package, title, opened = OPINIONS[name]
        try:
            with quiet(f"opening {file.path.name} by {name}"):
                named = " ".join([title, *versions((package,)).values()])
                other = dataclasses.replace(file, name=named, run=opened(file, content))
                _require_same(file, other)
            return other
        except Exception as e:  # noqa: BLE001  # Whatever an interpreter has against a file is a reason to ask the next.
            reasons.append(f"{name}: {first_line(e)}")
    if single:
        return file
    raise UsageError(
        f"{file.path}: another interpreter than {file.name} expected, whose answers it is held against; none runs it: "
        f"{'; '.join(reasons)}; with --accept-single-engine its own answers are taken"
    )


def _require_same(file: BareModel, other: BareModel) -> None:
    """The same outputs by name and type; how far their numbers are apart is for the gates to say."""
    found = other.run(random_inputs(file, 0))
    for tensor in file.outputs:
        if tensor.name not in found or found[tensor.name].size != int(np.prod(tensor.shape)):
            raise ModelFileError(f"output {tensor} expected, found {', '.join(found)}")


def _openvino(file: BareModel, content: bytes) -> Run:
    return open_bare(file.path, engine="openvino", content=content).run


def _tensorflow(file: BareModel, content: bytes) -> Run:
    """TensorFlow's own build of TFLite with its reference kernels: plain loops, none of those of LiteRT on the car."""
    import tensorflow as tf

    resolver = tf.lite.experimental.OpResolverType.BUILTIN_REF
    interpreter = tf.lite.Interpreter(model_content=content, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    return of_litert(interpreter)[2]


def _onnxruntime(file: BareModel, content: bytes) -> Run:
    """A TFLite file by way of tf2onnx."""
    import tf2onnx

    with tempfile.TemporaryDirectory(prefix="sepilot-adopt-") as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(content)
        model, _ = tf2onnx.convert.from_tflite(str(path), opset=OPSET)
    # Whose names are those of the tensors, not of the signature.
    behind = tensor_names(content) if tflite_model(content).signatureDefs else {}
    other = open_bare(Path("model.onnx"), engine="onnxruntime", content=model.SerializeToString())

    def run(feed: Feed) -> dict[str, NDArray[Any]]:
        found = other.run({behind.get(name, name): values for name, values in feed.items()})
        return {tensor.name: found[behind.get(tensor.name, tensor.name)] for tensor in file.outputs}

    return run


def _opencv(file: BareModel, content: bytes) -> Run:
    from sepilot_runtime.base.opencv import cv2, silenced

    with silenced():
        net = cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8))
    names = [tensor.name for tensor in file.outputs]

    def run(feed: Feed) -> dict[str, NDArray[Any]]:
        for name, values in feed.items():
            net.setInput(values, name)
        return dict(zip(names, net.forward(names), strict=True))

    return run


def _onnx(file: BareModel, content: bytes) -> Run:
    """The definition of ONNX in numpy: slow, and the last word."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    session = ReferenceEvaluator(onnx.load_model_from_string(content))
    names = [tensor.name for tensor in file.outputs]
    return lambda feed: dict(zip(names, session.run(None, dict(feed)), strict=True))


OPINIONS: Mapping[str, tuple[str, str, Callable[[BareModel, bytes], Run]]] = {
    "openvino": ("openvino", "openvino", _openvino),
    "tensorflow": ("tensorflow", "TensorFlow's reference kernels", _tensorflow),
    "onnxruntime": ("onnxruntime", "ONNX Runtime, by tf2onnx", _onnxruntime),
    "opencv": ("opencv-python", "OpenCV", _opencv),
    "onnx": ("onnx", "ONNX's reference evaluator", _onnx),
}
"""Package, name in words and opener."""

# Of integers, TensorFlow's reference kernels say every last step; OpenVINO computes them in float32.
_ORDER = {
    ("tflite", False): ("openvino", "tensorflow", "onnxruntime"),
    ("tflite", True): ("tensorflow", "openvino", "onnxruntime"),
    ("onnx", False): ("openvino", "opencv", "onnx"),
    ("onnx", True): ("openvino", "opencv", "onnx"),
}

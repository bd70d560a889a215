"""Another interpreter's answers to a model file: what it is held against where the model it was made of is not at hand.

Never the interpreter that will run it: a kernel that is wrong would agree with itself. Each of these is another
implementation, and is asked about the file as it was, before anything was put in front of it.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepilot_export.convert.embed import tflite_model
from sepilot_export.convert.onnx_file import OPSET
from sepilot_export.convert.tflite import tensor_names
from sepilot_runtime.base.errors import ModelFileError, UsageError
from sepilot_runtime.engine.bare import BareModel, Feed, open_bare, random_inputs
from sepilot_runtime.engine.validation import first_line
from sepilot_train.base.quiet import quiet

__all__ = ["OPINIONS", "second_opinion"]


def second_opinion(file: BareModel, content: bytes, wanted: str = "", *, single: bool = False) -> BareModel:
    """The first interpreter of `OPINIONS` that runs a file, with the inputs and outputs that `file` has.

    Args:
        file: as the interpreter that will run it opened it.
        wanted: the name of one; "" for any.
        single: where there is none, `file` itself, whose answers then prove nothing but that they stay the same.

    Raises:
        UsageError: none runs it, and `single` was not said; each with its reason.
    """
    suffix = file.path.suffix.lower()[1:]
    quantized = any(t.affine for t in (*file.inputs, *file.outputs))
    known = {key: make for key, make in OPINIONS.items() if key in _ORDER[suffix, quantized]}
    if wanted and wanted not in known:
        raise UsageError(f"--reference: one of {', '.join(_ORDER[suffix, quantized])} expected, found {wanted!r}")
    reasons = []
    for name in [wanted] if wanted else _ORDER[suffix, quantized]:
        try:
            with quiet(f"opening {file.path.name} by {name}"):
                made = known[name](file, content)
                _require_same(file, made)
            return made
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


def _openvino(file: BareModel, content: bytes) -> BareModel:
    return _named(open_bare(file.path, engine="openvino", content=content), "openvino", "openvino")


def _tensorflow(file: BareModel, content: bytes) -> BareModel:
    """TensorFlow's own build of TFLite with its reference kernels: plain loops, none of those of LiteRT on the car."""
    import tensorflow as tf

    resolver = tf.lite.experimental.OpResolverType.BUILTIN_REF
    interpreter = tf.lite.Interpreter(model_content=content, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    from sepilot_runtime.engine.litert import signature_tensors

    inputs, outputs = signature_tensors(interpreter)

    def run(feed: Feed) -> dict[str, NDArray[Any]]:
        for name, values in feed.items():
            interpreter.set_tensor(inputs[name]["index"], values)
        interpreter.invoke()
        return {name: interpreter.get_tensor(tensor["index"]) for name, tensor in outputs.items()}

    return _named(dataclasses.replace(file, run=run), "tensorflow", "TensorFlow's reference kernels")


def _onnxruntime(file: BareModel, content: bytes) -> BareModel:
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

    return _named(dataclasses.replace(file, run=run), "onnxruntime", "ONNX Runtime, by tf2onnx")


def _opencv(file: BareModel, content: bytes) -> BareModel:
    from sepilot_runtime.base.opencv import cv2, silenced

    with silenced():
        net = cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8))
    names = [tensor.name for tensor in file.outputs]

    def run(feed: Feed) -> dict[str, NDArray[Any]]:
        for name, values in feed.items():
            net.setInput(values, name)
        return dict(zip(names, net.forward(names), strict=True))

    return _named(dataclasses.replace(file, run=run), "opencv-python", "OpenCV")


def _onnx(file: BareModel, content: bytes) -> BareModel:
    """The definition of ONNX in numpy: slow, and the last word."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    session = ReferenceEvaluator(onnx.load_model_from_string(content))
    names = [tensor.name for tensor in file.outputs]

    def run(feed: Feed) -> dict[str, NDArray[Any]]:
        return dict(zip(names, session.run(None, dict(feed)), strict=True))

    return _named(dataclasses.replace(file, run=run), "onnx", "ONNX's reference evaluator")


def _named(model: BareModel, package: str, name: str) -> BareModel:
    try:
        return dataclasses.replace(model, name=f"{name} {metadata.version(package)}")
    except metadata.PackageNotFoundError:
        return dataclasses.replace(model, name=name)


OPINIONS: Mapping[str, Callable[[BareModel, bytes], BareModel]] = {
    "openvino": _openvino, "tensorflow": _tensorflow, "onnxruntime": _onnxruntime, "opencv": _opencv, "onnx": _onnx,
}  # fmt: skip

# Of integers, TensorFlow's reference kernels say every last step; OpenVINO computes them in float32.
_ORDER = {
    ("tflite", False): ("openvino", "tensorflow", "onnxruntime"),
    ("tflite", True): ("tensorflow", "openvino", "onnxruntime"),
    ("onnx", False): ("openvino", "opencv", "onnx"),
    ("onnx", True): ("openvino", "opencv", "onnx"),
}

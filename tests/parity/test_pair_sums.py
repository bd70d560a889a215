"""The kernels of every int8 file fit into 16 bits two at a time, and say what they said before."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from emulation import under
from parity.bar_nets import Bench
from sepilot_export.convert import onnx_file, tflite
from sepilot_export.convert.deploy import deploy_graph
from sepilot_export.convert.formats import choose_formats
from sepilot_export.convert.ranges import Activations, fit_ranges
from sepilot_export.pipeline.export import export_source
from sepilot_export.quantize.pair_sums import (
    LARGEST_PAIR,
    all_fit,
    fit_onnx,
    fit_tflite,
    largest_pairs,
    onnx_kernels,
    tflite_kernels,
)
from sepilot_train.base.quiet import quiet

Kernels = Callable[[bytes], Iterator[tuple[str, NDArray[np.int8]]]]


@dataclasses.dataclass(frozen=True)
class Made:
    """One net as a float32 file and its int8 file as the quantizer leaves it."""

    float32: bytes
    int8: bytes
    fit: Callable[[bytes, bytes], bytes]
    kernels: Kernels
    activations: Callable[[bytes], Activations]
    output: str
    pictures: NDArray[np.uint8]


@pytest.fixture(scope="module", params=["tflite", "onnx"])
def made(request: pytest.FixtureRequest, v27: Bench, tmp_path_factory: pytest.TempPathFactory) -> Made:
    contract, pictures = v27.source.contract, v27.source.training.pictures[:60]
    with quiet("conversion"):
        import keras

        graph = deploy_graph(keras.models.load_model(v27.source.model_path), contract)
        if request.param == "onnx":
            float32 = onnx_file.prepare(onnx_file.convert_float32(graph, contract))
            activations = onnx_file.activations_of(float32, contract)
            int8 = onnx_file.quantize(float32, contract, pictures[:4], fit_ranges(activations, pictures).ranges)
            return Made(
                float32,
                int8,
                fit_onnx,
                onnx_kernels,
                lambda c: onnx_file.activations_of(c, contract),
                "steering",
                pictures,
            )
        folder = tmp_path_factory.mktemp("saved")
        tflite.save_graph(graph, contract, folder)
        float32 = tflite.convert(folder, "float32")
        int8 = tflite.quantize(float32, contract, fit_ranges(tflite.activations_of(float32), pictures).ranges)
    output = tflite.tensor_names(int8)["steering"]
    return Made(float32, int8, fit_tflite, tflite_kernels, tflite.activations_of, output, pictures)


def test_a_quantizer_alone_makes_kernels_that_overflow(made: Made) -> None:
    assert not all_fit(made.kernels(made.int8))
    assert max(int(largest_pairs(kernel).max()) for _, kernel in made.kernels(made.int8)) > 1.5 * LARGEST_PAIR


def test_fitted_kernels_fit_and_the_net_stays(made: Made) -> None:
    fit = made.fit(made.int8, made.float32)
    assert all_fit(made.kernels(fit))
    assert [name for name, _ in made.kernels(fit)] == [name for name, _ in made.kernels(made.int8)]
    assert len(list(made.kernels(fit))) >= 5
    exact, before, after = (made.activations(content) for content in (made.float32, made.int8, fit))
    answers = np.array([[float(run(p)[made.output].item()) for run in (exact, before, after)]
                        for p in made.pictures if made.output in exact(p)])  # fmt: skip
    errors = np.abs(answers[:, 1:] - answers[:, :1]).mean(axis=0)
    # A wrong scale, bias or order of a kernel would be off by tenths.
    assert errors[1] < errors[0] + 0.01 and np.ptp(answers[:, 0]) > 0.5


def test_what_fits_is_not_changed(made: Made) -> None:
    once = made.fit(made.int8, made.float32)
    again = list(made.kernels(made.fit(once, made.float32)))
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(made.kernels(once), again, strict=True))


def test_every_exported_int8_file_fits(v27: Bench, tmp_path: Path) -> None:
    written = export_source(v27.source, choose_formats(["int8", "int8-float-head"]), tmp_path / "export")
    assert {f.format for f in written.files} == {"int8.tflite", "int8-float-head.tflite", "int8.onnx", "int8-twin.onnx"}
    for file in written.files:
        content = (tmp_path / "export" / file.file).read_bytes()
        kernels = list((tflite_kernels if file.engine == "litert" else onnx_kernels)(content))
        assert len(kernels) >= 5 and all_fit(kernels), file.file


ANSWERS = """
import sys
import numpy as np
engine, folder, *files = sys.argv[1:]
inputs = np.load(f"{folder}/inputs.npz")
for name in files:
    path, x = f"{folder}/{name}.onnx", inputs[name]
    if engine == "openvino":
        import openvino
        model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        found = model({0: x})[0]
    else:
        import onnxruntime
        found = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    print(name, *found.ravel().tolist())
"""

KERNELS = {f"{inputs}-{size}": (inputs, size) for inputs, size in ((1, 3), (3, 5), (5, 3), (7, 1), (24, 1))}
"""Input channels and side of convolutions with eight outputs: engines lay each kind out in another way."""


@pytest.fixture(scope="module")
def convolutions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Convolutions with int8 weights near their ends, as the quantizer rounds them and fitted, and bright pictures."""
    folder = tmp_path_factory.mktemp("convolutions")
    rng = np.random.default_rng(0)
    pictures = {}
    for name, (inputs, size) in KERNELS.items():
        kernel = rng.choice([-1, 1], (8, inputs, size, size), p=[0.3, 0.7]) * rng.uniform(
            0.5, 1, (8, inputs, size, size)
        )
        kernel = kernel.astype(np.float32)
        plain = write_convolution(kernel)
        float32 = write_convolution(kernel, int8=False)
        (folder / f"plain-{name}.onnx").write_bytes(plain)
        (folder / f"fitted-{name}.onnx").write_bytes(fit_onnx(plain, float32))
        image = rng.integers(128, 256, (1, inputs, 12, 16)).astype(np.float32) / 255
        pictures |= {f"plain-{name}": image, f"fitted-{name}": image}
    np.savez(folder / "inputs.npz", **pictures)  # type: ignore[arg-type]
    return folder


def write_convolution(kernel: NDArray[np.float32], *, int8: bool = True) -> bytes:
    """One convolution as ONNX, float32 or by quantize / dequantize pairs with a scale for each output."""
    from onnx import TensorProto, helper, numpy_helper

    outputs, inputs, size, _ = kernel.shape
    bound = np.abs(kernel).sum(axis=(1, 2, 3)).max()
    scale = np.abs(kernel).max(axis=(1, 2, 3)) / np.float32(127)
    constants: dict[str, NDArray[np.generic]] = {
        "x_scale": np.array(1 / 255, np.float32),
        "x_zero": np.array(-128, np.int8),
        "kernel_quantized": np.rint(kernel / scale[:, None, None, None]).astype(np.int8),
        "kernel_scale": scale,
        "kernel_zero": np.zeros(outputs, np.int8),
        "y_scale": np.array(bound / 127, np.float32),
        "y_zero": np.array(0, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "x_scale", "x_zero"], ["xd"]),
        helper.make_node("DequantizeLinear", ["kernel_quantized", "kernel_scale", "kernel_zero"], ["wd"], axis=0),
        helper.make_node("Conv", ["xd", "wd"], ["y"], pads=[size // 2] * 4),
        helper.make_node("QuantizeLinear", ["y", "y_scale", "y_zero"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "y_scale", "y_zero"], ["out"]),
    ]
    if not int8:
        constants, nodes = (
            {"kernel": kernel},
            [helper.make_node("Conv", ["x", "kernel"], ["out"], pads=[size // 2] * 4)],
        )
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, inputs, 12, 16])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, outputs, 12, 16])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString(deterministic=True))


def computed_in_float32(folder: Path, name: str) -> NDArray[np.float64]:
    """What a file says without int8 kernels: ONNX Runtime without optimizations takes its pairs as they stand."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(folder / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
    image = np.load(folder / "inputs.npz")[name]
    return np.asarray(session.run(None, {"x": image})[0].ravel(), np.float64)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("processor", ["Nehalem", "Haswell"])
def test_engines_compute_fitted_kernels_exactly_on_processors_that_add_in_16_bits(
    convolutions: Path, processor: str, engine: str
) -> None:
    pytest.importorskip(engine)
    names = [f"{kind}-{kernel}" for kind in ("plain", "fitted") for kernel in KERNELS]
    lines = under(processor).python(ANSWERS, engine, str(convolutions), *names).splitlines()
    found = {name: np.array(row, float) for name, *row in map(str.split, lines)}
    assert list(found) == names
    steps = {}
    for name in names:
        right = computed_in_float32(convolutions, name)
        step = np.diff(np.unique(right)).min()
        steps[name] = round(float(np.abs(found[name] - right).max() / step))
    # One step is a sum that lies between two, and is rounded up here and down there.
    assert max(steps[f"fitted-{kernel}"] for kernel in KERNELS) <= 1, steps
    cut_off = sum(steps[f"plain-{kernel}"] > 3 for kernel in KERNELS)
    # ONNX Runtime has no such instruction before AVX2.
    assert cut_off == 0 if (processor, engine) == ("Nehalem", "onnxruntime") else cut_off >= 3, steps

"""The kernels of every int8 file fit into 16 bits two at a time, and say what they said before."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from parity.bar_nets import Bench
from sepilot_export import onnx_file, tflite
from sepilot_export.deploy import deploy_graph
from sepilot_export.exporter import export_source
from sepilot_export.formats import choose_formats
from sepilot_export.pair_sums import (
    LARGEST_PAIR,
    all_fit,
    fit_onnx,
    fit_tflite,
    largest_pairs,
    onnx_kernels,
    tflite_kernels,
)
from sepilot_export.ranges import Activations, fit_ranges
from sepilot_train.quiet import quiet

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

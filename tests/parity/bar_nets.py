"""A small net that has learned something, exported once, and what is needed to plant faults in its files.

The pictures show a bright bar on a noisy ground; steering follows the bar. The net is `v27`, whose batch normalization
cannot be folded: the kind that the converters get wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_factory import steering_output
from sepilot_export.convert.embed import embed_onnx, embed_tflite
from sepilot_export.convert.formats import FORMATS, choose_formats, format_named
from sepilot_export.convert.inputs import ExportInputs
from sepilot_export.pipeline.export import export_source
from sepilot_export.quantize.int8 import Int8Options
from sepilot_export.verify.check import candidates_of, check_file
from sepilot_export.verify.file_check import Candidate, FileCheck
from sepilot_export.verify.reference import Reference, read_reference
from sepilot_runtime.contract.contract import Contract, Picture, Provenance, golden_from
from sepilot_runtime.contract.preprocess import picture_of
from sepilot_train.base.frame_set import FrameSet
from sepilot_train.base.quiet import quiet

MADE = tuple(form for form in FORMATS if form.name != "sparse.tflite")
"""What `all` makes of a net whose weights are not zero."""

GRAY = Picture(height=24, width=40, color="gray", crop_top=0.25)
SMALL_V27: dict[str, Any] = {"filters": (8, 16, 32), "dense": (32, 16), "dropout": 0.1}


def bar_frames(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """BGR frames (n, 48, 64, 3) with an orange bar, and its place as the label, with a driver's noise."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(-0.9, 0.9, count)
    frames = rng.normal(rng.uniform(40, 110, (count, 1, 1, 1)), 12, (count, 48, 64, 3))
    centres = (places + 1) / 2 * 63
    bar = np.exp(-((np.arange(64)[None] - centres[:, None]) ** 2) / 8.0)
    frames += bar[:, None, :, None] * np.array([20.0, 90.0, 140.0])
    labels = np.clip(places + rng.normal(0, 0.1, count), -1, 1)
    return np.clip(frames, 0, 255).astype(np.uint8), labels.astype(np.float32)


def frame_set(frames: NDArray[np.uint8], labels: NDArray[np.float32], picture: Picture, drive: str) -> FrameSet:
    return FrameSet(
        pictures=np.stack([picture_of(f, picture) for f in frames]),
        drives=(drive,) * len(frames),
        names=tuple(f"{drive}-{i:04d}.jpg" for i in range(len(frames))),
        labels={"steering": labels},
    )


def contract_for(picture: Picture, recipe: str) -> Contract:
    return Contract(
        inputs=(picture,),
        outputs=(steering_output(),),
        tolerance={"steering": 1e-3},
        provenance=Provenance(
            recipe=recipe, recipe_sha256=recipe.ljust(64, "0"), dataset_fingerprint="f" * 64, drives=("train",),
            validation_drives=("held",), validation={}, versions={},
        ),
    )  # fmt: skip


def source_for(model: Any, folder: Path, picture: Picture, recipe: str, *, seed: int = 0) -> ExportInputs:
    """A source around a Keras model, as `sepilot train` would have left it."""
    from sepilot_train.fit.predict import predict

    train_frames, train_labels = bar_frames(600, seed)
    held_frames, held_labels = bar_frames(500, seed + 1)
    held = frame_set(held_frames, held_labels, picture, "held")
    (said,) = predict(model, held.pictures).values()
    saved = {"steering": said}  # The only output of a net may have any name.
    chosen = np.argsort(saved["steering"])[[0, 150, 350, -1]]
    answers = [{name: float(said[i]) for name, said in saved.items()} for i in chosen]
    contract = dataclasses.replace(
        contract_for(picture, recipe),
        golden=tuple(golden_from(held_frames[i], said) for i, said in zip(chosen, answers, strict=True)),
    )
    path = folder / f"{recipe}.keras"
    model.save(path)
    return ExportInputs(
        model_path=path,
        contract=contract,
        gates={},
        training=frame_set(train_frames, train_labels, picture, "train"),
        held_out=held,
        saved=saved,
        constant={"steering": float(train_labels.mean())},
    )


def fitted(builder: str, picture: Picture, options: dict[str, Any], *, seed: int, epochs: int = 6) -> Any:
    """A net of the project's own that was fitted to the bar for a few seconds."""
    with quiet("fitting"):
        import keras

        from sepilot_train.models import build_model

        keras.utils.set_random_seed(seed)
        model = build_model(builder, picture.shape, options)
        frames, labels = bar_frames(1200, seed + 10)
        pictures = frame_set(frames, labels, picture, "fit").pictures.astype(np.float32) / 255
        # The statistics of a short training lag behind its weights with the default of 0.99.
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.9
        model.compile(keras.optimizers.Adam(3e-3), "mse")
        model.fit(pictures, labels, epochs=epochs, batch_size=32, verbose=0)
    return model


@dataclass(frozen=True)
class Bench:
    """An exported model and the means to put other contents into its files."""

    model: Any
    source: ExportInputs
    folder: Path
    reference: Reference
    scratch: Path

    def content(self, name: str) -> bytes:
        return (self.folder / f"{self.source.contract.provenance.recipe}-{name}").read_bytes()

    def candidate(self, name: str) -> Candidate:
        return next(c for c in candidates_of(self.folder) if c.form.name == name)

    def plant(self, name: str, content: bytes, contract: Contract | None = None) -> FileCheck:
        """Check `content` in the place of the file `name`, with the contract that export would have given it."""
        form = format_named(name)
        if contract is None:
            base = self.source.contract
            contract = dataclasses.replace(
                base,
                provenance=dataclasses.replace(base.provenance, precision=form.precision),
                tolerance=dict.fromkeys(base.tolerance, form.tolerance),
            )
        path = self.scratch / f"planted-{name}"
        path.write_bytes((embed_tflite if form.suffix == "tflite" else embed_onnx)(content, contract))
        return check_file(dataclasses.replace(self.candidate(name), path=path), self.reference)


def bench_of(model: Any, picture: Picture, recipe: str, folder: Path, formats: Sequence[str] = ("all",)) -> Bench:
    """Export a model in the formats that are asked for."""
    source = source_for(model, folder, picture, recipe)
    export_source(source, choose_formats(formats), folder / "export", int8=Int8Options(calibration_frames=100))
    return Bench(model, source, folder / "export", read_reference(folder / "export"), folder)

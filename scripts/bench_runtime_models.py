"""Makes the files that scripts/bench-runtime measures, where none is given. Only their time counts: they cannot drive.

python scripts/bench_runtime_models.py swift FOLDER       swift-float32.tflite after a moment of training
python scripts/bench_runtime_models.py linear FILE        Donkeycar 5.3's linear model, untrained
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


def main(what: str, out: str) -> None:
    {"swift": swift, "linear": linear}[what](Path(out))


def swift(folder: Path) -> None:
    """The whole way that a drive takes, as short as it can be."""
    for words in (
        ["record", "--drives", "8", "--frames", "60", "--out", "drives"],
        ["train", "drives", "--recipe", "swift", "--set", "training.epochs=6",
         "--set", "training.batch_size=32", "--set", "training.min_epoch_frames=512", "--out", "run"],
        ["export", "run", "--formats", "float32.tflite", "--out", "export"],
    ):  # fmt: skip
        command = [sys.executable, "-P", "-m", "sepilot_runtime", *words]
        subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr)


def linear(path: Path) -> None:
    """Five convolutions and two dense layers, for frames of 120x160; two outputs, steering and throttle.

    Layers as `default_n_linear` of donkeycar/parts/keras.py has them; dropout does nothing when driving.
    """
    import keras
    import tensorflow as tf

    image = layer = keras.Input((120, 160, 3), name="img_in")
    for number, (filters, size, stride) in enumerate(
        [(24, 5, 2), (32, 5, 2), (64, 5, 2), (64, 3, 1), (64, 3, 1)], start=1
    ):
        layer = keras.layers.Conv2D(filters, size, stride, activation="relu", name=f"conv2d_{number}")(layer)
    layer = keras.layers.Flatten()(layer)
    for units in (100, 50):
        layer = keras.layers.Dense(units, activation="relu")(layer)
    outputs = [keras.layers.Dense(1, name=f"n_outputs{number}")(layer) for number in range(2)]
    model = keras.Model(image, outputs, name="linear")
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


if __name__ == "__main__":
    main(*sys.argv[1:])

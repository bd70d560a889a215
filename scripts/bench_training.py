"""How many frames per second five ways of feeding the same net get through, same batch size, same optimizer.

    sepilot      frames decoded once, held on the device as uint8, gathered and augmented inside the compiled step
    generator    a Python generator that decodes a JPEG, crops, resizes and augments frame by frame, in NumPy and OpenCV
    by frame     the same generator, frame by frame into a tf.data.Dataset that makes the batches, as Donkeycar does it
    keras        Keras's own ImageDataGenerator: Pillow decodes, SciPy shifts, zooms and lights frame by frame
    tf.data      JPEGs decoded, cropped, resized and augmented by TensorFlow operations in parallel, prefetched

Each round runs all of them in a new random order for the same number of steps; the first round of each, which compiles,
is not counted. Medians over rounds.

With --onednn sepilot's pipeline alone, with oneDNN's kernels (as sepilot asks TensorFlow for them) and without (as
TensorFlow chooses on processors without AVX512_VNNI): two processes that take turns, since TensorFlow decides once.
ONEDNN_MAX_CPU_ISA=AVX2 in the environment shows what a processor without AVX-512 gains.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import sepilot_train  # Before Keras, whose TensorFlow reads what this sets.

import cv2
import keras
import numpy as np

from sepilot_runtime.contract.contract import Picture
from sepilot_runtime.contract.preprocess import picture_of
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_train.base.cache import load_pictures
from sepilot_runtime.recording.opening import open_drives
from sepilot_train.fit.fit import compiled_training, feed
from sepilot_train.base.frame_set import FrameSet
from sepilot_train.run.material import columns_of
from sepilot_train.run.net import build_net
from sepilot_train.run.recipe import Recipe, load_recipe

Run = Callable[[], float]


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench-training", description=__doc__.splitlines()[0])
    parser.add_argument("tub", nargs="?", type=Path, help="a Donkeycar tub")
    parser.add_argument("--frames", type=int, help="synthetic frames instead, and sepilot's pipeline alone")
    parser.add_argument("--onednn", action="store_true", help="with --frames: with oneDNN's kernels against without")
    parser.add_argument("--on-demand", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--recipe", default="swift")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--steps", type=int, default=77, help="steps per round (default: 77, an epoch of 9,800 frames)")
    parser.add_argument("--rounds", type=int, default=4, help="counted rounds (default: 4)")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    arguments = parser.parse_args()
    if arguments.onednn and not arguments.frames:
        parser.error("--onednn: --frames N is needed with it")
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    if arguments.on_demand:
        return on_demand(ours(synthetic(recipe, arguments.frames), recipe, arguments.steps))
    if arguments.frames:
        variants: dict[str, Run] = (
            {"sepilot": elsewhere("1"), "no oneDNN": elsewhere("0")}
            if arguments.onednn
            else {"sepilot": ours(synthetic(recipe, arguments.frames), recipe, arguments.steps)}
        )
        frames = measure(variants, arguments.rounds, arguments.steps * recipe.training.batch_size)
    elif arguments.tub:
        drive = open_drives([arguments.tub], ReaderOptions())[0]
        with tempfile.TemporaryDirectory(prefix="sepilot-bench-") as folder:
            paths, labels = jpegs(drive, Path(folder))
            variants = {
                "sepilot": ours(decoded(drive, recipe), recipe, arguments.steps),
                "generator": generator(drive, recipe, arguments.steps),
                "by frame": frame_by_frame(drive, recipe, arguments.steps),
                "keras": image_data_generator(paths, labels, recipe, arguments.steps),
                "tf.data": tf_data(paths, labels, recipe, arguments.steps),
            }
            frames = measure(variants, arguments.rounds, arguments.steps * recipe.training.batch_size)
    else:
        parser.error("a TUB or --frames N is needed")
    report(frames, recipe, arguments)
    return 0


def measure(variants: dict[str, Run], rounds: int, frames: int) -> dict[str, list[float]]:
    """Frames per second of each variant in each counted round."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    order = list(variants)
    for number in range(rounds + 1):
        random.Random(number).shuffle(order)
        for name in order:
            seconds = variants[name]()
            if number:
                found[name].append(frames / seconds)
            print(f"round {number}: {name} {frames / seconds:,.0f} frames/s", file=sys.stderr)
    return found


def elsewhere(onednn: str) -> Run:
    """sepilot's own training step in another process, which ends with this one."""
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": onednn}
    command = [sys.executable, *sys.argv, "--on-demand"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    asked, answered = child.stdin, child.stdout
    assert asked is not None
    assert answered is not None

    def run() -> float:
        asked.write("\n")
        asked.flush()
        return float(answered.readline())

    return run


def on_demand(run: Run) -> int:
    """The other end: a turn for each line that comes in, answered with its seconds."""
    for _ in sys.stdin:
        print(run(), flush=True)
    return 0


def net_of(recipe: Recipe) -> Any:
    keras.utils.set_random_seed(0)
    return build_net(recipe)


def decoded(drive: Drive, recipe: Recipe) -> FrameSet:
    begin = time.perf_counter()
    pictures = load_pictures(drive, recipe.picture, progress=False)
    print(f"decoding {len(pictures.drive):,} frames once: {time.perf_counter() - begin:.1f} s", file=sys.stderr)
    return FrameSet(pictures=np.array(pictures.pictures), labels={name: pictures.drive.labels[column] for name, column in columns_of(recipe).items()})


def synthetic(recipe: Recipe, count: int) -> FrameSet:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (count, *recipe.picture.shape), np.uint8)
    return FrameSet(pictures=pictures, labels={name: rng.uniform(-1, 1, count).astype(np.float32) for name in recipe.targets})


def ours(samples: FrameSet, recipe: Recipe, steps: int) -> Run:
    """sepilot's own training step, timed over `steps` batches."""
    model, data = compiled_training(net_of(recipe), samples, recipe.targets, recipe.training, recipe.augmentation)
    return timed(model, feed(FirstSteps(data, steps)), steps)


class FirstSteps(keras.utils.PyDataset):  # type: ignore[misc]
    """The first `steps` batches of another dataset, over and over; a new epoch of it each time it is through."""

    def __init__(self, data: Any, steps: int) -> None:
        super().__init__()
        self.data, self.steps, self.place = data, steps, 0

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Any:
        batch = self.data[self.place % len(self.data)]
        self.place += 1
        if self.place % len(self.data) == 0:
            self.data.epoch += 1
        return batch


def timed(model: Any, data: Any, steps: int) -> Run:
    def run() -> float:
        begin = time.perf_counter()
        model.fit(data, steps_per_epoch=steps, epochs=1, verbose=0, shuffle=False)
        return time.perf_counter() - begin

    return run


def compiled(recipe: Recipe) -> Any:
    model = net_of(recipe)
    model.compile(optimizer=keras.optimizers.AdamW(recipe.training.learning_rate), loss="mse", jit_compile=False)
    return model


def augmented_frames(drive: Drive, recipe: Recipe) -> Iterator[tuple[Any, Any]]:
    """Frames in random order without end: a picture and its label (1,) each."""
    rng = np.random.default_rng(0)
    while True:
        row = int(rng.integers(0, len(drive.labels["steering"])))
        picture, label = augmented(drive.read(row), float(drive.labels["steering"][row]), recipe.picture, rng)
        yield picture, np.array([label], np.float32)


def generator(drive: Drive, recipe: Recipe, steps: int) -> Run:
    def batches() -> Iterator[tuple[Any, Any]]:
        frames = augmented_frames(drive, recipe)
        while True:
            pictures, labels = zip(*itertools.islice(frames, recipe.training.batch_size), strict=True)
            yield np.stack(pictures), np.stack(labels)

    return timed(compiled(recipe), batches(), steps)


def frame_by_frame(drive: Drive, recipe: Recipe, steps: int) -> Run:
    import tensorflow as tf

    signature = (tf.TensorSpec(recipe.picture.shape, tf.float32), tf.TensorSpec((1,), tf.float32))
    data = tf.data.Dataset.from_generator(lambda: augmented_frames(drive, recipe), output_signature=signature)
    data = data.batch(recipe.training.batch_size).prefetch(tf.data.AUTOTUNE)
    return timed(compiled(recipe), data, steps)


def augmented(frame: Any, label: float, picture: Picture, rng: np.random.Generator) -> tuple[Any, float]:
    """The augmentation of the `swift` recipe for a single frame: mirror, shift, light, tone, shadow, blur, noise."""
    x = picture_of(frame, picture)
    height, width = x.shape[:2]
    if rng.random() < 0.5:
        x, label = x[:, ::-1], -label
    move = np.float32([[1, 0, rng.uniform(-0.06, 0.06) * width], [0, 1, rng.uniform(-0.06, 0.06) * height]])
    x = cv2.warpAffine(np.ascontiguousarray(x), move, (width, height), borderMode=cv2.BORDER_REPLICATE)
    if rng.random() < 0.3:
        x = cv2.GaussianBlur(x, (3, 3), 0)
    value = x.reshape(height, width, -1).astype(np.float32) / 255
    value = (value - 0.5) * rng.uniform(0.7, 1.3) + 0.5 + rng.uniform(-0.15, 0.15)
    value = np.clip(value, 0, 1) ** rng.uniform(0.7, 1.4)
    if rng.random() < 0.4:
        mask = np.zeros((height, width), np.float32)
        corners = rng.uniform([0, 0], [width, height], (4, 2)).astype(np.int32)
        cv2.fillConvexPoly(mask, cv2.convexHull(corners), 1.0)
        value = value * (1 - 0.5 * mask[..., None])
    value += rng.normal(0, 0.03, value.shape).astype(np.float32)
    return np.clip(value, 0, 1).astype(np.float32), label


def jpegs(drive: Drive, folder: Path, count: int = 4000) -> tuple[list[str], Any]:
    """Frames of the drive as JPEG files of their own, and their labels (n,)."""
    rows = np.linspace(0, len(drive.labels["steering"]) - 1, min(count, len(drive.labels["steering"]))).astype(int)
    paths = []
    for row in rows:
        path = folder / f"{row}.jpg"
        cv2.imwrite(str(path), drive.read(int(row)), [cv2.IMWRITE_JPEG_QUALITY, 95])
        paths.append(str(path))
    return paths, drive.labels["steering"][rows].astype(np.float32)


def image_data_generator(paths: list[str], labels: Any, recipe: Recipe, steps: int) -> Run:
    """Pictures of the net's size, augmented as far as Keras's ImageDataGenerator knows how: shift, zoom, light."""
    from tf_keras.preprocessing.image import ImageDataGenerator, img_to_array, load_img

    height, width, channels = recipe.picture.shape
    draw = ImageDataGenerator(
        width_shift_range=0.06, height_shift_range=0.06, zoom_range=0.1, brightness_range=(0.7, 1.3), rescale=1 / 255
    )

    def picture(index: int) -> Any:
        frame = load_img(paths[index], color_mode="grayscale" if channels == 1 else "rgb")
        whole = draw.random_transform(img_to_array(frame))
        top = round(whole.shape[0] * recipe.picture.crop_top)
        small = cv2.resize(draw.standardize(whole)[top:], (width, height))
        return small.reshape(height, width, channels)

    def batches() -> Iterator[tuple[Any, Any]]:
        rng = np.random.default_rng(0)
        while True:
            rows = rng.integers(0, len(paths), recipe.training.batch_size)
            yield np.stack([picture(int(i)) for i in rows]), labels[rows, None]

    return timed(compiled(recipe), batches(), steps)


def tf_data(paths: list[str], labels: Any, recipe: Recipe, steps: int) -> Run:
    import tensorflow as tf

    picture = recipe.picture

    def load(path: Any, label: Any) -> tuple[Any, Any]:
        x = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        top = tf.cast(tf.cast(tf.shape(x)[0], tf.float32) * picture.crop_top, tf.int32)
        x = tf.image.resize(x[top:], (picture.height, picture.width)) / 255.0
        x = tf.image.rgb_to_grayscale(x) if picture.channels == 1 else x[..., ::-1]
        flip = tf.random.uniform(()) < 0.5
        x = tf.where(flip, x[:, ::-1], x)
        x = tf.image.random_contrast(tf.image.random_brightness(x, 0.15), 0.7, 1.3)
        x = tf.clip_by_value(x, 0.0, 1.0) ** tf.random.uniform((), 0.7, 1.4)
        x = x + tf.random.normal(tf.shape(x), stddev=0.03)
        return tf.clip_by_value(x, 0.0, 1.0), tf.where(flip, -label, label)

    data = tf.data.Dataset.from_tensor_slices((paths, labels[:, None]))
    data = data.shuffle(len(paths)).repeat().map(load, num_parallel_calls=tf.data.AUTOTUNE)
    data = data.batch(recipe.training.batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    return timed(compiled(recipe), data, steps)


def report(found: dict[str, list[float]], recipe: Recipe, arguments: argparse.Namespace) -> None:
    medians = {name: statistics.median(rates) for name, rates in found.items()}
    print(f"\n{recipe.name}, batch {recipe.training.batch_size}, {platform.processor() or platform.machine()}, "
          f"{os.cpu_count()} cores, Keras {keras.__version__} on {keras.backend.backend()}, "
          f"{len(next(iter(found.values())))} rounds of {arguments.steps} steps")  # fmt: skip
    for name, rate in medians.items():
        ratio = medians["sepilot"] / rate
        print(f"  {name:<10} {rate:>10,.0f} frames/s   sepilot is {ratio:.1f} times as fast" if name != "sepilot"
              else f"  {name:<10} {rate:>10,.0f} frames/s")  # fmt: skip
    if arguments.frames:
        seconds = arguments.frames * 150 / medians["sepilot"]
        print(f"  150 epochs of {arguments.frames:,} frames would take {seconds:,.0f} s")
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"recipe": recipe.name, "frames_per_s": medians, "rounds": found}, indent=2)
        )


if __name__ == "__main__":
    raise SystemExit(main())

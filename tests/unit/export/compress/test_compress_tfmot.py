"""What is said before tfmot starts, and what becomes of a process that fails: without TensorFlow's training."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sepilot_export.compress import tfmot
from sepilot_export.compress.kernels import dense_reason, joined, kernels_of, note
from sepilot_export.compress.recipe import Cluster, Compression, Finetune, Prune, Quantize, load_compression
from sepilot_export.compress.step import Work, WorkFailed
from sepilot_runtime.base.errors import RunError
from sepilot_train.base.frame_set import FrameSet
from sepilot_train.fit.augment import Augmentation
from sepilot_train.fit.outputs.scalar.target import ScalarTarget
from sepilot_train.models import build_model

SHAPE = (16, 24, 1)


def of(**sections: Any) -> Compression:
    return Compression(name="test", summary="", **sections)


def swift() -> Any:
    return build_model("swift", SHAPE, {"stem": 8, "widths": [8], "repeats": [1], "dense": [8]})


def net(*layers: Any) -> Any:
    """A chain of layers between a picture and the answer."""
    import keras

    image = x = keras.Input(SHAPE, name="image")
    for layer in layers:
        x = layer(x)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(image, keras.layers.Dense(1, name="steering")(x))


def work_in(folder: Path) -> Work:
    inner = folder / "job"
    inner.mkdir()
    samples = FrameSet(pictures=np.zeros((4, *SHAPE), np.uint8), labels={"steering": np.zeros(4, np.float32)})
    return Work(
        train=samples,
        validation=samples,
        targets={"steering": ScalarTarget(mirror="negate")},
        augmentation=Augmentation(),
        seed=0,
        folder=inner,
        log=folder / "job.log",
    )


def run_worker(monkeypatch: pytest.MonkeyPatch, folder: Path, program: str) -> Any:
    """`tfmot.compress` with `program` in the place of the worker."""
    (folder / "stand_in.py").write_text(program, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(tfmot, "_WORKER", "stand_in")
    return tfmot.compress(swift(), of(prune=Prune(min_weights=32)), work_in(folder))


def message_of(model: Any, compression: Compression) -> str:
    with pytest.raises(RunError) as caught:
        tfmot.require_supported(model, compression)
    return str(caught.value)


@pytest.mark.parametrize("name", ["prune50", "prune80", "prune2x4", "qat", "pqat", "cluster", "cqat"])
def test_shipped_recipes_take_our_nets(name: str) -> None:
    compression = load_compression(name)
    assert compression.name == name
    for builder in ("swift", "v27"):
        tfmot.require_supported(build_model(builder, (64, 96, 1), {}), compression)


def test_every_trap_is_named_with_its_layer() -> None:
    from keras import layers

    prune, quantize = of(prune=Prune(min_weights=4)), of(quantize=Quantize())
    gate = layers.Conv2D(4, 3, activation="hard_sigmoid", name="gate")
    assert "layer gate: activation hard_sigmoid is not the same in tf_keras" in message_of(net(gate), prune)
    leaky = layers.Conv2D(4, 3, activation="leaky_relu", name="leaky")
    assert "layer leaky: activation leaky_relu" in message_of(net(leaky), prune)
    shared = layers.Conv2D(1, 3, padding="same", name="shared")
    assert "layer shared: is used in 2 places" in message_of(net(shared, shared), prune)
    elu = layers.ELU(name="soft")
    tfmot.require_supported(net(layers.Conv2D(4, 3, name="conv"), elu), prune)
    assert "layer soft: ELU cannot be quantized" in message_of(net(layers.Conv2D(4, 3), elu), quantize)
    six = layers.ReLU(6.0, name="six")
    assert "layer six: only a plain ReLU" in message_of(net(layers.Conv2D(4, 3), six), quantize)


def test_bare_operations_are_named() -> None:
    import keras

    image = keras.Input(SHAPE, name="image")
    x = keras.layers.Flatten(name="flat")(keras.ops.sin(image))
    model = keras.Model(image, keras.layers.Dense(1, name="steering")(x))
    text = message_of(model, of(prune=Prune()))
    assert "Sin is not known to tfmot" in text and "slim" in text


def test_settings_that_make_no_sense() -> None:
    assert "no layer 'head'" in message_of(swift(), of(prune=Prune(skip=("head",))))
    assert "leave no kernel to prune" in message_of(swift(), of(prune=Prune(min_weights=10_000)))
    assert "at least 1 expected" in message_of(swift(), of(prune=Prune(finetune=Finetune(epochs=0))))
    assert "found neither" in message_of(swift(), of(quantize=Quantize(preserve="sparsity")))
    assert "found neither" in message_of(swift(), of(quantize=Quantize(preserve="clusters")))
    assert "calibration_frames: at least" in message_of(swift(), of(quantize=Quantize(calibration_frames=2)))
    assert "no kernel" in message_of(net(), of(cluster=Cluster(clusters=16)))
    tfmot.require_supported(swift(), of(prune=Prune(min_weights=32), quantize=Quantize(preserve="sparsity")))


def test_kernels_and_why_they_stay_dense() -> None:
    from keras import layers

    model = net(layers.Conv2D(6, 3, name="stem"), layers.SeparableConv2D(8, 3, name="pair"))
    found = [(k.layer, k.bridged, k.kind) for k in kernels_of(model)]
    assert found == [
        ("stem", "stem", "convolution"),
        ("pair", "pair_depthwise", "depthwise"),
        ("pair", "pair_pointwise", "pointwise"),
        ("steering", "steering", "dense"),
    ]
    reasons = [dense_reason(k, Prune(min_weights=10, pattern="2:4")) for k in kernels_of(model)]
    assert reasons == ["1 input channel", "not in kinds", "6 input channels", "8 weights, min_weights is 10"]
    assert dense_reason(kernels_of(model)[0], Prune(min_weights=10, skip=("stem",))) == "in skip"
    first = note(kernels_of(model)[0], "50% zeros")
    both = joined([first, dataclasses.replace(first, action="int8")])
    assert [n.action for n in both] == ["50% zeros; int8"]


def test_crash_is_one_line_and_leaves_its_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = "print('a lot of talk')\ntry:\n    1 / 0\nexcept ArithmeticError as e:\n    raise KeyError('x') from e"
    with pytest.raises(WorkFailed) as caught:
        run_worker(monkeypatch, tmp_path, program)
    assert str(caught.value) == "compression by tfmot: KeyError: 'x'"
    assert "a lot of talk" in (tmp_path / "job.log").read_text(encoding="utf-8")


def test_killed_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="ended by signal 9"):
        run_worker(monkeypatch, tmp_path, "import os\nos.kill(os.getpid(), 9)")


def test_mistakes_found_by_the_worker_come_through_as_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = (
        "import json, pathlib, sys\n"
        "pathlib.Path(sys.argv[1], 'error.json').write_text(json.dumps({'message': 'layer x: no'}))\n"
        "sys.exit(2)"
    )
    with pytest.raises(RunError, match=r"^layer x: no$"):
        run_worker(monkeypatch, tmp_path, program)


def test_interrupt_ends_the_worker(tmp_path: Path) -> None:
    """In a process of its own: a signal to the one that runs the tests may meet threads of TensorFlow."""
    ready = tmp_path / "ready"
    (tmp_path / "stand_in.py").write_text(
        "import os, pathlib, signal, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        f"part = pathlib.Path({str(ready)!r} + '.part')\n"
        "part.write_text(str(os.getpid()))\n"
        f"part.rename({str(ready)!r})\n"
        "time.sleep(60)",
        encoding="utf-8",
    )
    program = (
        "import pathlib, signal, sys, types\n"
        "from sepilot_export.compress import tfmot\n"
        # A shell that starts the tests in the background has them ignore it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "tfmot._WORKER, folder = 'stand_in', pathlib.Path(sys.argv[1])\n"
        "tfmot._run(types.SimpleNamespace(folder=folder, log=folder / 'job.log', progress=False))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as outer:
        while not ready.exists() and outer.poll() is None:
            time.sleep(0.02)
        outer.send_signal(signal.SIGINT)
        said = outer.communicate(timeout=60)[1]
    assert said.rstrip().endswith("KeyboardInterrupt")
    with pytest.raises(ProcessLookupError):
        os.kill(int(ready.read_text()), 0)


def test_tfmot_stays_in_the_worker() -> None:
    """Whoever imports tfmot has its changes to TensorFlow in the process."""
    program = (
        "import sys\n"
        "from sepilot_export.compress import kernels, recipe, step, tfmot, tfmot_support\n"
        "print([m for m in ('tf_keras', 'tensorflow_model_optimization', 'tensorflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    folder = Path(tfmot.__file__).parents[1]
    found = {
        path.stem
        for path in folder.rglob("*.py")
        if re.search(r"^ *(import|from) (tf_keras|tensorflow_model_optimization)\b", path.read_text("utf-8"), re.M)
    }
    assert found == {
        "bridge", "clustering", "fake_quantization", "finetune", "pruning", "qat_scheme", "quantizing"
    }  # fmt: skip
    users = {
        path.stem
        for path in folder.rglob("*.py")
        if re.search(
            rf"^from sepilot_export.compress(\.| import .*)({'|'.join(found)})\b", path.read_text("utf-8"), re.M
        )
    }
    assert users <= found

"""`sepilot VERB …`: finds the verbs, runs one, and turns errors into one line and an exit code.

Verbs are entry points of the group `sepilot.verbs`, each `main(argv) -> int`. Nothing of a verb is imported before it
is named, so that `--help` answers at once and the car never meets TensorFlow.

Exit codes: 0 done, 1 a gate failed, 2 a user's mistake or a missing thing, 130 Ctrl-C.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from sepilot_runtime import __version__
from sepilot_runtime.base.errors import MissingExtraError, OutputError, SepilotError, UsageError
from sepilot_runtime.base.safe_path import leave_out_working_directory
from sepilot_runtime.base.terminal import legible_streams, one_line

__all__ = ["main", "run_verb"]

SUMMARIES = {
    "drives": "list recorded drives: counts, rate, labels, what was skipped and why",
    "record": "record drives in a simulator, as ordinary Donkeycar tubs",
    "inspect": "print a model's layers: shapes, parameters, MACs, receptive field",
    "train": "train a steering model on drives",
    "compress": "make a trained net smaller or faster: prune, slim, train for int8",
    "export": "write TFLite and ONNX files with the contract inside",
    "check": "compare every file with the training model, frame by frame",
    "bench": "measure latency from frame to angle on this machine",
    "compare": "let two files steer over a drive side by side",
    "explain": "show what the steering of a file hangs on",
    "closed-loop": "let files drive unseen simulated worlds",
    "sign": "sign model files, for cars that take only signed ones",
    "install": "put a model file into a slot of this car, if all its proofs hold",
    "rollback": "make the model that was active before active again",
    "slots": "list the models that are installed on this car",
    "doctor": "look whether this machine is fit to drive, and say what to do",
    "drive": "steer from a camera, a video, a folder or a drive",
    "report": "gather a run, its files and their figures in one HTML page",
    "tradeoff": "compare every file in error, time and size: which to put on the car",
}
"""In the order of the work; a verb that another package adds is listed after these."""

RUNTIME_VERBS = {
    "bench": "sepilot_runtime.commands.bench:main",
    "compare": "sepilot_runtime.commands.compare:main",
    "doctor": "sepilot_runtime.commands.doctor:main",
    "drive": "sepilot_runtime.commands.drive:main",
    "explain": "sepilot_runtime.commands.explain:main",
    "install": "sepilot_runtime.commands.install:main",
    "rollback": "sepilot_runtime.commands.rollback:main",
    "sign": "sepilot_runtime.commands.sign:main",
    "slots": "sepilot_runtime.commands.slots:main",
}
"""For `runtime/` copied alone to a device, where no package metadata says what is installed."""

EXTRA_OF = {
    "keras": "train",
    "tensorflow": "train",
    "matplotlib": "train",
    "rich": "train",
    "jax": "train-jax",
    "jinja2": "export",
    "onnx": "export",
    "tf2onnx": "export",
    "tf_keras": "export",
    "tensorflow_model_optimization": "export",
    "ai_edge_quantizer": "export",
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "cryptography": "signing",
    "serial": "serial",
    "smbus2": "servo",
    "paho": "mqtt",
    "h11": "web",
    "gymnasium": "sim",
    "panda3d": "sim3d",
    "sepilot_train": "train",
    "sepilot_export": "export",
}
"""Top-level import name to the extra of pyproject.toml that brings it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `sepilot` with `argv` (default: the process's) and give the exit code."""
    leave_out_working_directory()
    with legible_streams():
        return _main(argv)


def _main(argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in RUNTIME_VERBS:
        # Without looking for what else is installed: on the car that search is a quarter of the start.
        return run_verb(lambda: _load(RUNTIME_VERBS[arguments[0]])(arguments[1:]))
    verbs = _verbs()
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage(verbs))
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"sepilot {__version__}")
        return 0
    name = arguments[0]
    if name not in verbs:
        print(f"sepilot: unknown verb {name!r}; known: {', '.join(verbs)}", file=sys.stderr)
        return 2
    return run_verb(lambda: _load(verbs[name])(arguments[1:]))


def run_verb(call: Callable[[], int]) -> int:
    """Run one verb; errors of the user become one line on stderr and exit code 2, Ctrl-C 130."""
    try:
        code = call()
        _flush_stdout()
        return code
    except SepilotError as e:
        print(f"sepilot: {one_line(str(e))}", file=sys.stderr)
        if isinstance(e, OutputError):
            _forget_stdout()
        return e.exit_code
    except ModuleNotFoundError as e:
        package = (e.name or "").split(".")[0]
        # A module missing inside a package that is there is our own fault, and keeps its traceback.
        if package not in EXTRA_OF or (e.name != package and importlib.util.find_spec(package) is not None):
            raise
        print(f"sepilot: {MissingExtraError(package, EXTRA_OF[package])}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sepilot: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has gone.
        _forget_stdout()
        return 0


def _flush_stdout() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as e:
        raise OutputError(f"standard output: cannot be written: {e.strerror or e}") from e


def _forget_stdout() -> None:
    """Where stdout cannot be written: keep Python from complaining once more when it flushes at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _verbs() -> dict[str, str]:
    from importlib import metadata

    found = dict(RUNTIME_VERBS)
    found.update({point.name: point.value for point in metadata.entry_points(group="sepilot.verbs")})
    order = list(SUMMARIES)
    return dict(
        sorted(found.items(), key=lambda item: (order.index(item[0]) if item[0] in order else len(order), item[0]))
    )


def _load(target: str) -> Callable[[Sequence[str]], int]:
    module, _, attribute = target.partition(":")
    loaded = getattr(importlib.import_module(module), attribute, None)
    if loaded is None:
        raise UsageError(f"{target}: the verb's package is of another version; reinstall sepilot")
    return cast(Callable[[Sequence[str]], int], loaded)


def _usage(verbs: Mapping[str, str]) -> str:
    rows = "\n".join(f"  {name:<12} {SUMMARIES.get(name, '')}" for name in verbs)
    return (
        "usage: sepilot VERB [options]\n\n"
        "Drives in, a file out that drives the car the same way on every runtime, and says so\nwith numbers.\n\n"
        f"{rows}\n\n`sepilot VERB --help` explains one; `sepilot --version` prints the version."
    )

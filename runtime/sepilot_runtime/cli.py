"""`sepilot VERB …`: finds the verbs, runs one, and turns errors into one line and an exit code.

Verbs are entry points of the group `sepilot.verbs`, each `main(argv) -> int`. Nothing of a verb is imported before it
is named, so that `--help` answers at once and the car never meets TensorFlow.

Exit codes: 0 done, 1 a gate failed, 2 a user's mistake or a missing thing, 130 Ctrl-C.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from sepilot_runtime import __version__
from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.base.exit_codes import run_verb
from sepilot_runtime.base.safe_path import leave_out_working_directory
from sepilot_runtime.base.terminal import legible_streams

__all__ = ["main", "run_verb"]

SUMMARIES = {
    "drives": "list recorded drives: counts, rate, labels, what was skipped and why",
    "record": "record drives in a simulator, as ordinary Donkeycar tubs",
    "inspect": "print a model's layers: shapes, parameters, MACs, receptive field",
    "train": "train a steering model on drives",
    "compress": "make a trained net smaller or faster: prune, slim, train for int8",
    "export": "write TFLite and ONNX files with the contract inside",
    "adopt": "bring a model file that was made elsewhere under a contract",
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
    "enrol": "put people or things into a gallery, by a few pictures of each, to be recognized",
    "drive": "steer from a camera, a video, a folder or a drive",
    "run": "show what a file that does not steer says of a camera, a video or pictures",
    "report": "gather a run, its files and their figures in one HTML page",
    "tradeoff": "compare every file in error, time and size: which to put on the car",
}
"""In the order of the work; a verb that another package adds is listed after these."""

RUNTIME_VERBS = {
    verb: f"sepilot_runtime.commands.{verb}:main"
    for verb in (
        "bench",
        "compare",
        "doctor",
        "drive",
        "enrol",
        "explain",
        "install",
        "rollback",
        "run",
        "sign",
        "slots",
    )
}
"""For `runtime/` copied alone to a device, where no package metadata says what is installed."""


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

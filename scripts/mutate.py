"""Do the tests notice? Plants one small fault after the other in a module and runs that module's tests.

    scripts/mutate                         all modules of the table below
    scripts/mutate split gates             some of them
    scripts/mutate contract --sample 100   of a large one so many, drawn by --seed
    scripts/mutate package.module --tests tests/unit/test_x.py     any other

For each module the share of faults that a test died of, and every fault that lived: `file:line in function: old → new`.
Faults that cannot be told from the right code, or whose effect is not worth a test, stand with their reason in
`mutants-accepted.toml`; they are counted apart, and an entry that fits no fault any more, or one that a test notices by
now, is an error. Faults are known by their text and function, so moved lines change nothing.

Each fault lives in a process of its own, forked from one that has imported all that the tests import but the project.
A fault that makes the tests take ten times as long as usual has been noticed.

Exit code: 0 every module reaches --least percent (95), 1 one does not or an entry is out of date, 2 the tests fail as
they are.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.machinery
import importlib.util
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

from mutations import Mutant, mutants_of

ROOT = Path(__file__).resolve().parents[1]
ACCEPTED = Path(__file__).with_name("mutants-accepted.toml")

UNIT = "tests/unit"
CONTRACT, VERIFY = f"{UNIT}/runtime/contract/test_", f"{UNIT}/export/verify/test_"
READERS = tuple(
    f"{UNIT}/runtime/recording/test_{name}.py" for name in ("labels", "drives", "columns", "lost_labels", "search")
)

MODULES: dict[str, tuple[str, tuple[str, ...]]] = {
    "contract": ("sepilot_runtime.contract.contract", (f"{CONTRACT}contract_edges.py", f"{CONTRACT}contract.py")),
    "golden": ("sepilot_runtime.contract.golden", (f"{CONTRACT}contract_edges.py", f"{CONTRACT}contract.py")),
    "preprocess": (
        "sepilot_runtime.contract.preprocess", (f"{CONTRACT}preprocess_edges.py", f"{CONTRACT}preprocess.py")
    ),
    "picture": ("sepilot_runtime.contract.picture", (f"{CONTRACT}preprocess_edges.py", f"{CONTRACT}contract.py")),
    "gates": ("sepilot_export.verify.gates", (f"{VERIFY}gates.py", f"{VERIFY}fidelity.py")),
    "fidelity": ("sepilot_export.verify.fidelity", (f"{VERIFY}fidelity.py",)),
    "paired": ("sepilot_runtime.base.bootstrap", (f"{VERIFY}fidelity.py",)),
    "split": ("sepilot_train.run.split", (f"{UNIT}/train/run/test_split.py",)),
    "drive": ("sepilot_runtime.recording.drive", READERS),
    "rows": ("sepilot_runtime.recording.rows", READERS),
    "time_stamps": ("sepilot_runtime.recording.time_stamps", READERS),
    "tables": ("sepilot_runtime.recording.tables", READERS),
    "opening": ("sepilot_runtime.recording.opening", READERS),
    "tubs": ("sepilot_runtime.recording.tubs", READERS),
    "udacity": ("sepilot_runtime.recording.udacity", READERS),
    "videos": ("sepilot_runtime.recording.videos", READERS),
    "pictures": ("sepilot_runtime.recording.pictures", READERS),
    "actuation": ("sepilot_runtime.drive.actuation", (f"{UNIT}/runtime/drive/test_actuation.py",)),
    "states": ("sepilot_runtime.drive.supervisor", (f"{UNIT}/runtime/drive/test_supervisor.py",)),
}
"""Short name to the module and the tests that are to notice its faults."""

THREADED = ("tensorflow", "keras", "jax", "ai_edge_litert", "onnxruntime", "openvino")
"""Not imported before a fork, in which their threads would be missing."""

OTHERS = "others.txt"
TIMES = 10.0
MEMORY = 8 << 30


@dataclass(slots=True, kw_only=True)
class Count:
    """What came of a module's mutants; `skipped` those that were not drawn."""

    killed: int = 0
    lived: list[Mutant] = field(default_factory=list)
    accepted: int = 0
    skipped: int = 0
    stale: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        judged = self.killed + len(self.lived)
        return self.killed / judged if judged else 1.0


def main(argv: Sequence[str]) -> int:
    arguments = _arguments(argv)
    short = False
    for name in arguments.modules or MODULES:
        module, tests = MODULES.get(name, (name, ()))
        begin = time.monotonic()
        try:
            count = _judge(module, [str(Path(t).absolute()) for t in arguments.tests] or tests, arguments)
        except RuntimeError as e:
            print(f"mutate: {module}: {e}", file=sys.stderr)
            return 2
        for mutant in count.lived:
            print(f"  lived   {_path_of(module)}:{mutant.line} in {mutant.where}: {mutant.old}  →  {mutant.new}")
        for line in count.stale:
            print(f"  stale   {line}")
        print(
            f"{module}: {count.share:.1%} of {count.killed + len(count.lived)} noticed, {count.accepted} accepted"
            f"{f', {count.skipped} not drawn' if count.skipped else ''}, {time.monotonic() - begin:.0f} s",
            flush=True,
        )
        short |= count.share < arguments.least / 100 or bool(count.stale)
    return 1 if short else 0


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/mutate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", metavar="MODULE", nargs="*", help=f"{', '.join(MODULES)}, or any by its full name")
    parser.add_argument("--tests", metavar="FILE", nargs="+", default=[], help="instead of those of the table")
    parser.add_argument("--sample", metavar="N", type=int, help="of each module at most so many, drawn at random")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the sample (0)")
    parser.add_argument("--jobs", metavar="N", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--least", metavar="PERCENT", type=float, default=95.0, help="share to reach (95)")
    parser.add_argument("--accepted", metavar="FILE", type=Path, default=ACCEPTED, help="list of accepted faults")
    arguments = parser.parse_args(argv)
    if unknown := [name for name in arguments.modules if name not in MODULES and not arguments.tests]:
        parser.error(f"{unknown[0]}: one of {', '.join(MODULES)} expected, or --tests with it")
    return arguments


def _judge(module: str, tests: Sequence[str], arguments: argparse.Namespace) -> Count:
    path = _path_of(module)
    mutants = mutants_of(path)
    count = Count()
    reasons = _accepted(arguments.accepted, module)
    known = {mutant.key for mutant in mutants}
    count.stale = [f"{where}: {old}  →  {new}: no such fault" for where, old, new in reasons.keys() - known]
    drawn = mutants
    if arguments.sample is not None and arguments.sample < len(mutants):
        drawn = random.Random(arguments.seed).sample(mutants, arguments.sample)
        count.skipped = len(mutants) - len(drawn)
    usual_s = _usual(path, tests)
    noticed: dict[tuple[str, str, str], bool] = {}
    for mutant, killed in _run_all(path, drawn, tests, usual_s * TIMES, arguments.jobs):
        if mutant.key in reasons:
            # Equal texts in one function are accepted together.
            noticed[mutant.key] = noticed.get(mutant.key, True) and killed
            count.accepted += 1
        elif killed:
            count.killed += 1
        else:
            count.lived.append(mutant)
    count.lived.sort(key=lambda mutant: mutant.line)
    if not count.skipped:
        count.stale += [f"{w}: {o}  →  {n}: noticed by now" for (w, o, n), killed in noticed.items() if killed]
    return count


def _path_of(module: str) -> Path:
    # Parents are imported by this, which must not make the module itself known.
    found = importlib.machinery.PathFinder.find_spec(module.rpartition(".")[2], _folders_of(module))
    if found is None or found.origin is None:
        raise RuntimeError("no such module")
    return Path(found.origin)


def _folders_of(module: str) -> list[str] | None:
    package = module.rpartition(".")[0]
    if not package:
        return None
    found = importlib.machinery.PathFinder.find_spec(package.rpartition(".")[2], _folders_of(package))
    if found is None or found.submodule_search_locations is None:
        raise RuntimeError(f"{package}: no such package")
    return list(found.submodule_search_locations)


def _accepted(path: Path, module: str) -> dict[tuple[str, str, str], str]:
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("accepted", [])
    found = {(e["where"], e["old"], e["new"]): e["reason"] for e in entries if e["module"] == module}
    if not all(reason.strip() for reason in found.values()):
        raise RuntimeError(f"{path}: an entry without a reason")
    return found


def _usual(path: Path, tests: Sequence[str]) -> float:
    """Seconds that the tests take as they are."""
    begin = time.monotonic()
    pid, folder = _start(path, None, tests)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    seconds = time.monotonic() - begin
    if code:
        shutil.rmtree(folder, ignore_errors=True)
        raise RuntimeError(f"the tests fail as they are: {' '.join(tests)}")
    for name in (Path(folder) / OTHERS).read_text(encoding="utf-8").split():
        # What some packages import in passing cannot be imported by itself.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    shutil.rmtree(folder, ignore_errors=True)
    return seconds


def _others() -> Iterator[str]:
    """Names of the modules that the tests imported and that are not the project's, nor tests."""
    for name, module in sys.modules.items():
        file = getattr(module, "__file__", None)
        installed = file is None or "site-packages" in file or file.startswith(sys.base_prefix)
        if installed and name.partition(".")[0] not in THREADED:
            yield name


def _run_all(
    path: Path, mutants: Sequence[Mutant], tests: Sequence[str], limit_s: float, jobs: int
) -> Iterator[tuple[Mutant, bool]]:
    """Every mutant with whether it was noticed, as they come."""
    waiting, running = list(reversed(mutants)), dict[int, tuple[Mutant, float, str]]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                mutant = waiting.pop()
                pid, folder = _start(path, mutant.code, tests)
                running[pid] = mutant, time.monotonic() + limit_s, folder
            for pid, (mutant, deadline, folder) in list(running.items()):
                done, status = os.waitpid(pid, os.WNOHANG)
                if not done and time.monotonic() < deadline:
                    continue
                _end(pid, reap=not done)
                del running[pid]
                shutil.rmtree(folder, ignore_errors=True)
                yield mutant, not done or os.waitstatus_to_exitcode(status) != 0
            time.sleep(0.005)
    finally:
        for pid, (_, _, folder) in running.items():
            _end(pid, reap=True)
            shutil.rmtree(folder, ignore_errors=True)


def _end(pid: int, *, reap: bool) -> None:
    """What the tests started ends with them."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    if reap:
        os.waitpid(pid, 0)


def _start(path: Path, code: CodeType | None, tests: Sequence[str]) -> tuple[int, str]:
    """Run the tests in a fork, in which importing `path` gives `code`; its process id and its folder."""
    folder = tempfile.mkdtemp(prefix="sepilot-mutant-")
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid, folder
    status = 3
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        if code is not None:
            _replace(path, code)
        status = _pytest(tests, Path(folder))
        if code is None:
            (Path(folder) / OTHERS).write_text("\n".join(_others()), encoding="utf-8")
    finally:
        os._exit(status)


def _replace(path: Path, code: CodeType) -> None:
    real = importlib.machinery.SourceFileLoader.get_code

    def get_code(self: Any, name: str) -> Any:
        return code if Path(self.path) == path else real(self, name)

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign]


def _pytest(tests: Sequence[str], folder: Path) -> int:
    import pytest

    os.chdir(ROOT)
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None
    # Real drives are not everywhere and take seconds, as does what is tried at random.
    chosen = ["-k", "not real_drives and not no_content"]
    words = ["-x", "-q", "-p", "no:cacheprovider", *chosen, f"--basetemp={folder / 'pytest'}"]
    return int(pytest.main([*words, *tests]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

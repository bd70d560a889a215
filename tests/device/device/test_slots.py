"""Model slots: only what is proven gets in, one file is always whole, and going back is one command."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from device.conftest import TRAINING_TOOLS, Device
from model_factory import contract_of, write_onnx, write_tflite
from repository import ROOT
from sepilot_runtime.base.errors import ContractError, ModelFileError, OutputError, UsageError
from sepilot_runtime.device import installation
from sepilot_runtime.device.installation import install_model
from sepilot_runtime.device.slot_watcher import ModelReloader, SlotWatcher
from sepilot_runtime.device.slots import active_model, mark_failed, read_slots, rollback, shadow_model
from sepilot_runtime.engine import trial as trials
from sepilot_runtime.engine.model_file import read_model_file
from sepilot_runtime.engine.pilot import load_pilot


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Four files that differ."""
    folder = tmp_path_factory.mktemp("candidates")
    return {
        "a": write_tflite(folder / "a.tflite"),
        "b": write_tflite(folder / "b.tflite", contract_of(tolerance=2e-4)),
        "c": write_onnx(folder / "c.onnx"),
        "d": write_tflite(folder / "d.tflite", int8=True),
    }


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the trial in a process of its own, which takes most of an installation's time."""
    monkeypatch.setattr(installation, "try_model", lambda *_, **__: None)


@pytest.fixture
def slots(tmp_path: Path, candidates: dict[str, Path], untried: None) -> Path:
    """`b` active, `a` previous, `c` shadow."""
    folder = tmp_path / "slots"
    for name in "ab":
        install_model(candidates[name], folder)
    install_model(candidates["c"], folder, shadow=True)
    return folder


def roles(folder: Path) -> dict[str, str]:
    found = read_slots(folder)
    return {found.role_of(slot): slot.file for slot in found.models}


# --- Installing -------------------------------------------------------------------------------------------------------


def test_a_file_becomes_active_and_the_one_before_is_kept(slots: Path, candidates: dict[str, Path]) -> None:
    assert roles(slots) == {"active": "b.tflite", "previous": "a.tflite", "shadow": "c.onnx"}
    assert active_model(slots).read_bytes() == candidates["b"].read_bytes()
    shadow = shadow_model(slots)
    assert shadow is not None and shadow.read_bytes() == candidates["c"].read_bytes()
    slot = install_model(candidates["d"], slots)
    assert (slot.recipe, slot.precision, slot.signed, slot.failed) == ("ramp", "int8", False, "")
    assert slot.checksum == read_model_file(candidates["d"]).checksum
    assert roles(slots) == {"active": "d.tflite", "previous": "b.tflite", "shadow": "c.onnx"}
    # What has no role any more is gone.
    assert len(list((slots / "models").iterdir())) == 3
    # The shadow is promoted; the active file installed again changes nothing.
    install_model(candidates["c"], slots)
    install_model(candidates["c"], slots)
    assert roles(slots) == {"active": "c.onnx", "previous": "d.tflite"}
    with pytest.raises(UsageError, match="is the active model"):
        install_model(candidates["c"], slots, shadow=True)
    assert load_pilot(active_model(slots))


def test_what_is_not_proven_stays_out(tmp_path: Path, slots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # With the trial.
    before = {p: p.read_bytes() for p in slots.rglob("*") if p.is_file()}
    damaged = write_tflite(tmp_path / "damaged.tflite")
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(ModelFileError, match="checksum does not match"):
        install_model(damaged, slots)
    with pytest.raises(ContractError, match="no contract"):
        install_model(write_tflite(tmp_path / "plain.tflite", text=""), slots)
    wrong = write_tflite(tmp_path / "wrong.tflite", gain=1.1)
    with pytest.raises(ModelFileError, match=r"wrong\.tflite: not installed: golden frame 0: steering") as caught:
        install_model(wrong, slots)
    assert str(slots) not in str(caught.value)
    assert {p: p.read_bytes() for p in slots.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("trial", "words"),
    [
        ("import os; os.kill(os.getpid(), 11)", "it ended its process with signal 11"),
        ("import time; time.sleep(60)", "it did not answer within 0.3 s"),
        ("1 / 0", "it ended its process with exit code 1: ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_takes_the_interpreter_down_stays_out(
    trial: str, words: str, candidates: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "python_words", lambda *_: [sys.executable, "-c", trial])
    with pytest.raises(ModelFileError) as caught:
        trials.try_model(candidates["a"], shown_as=Path("a.tflite"), limit_s=0.3 if "sleep" in trial else 20)
    assert str(caught.value) == f"a.tflite: {words}"
    if "sleep" not in trial:
        with pytest.raises(ModelFileError, match="not installed"):
            install_model(candidates["a"], tmp_path / "slots")
        assert not list((tmp_path / "slots" / "models").iterdir())
        with pytest.raises(ModelFileError, match="no model is installed; run: sepilot install FILE"):
            active_model(tmp_path / "slots")


def test_a_trusted_key_decides(slots: Path, candidates: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="signatures need the extra `signing`")
    from sepilot_runtime.device.signing import new_key, sign_file

    public = new_key(tmp_path / "car.pem")
    shutil.copy(public, slots / "trusted.pem")
    with pytest.raises(ModelFileError, match=r"not signed; a signature by a key of .*trusted\.pem"):
        install_model(candidates["d"], slots)
    mine = Path(shutil.copy(candidates["d"], tmp_path))
    sign_file(mine, tmp_path / "car.pem")
    with pytest.raises(ModelFileError, match=r"signed, but not by a key of .*other\.pub\.pem"):
        install_model(mine, slots, key=new_key(tmp_path / "other.pem"))
    assert roles(slots)["active"] == "b.tflite"
    assert install_model(mine, slots).signed
    assert install_model(mine, slots, key=public).signed


def test_a_disk_that_refuses_leaves_what_was_active(
    slots: Path, candidates: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OutputError, match="No space left on device"):
        install_model(candidates["d"], slots)
    with pytest.raises(OutputError, match="No space left on device"):
        rollback(slots)
    monkeypatch.undo()
    assert roles(slots)["active"] == "b.tflite" and len(list((slots / "models").iterdir())) == 3


# --- Going back -------------------------------------------------------------------------------------------------------


def test_rollback_goes_back_and_forth(slots: Path) -> None:
    assert rollback(slots).file == "a.tflite"
    assert roles(slots) == {"active": "a.tflite", "previous": "b.tflite", "shadow": "c.onnx"}
    assert rollback(slots).file == "b.tflite"


def test_rollback_needs_a_whole_file_to_go_back_to(
    tmp_path: Path, candidates: dict[str, Path], untried: None, slots: Path
) -> None:
    install_model(candidates["a"], tmp_path / "fresh")
    with pytest.raises(ModelFileError, match="no previous model"):
        rollback(tmp_path / "fresh")
    previous = next(p for p in (slots / "models").iterdir() if p.name.endswith("-a.tflite"))
    previous.write_bytes(previous.read_bytes()[:100])
    with pytest.raises(ModelFileError, match="another file than the one that was installed"):
        rollback(slots)
    assert roles(slots)["active"] == "b.tflite"


@pytest.mark.parametrize("damage", ["cut", "changed", "another", "gone"])
def test_a_damaged_active_file_is_passed_over(damage: str, slots: Path, candidates: dict[str, Path]) -> None:
    path = active_model(slots)
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-10])
    elif damage == "changed":
        path.write_bytes(content.replace(b"ramp", b"rump"))
    elif damage == "another":
        path.write_bytes(candidates["d"].read_bytes())
    else:
        path.unlink()
    told: list[str] = []
    assert active_model(slots, told.append).read_bytes() == candidates["a"].read_bytes()
    assert len(told) == 1 and str(path) in told[0] and told[0].endswith("going back to a.tflite")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2}', "active", "path"])
def test_an_unreadable_pointer_is_one_line_and_installing_is_the_way_out(
    text: str, slots: Path, candidates: dict[str, Path]
) -> None:
    body = json.loads((slots / "slots.json").read_text())
    if text == "active":
        text = json.dumps({**body, "active": "nowhere.tflite"})
    elif text == "path":
        body["models"][0]["name"] = "../../etc/passwd"
        text = json.dumps(body)
    (slots / "slots.json").write_text(text)
    with pytest.raises(ModelFileError, match=r"slots\.json: .*; install the model again") as caught:
        active_model(slots)
    assert "\n" not in str(caught.value)
    install_model(candidates["d"], slots)
    assert roles(slots) == {"active": "d.tflite"}


# --- A running drive --------------------------------------------------------------------------------------------------


def test_the_watcher_looks_once_a_second(
    slots: Path, candidates: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, looks = 0.0, 0
    watcher = SlotWatcher(slots, clock=lambda: now)
    real = SlotWatcher._mark

    def mark(self: SlotWatcher) -> object:
        nonlocal looks
        looks += 1
        return real(self)

    monkeypatch.setattr(SlotWatcher, "_mark", mark)
    for frame in range(180):
        now = frame / 60
        assert not watcher.changed()
    assert looks == 2
    install_model(candidates["d"], slots)
    assert not watcher.changed()
    now = 3.1
    assert watcher.changed()
    now = 5.0
    assert not watcher.changed()


def polled(follower: ModelReloader[str]) -> str | None:
    """What a loop would swap in."""
    follower.poll()
    follower.close()
    return follower.poll()


def test_a_running_drive_takes_the_new_file(slots: Path, candidates: dict[str, Path]) -> None:
    told: list[str] = []
    with_pilot = ModelReloader(slots, load_pilot, warn=told.append, every_s=0)
    before = with_pilot.loaded
    assert with_pilot.poll() is None
    install_model(candidates["d"], slots)
    with_pilot.poll()
    with_pilot.close()
    after = with_pilot.poll()
    assert after is with_pilot.loaded is not before and after is not None
    assert after.contract.provenance.precision == "int8" and with_pilot.path == active_model(slots)
    assert with_pilot.poll() is None and not told
    # A shadow that comes changes nothing for the one that drives.
    install_model(candidates["c"], slots, shadow=True)
    with_pilot.poll()
    with_pilot.close()
    assert with_pilot.poll() is None and with_pilot.loaded is after and not told


def test_a_new_file_that_fails_is_rolled_back_and_the_old_one_drives_on(
    slots: Path, candidates: dict[str, Path]
) -> None:
    def load(path: Path) -> str:
        if path.name.endswith("-d.tflite"):
            raise ModelFileError(f"{path}: broken on this car")
        return path.name

    told: list[str] = []
    follower = ModelReloader(slots, load, warn=told.append, every_s=0)
    install_model(candidates["d"], slots)
    assert polled(follower) is None
    assert len(told) == 1 and "broken on this car; driving on with" in told[0]
    assert roles(slots) == {"active": "b.tflite", "previous": "d.tflite", "shadow": "c.onnx"}
    assert polled(follower) is None and follower.loaded.endswith("-b.tflite")
    with pytest.raises(ModelFileError, match=r"d\.tflite is not gone back to: it did not start: broken on this car"):
        rollback(slots)
    # Installed anew it gets another chance.
    install_model(candidates["d"], slots)
    assert roles(slots)["active"] == "d.tflite"


def test_a_start_that_fails_goes_back_by_itself(slots: Path) -> None:
    def load(path: Path) -> str:
        if path.name.endswith("-b.tflite"):
            raise ContractError(f"{path}: for another car")
        return path.name

    told: list[str] = []
    follower = ModelReloader(slots, load, warn=told.append)
    assert follower.loaded.endswith("-a.tflite") and roles(slots)["active"] == "a.tflite"
    assert len(told) == 1 and "for another car; going back to" in told[0]
    slot = read_slots(slots).slot(read_slots(slots).previous)
    assert slot is not None and "for another car" in slot.failed


def test_without_another_file_the_failure_stands(tmp_path: Path, candidates: dict[str, Path], untried: None) -> None:
    def load(path: Path) -> str:
        raise ModelFileError(f"{path}: broken on this car")

    slots = tmp_path / "one"
    install_model(candidates["a"], slots)
    with pytest.raises(ModelFileError, match="broken on this car"):
        ModelReloader(slots, load, warn=pytest.fail)
    assert mark_failed(slots, active_model(slots), "broken") is None
    assert roles(slots) == {"active": "a.tflite"}
    with pytest.raises(ModelFileError, match="no model is installed"):
        ModelReloader(tmp_path / "none", load, warn=pytest.fail)


def test_a_mistake_of_the_user_is_no_fault_of_the_file(slots: Path) -> None:
    def load(path: Path) -> str:
        raise UsageError("--engine: does not run this")

    with pytest.raises(UsageError):
        ModelReloader(slots, load, warn=pytest.fail)
    assert roles(slots)["active"] == "b.tflite"


STARTING = """
import os, signal, sys
from pathlib import Path
from sepilot_runtime.device import slot_watcher
from sepilot_runtime.base.errors import ModelFileError

slots, how = Path(sys.argv[1]), sys.argv[2]
slot_watcher._TRY_LIMIT_S = 1

def load(path):
    if path.name.endswith("-b.tflite"):
        if how == "segmentation fault": os.kill(os.getpid(), signal.SIGSEGV)
        if how == "abort": os.abort()
        if how == "out of memory": os.kill(os.getpid(), signal.SIGKILL)
        if how == "exit": os._exit(9)
        if how == "hangs": signal.pause()
        if how == "error": raise ModelFileError(f"{path}: broken")
        if how == "interrupted":
            print("loading", flush=True)
            sys.stdin.read()
    return path.name

print(slot_watcher.ModelReloader(slots, load, warn=print).loaded)
"""


def start(slots: Path, how: str) -> subprocess.Popen[str]:
    """A drive's start; `how` loading the active file goes. The unit's processes are a group, as under systemd."""
    return subprocess.Popen(
        [sys.executable, "-c", STARTING, str(slots), how], text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "runtime")},
    )  # fmt: skip


def interrupt(slots: Path, number: int) -> None:
    """Begin a start, and end it while the file is loaded."""
    with start(slots, "interrupted") as begun:
        assert begun.stdout is not None and begun.stdout.readline() == "loading\n"
        os.killpg(begun.pid, number)
    assert begun.returncode


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("segmentation fault", "took its process down 3 times while it was loaded (signal 11)"),
        ("abort", "took its process down 3 times while it was loaded (signal 6)"),
        ("out of memory", "took its process down 3 times while it was loaded (signal 9)"),
        ("exit", "took its process down 3 times while it was loaded (exit code 9)"),
        ("hangs", "did not answer within 1 s while it was loaded"),
    ],
)
def test_a_file_that_takes_its_process_down_is_given_up_at_the_next_start(how: str, reason: str, slots: Path) -> None:
    if how == "hangs":  # As systemd ends a unit that does not become ready.
        interrupt(slots, signal.SIGKILL)
    else:
        assert start(slots, how).wait()
    assert roles(slots)["active"] == "b.tflite"
    with start(slots, how) as again:
        out, errors = again.communicate()
    assert again.returncode == 0 and reason in out and "going back to" in out, errors
    assert roles(slots) == {"active": "a.tflite", "previous": "b.tflite", "shadow": "c.onnx"}
    slot = read_slots(slots).slot(read_slots(slots).previous)
    assert slot is not None and slot.failed == reason


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_starts_that_were_interrupted_say_nothing_against_a_file(number: signal.Signals, slots: Path) -> None:
    """Restarts, a power switch: nothing of a power cut reaches the process, as with SIGKILL."""
    for _ in range(5):
        interrupt(slots, number)
    with start(slots, "well") as again:
        out, errors = again.communicate()
    assert again.returncode == 0, errors
    assert out.endswith("-b.tflite\n") and out.count("\n") == 1
    assert roles(slots)["active"] == "b.tflite" and not any(slot.failed for slot in read_slots(slots).models)
    assert not (slots / "starting").exists()


def test_an_error_after_an_interrupted_start_is_the_error_alone(slots: Path) -> None:
    interrupt(slots, signal.SIGKILL)
    with start(slots, "error") as again:
        out, errors = again.communicate()
    assert again.returncode == 0 and not errors
    assert "broken; going back to" in out and "took its process" not in out
    assert roles(slots)["active"] == "a.tflite"


def test_a_note_of_an_older_sepilot_is_understood(slots: Path) -> None:
    name = read_slots(slots).active
    (slots / "starting").write_text(f"{name} 3\n")
    with start(slots, "exit") as begun:
        assert "took its process down 3 times" in begun.communicate()[0]


# --- Power cuts -------------------------------------------------------------------------------------------------------

KILLER = """
import os, signal, shutil, sys
from pathlib import Path

from sepilot_runtime.device import installation, slots

installation.try_model = lambda *_, **__: None
base, work, fresh = map(Path, sys.argv[1:4])
after = 0


def cut(call, name):
    def counted(*arguments, **options):
        global after
        after -= 1
        if after == 0:
            if name == "write":
                call(arguments[0], arguments[1][: len(arguments[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return counted


for name in ("open", "write", "fsync", "close", "replace", "rename", "unlink", "mkdir"):
    setattr(os, name, cut(getattr(os, name), name))

CHANGES = {
    "first": lambda folder: installation.install_model(fresh, folder),
    "install": lambda folder: installation.install_model(fresh, folder),
    "shadow": lambda folder: installation.install_model(fresh, folder, shadow=True),
    "rollback": lambda folder: slots.rollback(folder),
    "failed": lambda folder: slots.mark_failed(folder, slots.active_model(folder), "broken"),
}
for change, run in CHANGES.items():
    step, ended = 0, False
    while not ended:
        step += 1
        folder = work / f"{change}-{step:03}"
        if change != "first":
            shutil.copytree(base, folder)
        child = os.fork()
        if child == 0:
            after = step
            run(folder)
            os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.fixture(scope="module")
def cuts(candidates: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A slots directory for each change and each file-system call in it: killed at that call, in it if it writes."""
    base, work = tmp_path_factory.mktemp("base") / "slots", tmp_path_factory.mktemp("cuts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(installation, "try_model", lambda *_, **__: None)
        for name in "ab":
            install_model(candidates[name], base)
        install_model(candidates["c"], base, shadow=True)
    env = {**os.environ, "PYTHONPATH": str(ROOT / "runtime")}
    argv = [sys.executable, "-c", KILLER, str(base), str(work), str(candidates["d"])]
    subprocess.run(argv, check=True, env=env)
    yield work
    shutil.rmtree(work)


@pytest.mark.parametrize(
    ("change", "old", "new"),
    [
        ("first", None, "d"),
        ("install", "b", "d"),
        ("shadow", "b", "b"),
        ("rollback", "b", "a"),
        ("failed", "b", "a"),
    ],
)
def test_a_kill_at_any_step_leaves_a_bootable_slot(
    change: str, old: str | None, new: str, cuts: Path, candidates: dict[str, Path], untried: None
) -> None:
    folders = sorted(cuts.glob(f"{change}-*"))
    assert len(folders) >= 8
    seen = []
    for folder in folders:
        try:
            path = active_model(folder, warn=pytest.fail)
            seen.append(next(name for name in "abcd" if candidates[name].read_bytes() == path.read_bytes()))
        except ModelFileError as e:
            assert old is None and "no model is installed" in str(e)
            seen.append("")
        # What was cut off is done by doing it again, and leaves nothing behind.
        install_model(candidates["d"], folder)
        assert roles(folder)["active"] == "d.tflite"
        named = {slot.name for slot in read_slots(folder).models}
        assert {p.name for p in (folder / "models").iterdir()} == named
        assert {p.name for p in folder.iterdir()} <= {"models", "slots.json", ".lock", ".install.lock"}
    # The old one until some step, the new one from there.
    assert seen == sorted(seen, key=lambda name: name == new) and set(seen) == {old or "", new}


def test_nothing_is_named_before_it_is_on_the_disk(
    slots: Path, candidates: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a kill cannot show: bytes that were written and not flushed are gone after a power cut."""
    names: dict[int, str] = {}
    trace: list[tuple[str, str]] = []
    real = {name: getattr(os, name) for name in ("open", "write", "fsync", "replace", "unlink")}

    def opened(path: object, *rest: object, **options: object) -> int:
        handle: int = real["open"](path, *rest, **options)
        names[handle] = Path(str(path)).name
        return handle

    def traced(name: str) -> object:
        def call(first: object, *rest: object, **options: object) -> object:
            trace.append((name, names[first] if isinstance(first, int) else Path(str(first)).name))
            return real[name](first, *rest, **options)

        return call

    monkeypatch.setattr(os, "open", opened)
    for name in ("write", "fsync", "replace", "unlink"):
        monkeypatch.setattr(os, name, traced(name))
    install_model(candidates["d"], slots)
    monkeypatch.undo()
    assert [entry for entry in trace if entry[1] not in (".lock", ".install.lock")] == [
        ("write", ".incoming.tflite"),
        ("fsync", ".incoming.tflite"),
        ("replace", ".incoming.tflite"),
        ("fsync", "models"),
        ("unlink", ".incoming.tflite"),
        ("write", ".slots.json.part"),
        ("fsync", ".slots.json.part"),
        ("replace", ".slots.json.part"),
        ("fsync", "slots"),
        ("fsync", slots.parent.name),
        ("unlink", next(name for verb, name in trace if verb == "unlink" and name.endswith("-a.tflite"))),
    ]


# --- The command line -------------------------------------------------------------------------------------------------


def test_the_verbs_on_a_car(device: Device, candidates: dict[str, Path], tmp_path: Path) -> None:
    where = ["--slots", str(tmp_path / "slots")]
    done = device.sepilot("install", str(candidates["a"]), *where)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("a.tflite: ramp float32, ") and "is active" in done.stdout
    installed = json.loads(device.sepilot("install", str(candidates["d"]), *where, "--json").stdout)
    assert installed["checksum"] == read_model_file(candidates["d"]).checksum
    table = device.sepilot("slots", *where).stdout
    assert [line.split()[0] for line in table.splitlines() if line[0] != " "] == ["ROLE", "active", "previous"]
    assert all(len(line) <= 80 for line in table.splitlines())
    assert device.sepilot("rollback", *where).stdout.startswith("a.tflite: ramp float32")
    listed = json.loads(device.sepilot("slots", *where, "--json").stdout)
    assert listed["active"].endswith("-a.tflite") and listed == dataclasses.asdict(read_slots(tmp_path / "slots")) | {
        "models": listed["models"]
    }
    for argv in (["rollback", "--slots", str(tmp_path)], ["install", str(tmp_path / "x.onnx")], ["sign"]):
        failed = device.sepilot(*argv)
        assert failed.returncode == 2 and failed.stderr.startswith("sepilot: ") and failed.stderr.count("\n") == 1


def test_signing_on_the_command_line(device: Device, candidates: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="signatures need the extra `signing`")
    mine = Path(shutil.copy(candidates["a"], tmp_path))
    key, where = tmp_path / "car.pem", ["--slots", str(tmp_path / "slots")]
    assert device.sepilot("sign", "--new-key", str(key)).returncode == 0
    assert device.sepilot("sign", str(mine), "--key", str(key)).stdout.startswith(f"{mine}: signed, sequence number ")
    done = device.sepilot("install", str(mine), *where, "--key", str(tmp_path / "car.pub.pem"))
    assert done.returncode == 0, done.stderr
    # A car without the package takes nothing that it cannot check.
    shutil.copy(tmp_path / "car.pub.pem", tmp_path / "slots" / "trusted.pem")
    done = device.sepilot("install", str(mine), *where, blocked=(*TRAINING_TOOLS, "cryptography"))
    assert done.returncode == 2
    assert done.stderr == "sepilot: cryptography is not installed; run: pip install 'sepilot[signing]'\n"


def test_help_of_the_verbs_imports_nothing_heavy(device: Device) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(device.runtime)!r})\n"
        "from sepilot_runtime.cli import main\n"
        "for verb in ('install', 'rollback', 'sign', 'slots'):\n"
        "    try: main([verb, '--help'])\n"
        "    except SystemExit as e: assert e.code == 0\n"
        "heavy = {'numpy', 'cv2', 'cryptography', 'subprocess'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = device.python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: sepilot") == 4

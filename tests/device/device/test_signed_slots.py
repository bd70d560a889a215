"""Where a key is trusted: nothing else gets in, nothing older, and going back follows the same rule."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from device.conftest import Device
from model_factory import contract_of, write_old_onnx, write_tflite
from sepilot_runtime.base.errors import ModelFileError, SepilotError
from sepilot_runtime.device import installation
from sepilot_runtime.device.doctor_system import Grade, Machine
from sepilot_runtime.device.doctor_trust import examine_trust
from sepilot_runtime.device.installation import install_model
from sepilot_runtime.device.slot_watcher import ModelReloader
from sepilot_runtime.device.slots import active_model, mark_failed, read_slots, rollback

pytest.importorskip("cryptography", reason="signatures need the extra `signing`")

from sepilot_runtime.device.signing import new_key, sign_file

Signed = Callable[[str, int], Path]


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the trial in a process of its own, which takes most of an installation's time."""
    monkeypatch.setattr(installation, "try_model", lambda *_, **__: None)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    new_key(tmp_path / "car.pem")
    return tmp_path / "car.pem"


@pytest.fixture
def signed(tmp_path: Path, key: Path) -> Signed:
    """Writes a model file of its own with a sequence number."""

    def write(name: str, sequence: int) -> Path:
        path = write_tflite(tmp_path / f"{name}.tflite", contract_of(tolerance=1e-4 * (1 + ord(name))))
        sign_file(path, key, sequence)
        return path

    return write


@pytest.fixture
def slots(tmp_path: Path, key: Path, untried: None) -> Path:
    """Empty, but for the trusted key."""
    folder = tmp_path / "slots"
    folder.mkdir()
    shutil.copy(key.with_suffix(".pub.pem"), folder / "trusted.pem")
    return folder


def roles(folder: Path) -> dict[str, str]:
    found = read_slots(folder)
    return {found.role_of(slot): slot.file for slot in found.models}


# --- The trust anchor -------------------------------------------------------------------------------------------------


def _spoil(path: Path, how: str) -> None:
    if how == "a dangling link":
        path.symlink_to("nowhere.pem")
    elif how == "a link to itself":
        path.symlink_to(path.name)
    elif how == "a directory":
        path.mkdir()
    elif how == "a pipe":
        os.mkfifo(path)
    elif how == "a device without an end":
        path.symlink_to("/dev/zero")
    elif how == "unreadable":
        path.touch(mode=0)
    else:
        path.write_bytes({"empty": b"", "garbage": b"\0\xff garbage"}[how])


ANCHORS = (
    "a dangling link", "a link to itself", "a directory", "a pipe", "a device without an end", "unreadable", "empty",
    "garbage",
)  # fmt: skip


@pytest.mark.parametrize("how", ANCHORS)
@pytest.mark.parametrize("where", ["trusted.pem", "--key"])
def test_a_key_file_that_cannot_be_read_keeps_everything_out(
    how: str, where: str, tmp_path: Path, untried: None, signed: Signed
) -> None:
    slots = tmp_path / "slots"
    unsigned = install_model(write_tflite(tmp_path / "before.tflite"), slots)
    anchor = slots / "trusted.pem" if where == "trusted.pem" else tmp_path / "key.pem"
    _spoil(anchor, how)
    for path in (signed("a", 1), write_tflite(tmp_path / "plain.tflite", contract_of(tolerance=0.02))):
        with pytest.raises(SepilotError, match=anchor.name) as caught:
            install_model(path, slots, key=anchor if where == "--key" else None)
        assert caught.value.exit_code == 2 and "\n" not in str(caught.value)
    assert roles(slots) == {"active": unsigned.file}


def test_an_unreadable_key_on_the_command_line(device: Device, tmp_path: Path, signed: Signed) -> None:
    slots, model = tmp_path / "slots", signed("a", 1)
    slots.mkdir()
    os.mkfifo(slots / "trusted.pem")
    done = device.sepilot("install", str(model), "--slots", str(slots))
    assert done.returncode == 2 and not done.stdout
    assert done.stderr == f"sepilot: {slots}/trusted.pem: cannot be read: a file expected, found a pipe\n"


# --- Sequence numbers -------------------------------------------------------------------------------------------------


def test_an_older_signed_file_is_refused(slots: Path, signed: Signed) -> None:
    first, second = signed("a", 10), signed("b", 20)
    assert install_model(first, slots).sequence == 10
    install_model(second, slots)
    assert read_slots(slots).sequence == 20
    for path, number in ((first, 10), (signed("c", 19), 19), (signed("d", 20), 20)):
        with pytest.raises(ModelFileError) as caught:
            install_model(path, slots)
        assert str(caught.value) == (
            f"{path}: not installed: a sequence number above 20, the highest so far, expected, found {number}; "
            "sign it anew, or say --allow-older"
        )
        with pytest.raises(ModelFileError, match="above 20, the highest so far, expected"):
            install_model(path, slots, shadow=True)
    assert roles(slots) == {"active": "b.tflite", "previous": "a.tflite"}
    # What runs may be installed once more.
    install_model(second, slots)
    # Told to, it takes the older one, and still knows what the newest was.
    install_model(first, slots, older=True)
    assert roles(slots) == {"active": "a.tflite", "previous": "b.tflite"} and read_slots(slots).sequence == 20
    install_model(second, slots)
    assert roles(slots)["active"] == "b.tflite"


def test_what_looks_on_counts_and_may_be_promoted(slots: Path, signed: Signed) -> None:
    install_model(signed("a", 10), slots)
    shadow = signed("b", 20)
    install_model(shadow, slots, shadow=True)
    with pytest.raises(ModelFileError, match="above 20, the highest so far, expected"):
        install_model(signed("c", 15), slots)
    install_model(shadow, slots)
    assert roles(slots) == {"active": "b.tflite", "previous": "a.tflite"}


def test_a_file_of_the_older_format_counts_as_number_0(slots: Path, signed: Signed, key: Path, tmp_path: Path) -> None:
    old = write_old_onnx(tmp_path / "old.onnx", key)
    with pytest.raises(
        ModelFileError, match=r"above 0, .* expected, found none, as of an older sepilot; export and sign"
    ):
        install_model(old, slots)
    assert install_model(old, slots, older=True).sequence == 0
    install_model(signed("a", 1), slots)
    with pytest.raises(ModelFileError, match="above 1, the highest so far, expected, found none"):
        install_model(old, slots)


def test_without_a_key_numbers_mean_nothing(tmp_path: Path, untried: None, signed: Signed) -> None:
    """Anybody could have written them."""
    slots = tmp_path / "slots"
    for path in (signed("a", 20), signed("b", 10)):
        assert not install_model(path, slots).signed
    assert roles(slots)["active"] == "b.tflite" and read_slots(slots).sequence == 0


def test_slots_of_an_older_sepilot_are_read(slots: Path, signed: Signed) -> None:
    install_model(signed("a", 10), slots)
    body = json.loads((slots / "slots.json").read_text())
    del body["sequence"], body["models"][0]["sequence"]
    (slots / "slots.json").write_text(json.dumps({**body, "version": 1}))
    found = read_slots(slots)
    assert found.version == 2 and found.sequence == 0 and found.models[0].signed
    assert active_model(slots).name == found.active
    install_model(signed("b", 5), slots)
    assert read_slots(slots).sequence == 5 and roles(slots)["previous"] == "a.tflite"


# --- Going back -------------------------------------------------------------------------------------------------------


def test_rollback_to_the_signed_file_before_passes_and_is_said(slots: Path, signed: Signed) -> None:
    install_model(signed("a", 10), slots)
    install_model(signed("b", 20), slots)
    told: list[str] = []
    assert rollback(slots, warn=told.append).file == "a.tflite"
    assert told == ["a.tflite is older (sequence number 10) than the newest that was installed (20)"]
    assert read_slots(slots).sequence == 20
    assert rollback(slots, warn=told.append).file == "b.tflite" and len(told) == 1


@pytest.fixture
def unsigned_before(tmp_path: Path, untried: None, signed: Signed, key: Path) -> Path:
    """`b`, signed, active; `a`, unsigned, previous: the key came in between."""
    folder = tmp_path / "slots"
    install_model(write_tflite(tmp_path / "a.tflite"), folder)
    shutil.copy(key.with_suffix(".pub.pem"), folder / "trusted.pem")
    install_model(signed("b", 20), folder)
    return folder


def test_rollback_to_an_unsigned_file_needs_a_word(unsigned_before: Path) -> None:
    words = (
        r"a\.tflite is not gone back to: not signed; a signature by a key of .*trusted\.pem expected; "
        "to go back all the same: sepilot rollback --unsigned"
    )
    with pytest.raises(ModelFileError, match=words):
        rollback(unsigned_before)
    (unsigned_before / "trusted.pem").write_text("garbage")
    with pytest.raises(ModelFileError, match=r"a\.tflite is not gone back to: .*trusted\.pem: public Ed25519 keys"):
        rollback(unsigned_before)
    assert roles(unsigned_before)["active"] == "b.tflite"
    assert rollback(unsigned_before, unsigned=True).file == "a.tflite"


def test_a_key_that_is_trusted_no_more_signs_nothing_that_is_gone_back_to(
    slots: Path, signed: Signed, tmp_path: Path
) -> None:
    install_model(signed("a", 10), slots)
    shutil.copy(new_key(tmp_path / "next.pem"), slots / "trusted.pem")
    newer = write_tflite(tmp_path / "n.tflite", contract_of(tolerance=0.03))
    sign_file(newer, tmp_path / "next.pem", 20)
    install_model(newer, slots)
    with pytest.raises(ModelFileError, match="signed, but not by a key of"):
        rollback(slots)


def test_going_back_by_itself_follows_the_rule(unsigned_before: Path) -> None:
    told: list[str] = []
    assert mark_failed(unsigned_before, active_model(unsigned_before), "broken", told.append) is None
    assert len(told) == 1 and "a.tflite is not gone back to: not signed" in told[0]

    def load(path: Path) -> str:
        raise ModelFileError(f"{path}: broken on this car")

    with pytest.raises(ModelFileError, match="broken on this car"):
        ModelReloader(unsigned_before, load, warn=told.append)
    assert len(told) == 2 and "a.tflite is not gone back to: not signed" in told[1]
    active_model(unsigned_before).write_bytes(b"damaged")
    with pytest.raises(ModelFileError, match=r"another file than .*; .*a\.tflite is not gone back to: not signed"):
        active_model(unsigned_before)
    assert roles(unsigned_before)["active"] == "b.tflite"


def test_a_signed_file_is_gone_back_to_by_itself(slots: Path, signed: Signed) -> None:
    install_model(signed("a", 10), slots)
    install_model(signed("b", 20), slots)
    active_model(slots).write_bytes(b"damaged")
    told: list[str] = []
    assert active_model(slots, told.append).name.endswith("-a.tflite") and "going back to a.tflite" in told[0]
    back = mark_failed(slots, Path(read_slots(slots).active or ""), "broken", pytest.fail)
    assert back is not None and back.name.endswith("-a.tflite")


def test_rollback_to_a_file_that_did_not_start_needs_a_word(slots: Path, signed: Signed) -> None:
    install_model(signed("a", 10), slots)
    install_model(signed("b", 20), slots)
    mark_failed(slots, active_model(slots), "broken on this car")
    with pytest.raises(ModelFileError) as caught:
        rollback(slots)
    assert str(caught.value) == (
        f"{slots}: b.tflite is not gone back to: it did not start: broken on this car; "
        "to go back all the same: sepilot rollback --failed"
    )
    assert rollback(slots, failed=True).file == "b.tflite"
    assert all(not slot.failed for slot in read_slots(slots).models)


# --- The doctor -------------------------------------------------------------------------------------------------------


def test_the_doctor_says_what_is_trusted(unsigned_before: Path, tmp_path: Path, key: Path) -> None:
    def looked(slots: Path = unsigned_before) -> tuple[Grade, str]:
        finding = examine_trust(Machine(slots=slots))
        assert (finding.level is Grade.OK) is not bool(finding.advice)
        return finding.level, finding.found

    assert looked() == (Grade.OK, f"only files are installed that the key of {unsigned_before}/trusted.pem signed")
    level, found = looked(tmp_path / "nowhere")
    assert level is Grade.OK and found.endswith("trusted.pem: every whole file is installed")
    rollback(unsigned_before, unsigned=True)
    level, found = looked()
    assert level is Grade.ADVICE and "what is active came before" in found and "not signed" in found
    unsigned_before.chmod(0o777)
    level, found = looked()
    assert level is Grade.PROBLEM and found == f"{unsigned_before}: every user of this machine may change it"
    unsigned_before.chmod(0o755)
    (unsigned_before / "trusted.pem").unlink()
    (unsigned_before / "trusted.pem").symlink_to("nowhere")
    level, found = looked()
    assert level is Grade.PROBLEM and "nothing is installed: " in found and "trusted.pem: cannot be read" in found


# --- The command line -------------------------------------------------------------------------------------------------


def test_the_verbs_say_the_numbers(device: Device, tmp_path: Path, key: Path) -> None:
    where = ["--slots", str(tmp_path / "slots")]
    (tmp_path / "slots").mkdir()
    shutil.copy(key.with_suffix(".pub.pem"), tmp_path / "slots" / "trusted.pem")
    models = [
        write_tflite(tmp_path / "a.tflite"), write_tflite(tmp_path / "b.tflite", contract_of(tolerance=0.02)),
    ]  # fmt: skip
    for number, path in enumerate(models, 7):
        done = device.sepilot("sign", str(path), "--key", str(key), "--sequence", str(number))
        assert done.stdout == f"{path}: signed, sequence number {number}\n", done.stderr
        assert device.sepilot("install", str(path), *where).returncode == 0
    refused = device.sepilot("install", str(models[0]), *where)
    assert refused.returncode == 2 and "above 8, the highest so far, expected, found 7" in refused.stderr
    back = device.sepilot("rollback", *where)
    assert back.returncode == 0
    assert back.stderr == ("warning: a.tflite is older (sequence number 7) than the newest that was installed (8)\n")
    table = device.sepilot("slots", *where).stdout
    assert table.count("signed, sequence number") == 2
    assert table.endswith("Highest sequence number that was installed: 8\n")
    assert device.sepilot("install", str(models[0]), *where, "--allow-older").returncode == 0
    assert device.sepilot("sign", str(models[0]), "--key", str(key), "--sequence", "0").returncode == 2

"""Changes model files and contracts in many ways, and loads each result in a subprocess.

Five kinds of change:

    bytes        of the file (bits, blocks, cuts, insertions, digits of the seal); its checksum stays
    contract     another text, put in by the exporter's own code with a checksum that fits; its digest stays
    consistent bytes, consistent contract
                 the same, with every checksum and digest made to fit, as somebody does on purpose

    hostile contract
                 one rule or cap of the contract broken, with checksum and digest made to fit

Of the first two and the last none may be accepted, crash, hang or take more than 1 GB. The others can be other valid files (a changed note in the
contract, a weight moved by less than the golden frames notice) and may crash or hang an interpreter, which is why
`sepilot install` tries files in a process of its own; what tells them from the original is the signature, which is
checked here.

Loading is `load_pilot`: checksum, contract, tensors, golden frames. Exit code 1 if anything happened that may not.
"""

from __future__ import annotations

import argparse
import base64
import concurrent.futures
import contextlib
import copy
import hashlib
import json
import os
import random
import resource
import select
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sepilot_export.convert.embed import put_onnx_metadata, put_tflite_metadata
from sepilot_runtime.contract.contract import METADATA_KEY
from sepilot_runtime.base.errors import ModelFileError, SepilotError
from sepilot_runtime.base.files import write_json
from sepilot_runtime.engine.checksum import (
    BLANK_SEAL, SEAL_KEY, sequence_of, signature_of, with_sequence, with_signature,
)  # fmt: skip
from sepilot_runtime.engine.model_file import read_model_file
from sepilot_runtime.engine.pilot import load_pilot
from sepilot_runtime.device.signing import new_key, require_signature, sign_file

#: Kind of change to its share.
SHARES = {
    "bytes": 0.50, "contract": 0.15, "consistent bytes": 0.15, "consistent contract": 0.10, "hostile contract": 0.10
}
FITTING = ("consistent bytes", "consistent contract")
OUTCOMES = ("refused", "accepted", "crashed", "hung")
BATCH = 1000
SILENCE_S = 20.0
MEMORY_BYTES = 1 << 30


def main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)
    if arguments.worker:
        return work(arguments.files, *map(int, arguments.worker), seed=arguments.seed)
    with tempfile.TemporaryDirectory(prefix="sepilot-fuzz-") as folder:
        files = signed_copies(arguments.files, Path(folder))
        begin = time.perf_counter()
        counts, notes = run(files, arguments.count, arguments.seed, arguments.workers)
        seconds = time.perf_counter() - begin
    print(table(counts, seconds))
    for note in notes:
        print(note)
    if arguments.json:
        found = {kind: {o: counts[kind, o] for o in (*OUTCOMES, "unsigned")} for kind in SHARES}
        write_json(arguments.json, {"count": arguments.count, "seconds": round(seconds, 1), "kinds": found})
    bad = sum(counts[kind, outcome] for kind in SHARES if kind not in FITTING for outcome in OUTCOMES[1:])
    bad += sum(counts[kind, "accepted"] - counts[kind, "unsigned"] for kind in FITTING)
    return 1 if bad or sum(counts[kind, o] for kind in SHARES for o in OUTCOMES) != arguments.count else 0


def signed_copies(files: Sequence[Path], folder: Path) -> list[Path]:
    """The files with a signature, and the public key as key.pub.pem beside them."""
    new_key(folder / "key.pem")
    copies = []
    for index, file in enumerate(files):
        copies.append(folder / f"{index}{file.suffix}")
        copies[-1].write_bytes(file.read_bytes())
        sign_file(copies[-1], folder / "key.pem")
        load_pilot(copies[-1])
    return copies


# --- The parent: starts workers, and notices when one dies or falls silent --------------------------------------------


def run(files: Sequence[Path], count: int, seed: int, workers: int) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Load `count` changed files; counts by kind and outcome, and one line about each worker that was lost."""
    counts: Counter[tuple[str, str]] = Counter()
    notes: list[str] = []
    batches = [(first, min(first + BATCH, count)) for first in range(0, count, BATCH)]
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for lines, lost in pool.map(lambda batch: _batch(files, *batch, seed=seed), batches):
            counts.update(lines)
            notes += lost
            if sys.stderr.isatty():
                print(f"\r{sum(counts[k, o] for k in SHARES for o in OUTCOMES)} of {count}", end="", file=sys.stderr)
    return counts, notes


def _batch(files: Sequence[Path], first: int, end: int, *, seed: int) -> tuple[list[tuple[str, str]], list[str]]:
    lines: list[tuple[str, str]] = []
    notes = []
    while first < end:
        for outcomes, how in _worker(files, first, end, seed):
            kind = kind_of(first, seed)
            lines += [(kind, outcome) for outcome in outcomes]
            if how:
                notes.append(f"{kind}: number {first} of seed {seed} {how}")
            first += 1
    return lines, notes


def _worker(files: Sequence[Path], first: int, end: int, seed: int) -> Iterator[tuple[list[str], str]]:
    """Outcomes of one file after the other; the last is "crashed" or "hung" where the worker did not get to the end."""
    command = [sys.executable, __file__, *map(str, files), "--seed", str(seed), "--worker", str(first), str(end)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        buffer, at = b"", first
        while at < end:
            ready, _, _ = select.select([process.stdout], [], [], SILENCE_S)
            chunk = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
            buffer += chunk
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                yield line.decode().split(","), ""
                at += 1
            if not chunk:
                process.kill()
                code = process.wait()
                if at < end:
                    yield (
                        (["crashed"], f"ended with {code}") if ready else (["hung"], f"said nothing for {SILENCE_S} s")
                    )
                return


# --- The worker -------------------------------------------------------------------------------------------------------


def work(files: Sequence[Path], first: int, end: int, *, seed: int) -> int:
    """Change and load files number `first` to `end`, and print a line for each: the outcome, and if it is unsigned.

    Anything but a SepilotError ends the worker, and the parent counts a crash.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    originals = [(file, file.read_bytes(), read_model_file(file).contract.to_json()) for file in files]
    with tempfile.TemporaryDirectory(prefix="sepilot-fuzz-worker-") as folder:
        for index in range(first, end):
            rng = random.Random(f"{seed}/{index}")
            file, content, contract = originals[rng.randrange(len(originals))]
            path = Path(folder) / f"changed{file.suffix}"
            path.write_bytes(changed(kind_of(index, seed), rng, file, content, contract))
            print(",".join(outcome(path, file.parent / "key.pub.pem")), flush=True)
    return 0


def outcome(path: Path, keys: Path) -> list[str]:
    """What becomes of a file."""
    try:
        load_pilot(path)
    except SepilotError as e:
        assert "\n" not in str(e)
        return ["refused"]
    with contextlib.suppress(ModelFileError):
        require_signature(read_model_file(path), keys)
        return ["accepted"]
    return ["accepted", "unsigned"]


def kind_of(index: int, seed: int) -> str:
    """The kind of change of file number `index`."""
    return random.Random(f"{seed}/{index}/kind").choices(list(SHARES), list(SHARES.values()))[0]


def changed(kind: str, rng: random.Random, file: Path, content: bytes, contract: str) -> bytes:
    """The file with a change of this kind; never the file itself."""
    text = contract
    while True:
        if "bytes" in kind:
            result = rng.choice(BYTE_CHANGES)(rng, content)
        else:
            hostile = kind == "hostile contract"
            text = contract_hostile(rng, contract) if hostile else contract_changed(rng, contract, fitting=kind in FITTING)
            put = put_tflite_metadata if file.suffix == ".tflite" else put_onnx_metadata
            result = with_sequence(put(content, {METADATA_KEY: text, SEAL_KEY: BLANK_SEAL}), sequence_of(content))
        if kind != "bytes":
            # The signature of the original is the best that somebody without the key can do. A file without a whole
            # seal stays without.
            with contextlib.suppress(ModelFileError):
                result = with_signature(result, signature_of(content) or b"")
        if result != content and (text != contract or "bytes" in kind):
            return result


# --- Changes ----------------------------------------------------------------------------------------------------------


def _bits(rng: random.Random, content: bytes) -> bytes:
    spoilt = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def _bytes(rng: random.Random, content: bytes) -> bytes:
    spoilt = bytearray(content)
    # Offsets and sizes stand in the first part of a FlatBuffer.
    end = len(spoilt) if rng.random() < 0.5 else min(len(spoilt), 4096)
    for _ in range(rng.choice((1, 2, 4))):
        spoilt[rng.randrange(end)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(spoilt)


def _cut(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def _without(rng: random.Random, content: bytes) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + content[at + rng.choice((1, 4, 64, 4096)) :]


def _inserted(rng: random.Random, content: bytes) -> bytes:
    at = rng.choice((0, len(content), rng.randrange(len(content))))
    return content[:at] + rng.randbytes(rng.choice((1, 4, 64, 4096))) + content[at:]


def _swapped(rng: random.Random, content: bytes) -> bytes:
    size = rng.choice((4, 64, 512, 4096))
    a, b = sorted(rng.randrange(max(1, len(content) // size)) * size for _ in range(2))
    if b < a + size:
        return content
    return content[:a] + content[b : b + size] + content[a + size : b] + content[a : a + size] + content[b + size :]


def _blank(rng: random.Random, content: bytes) -> bytes:
    size, at = rng.choice((4, 512, 4096)), rng.randrange(len(content))
    fill = rng.choice((b"\0", b"\xff")) * len(content[at : at + size])
    return content[:at] + fill + content[at + size :]


def _seal_digit(rng: random.Random, content: bytes) -> bytes:
    at = content.index(b"sepilot-seal:") + rng.randrange(len(BLANK_SEAL))
    return content[:at] + rng.choice(b"0123456789abcdefABCDEF:").to_bytes() + content[at + 1 :]


def _metadata_digit(rng: random.Random, content: bytes) -> bytes:
    places = [at for at in range(content.index(b'{"digest"'), content.rindex(b"}")) if content[at : at + 1].isdigit()]
    at = rng.choice(places)
    return content[:at] + str(rng.randrange(10)).encode() + content[at + 1 :]


BYTE_CHANGES: Sequence[Callable[[random.Random, bytes], bytes]] = (
    _bits, _bytes, _cut, _without, _inserted, _swapped, _blank, _seal_digit, _metadata_digit,
)  # fmt: skip

STRANGE: Sequence[Any] = (
    None, True, 0, -1, 1, 10**30, 1e308, float("nan"), float("inf"), 0.5, "", "steering", "0" * 64, "ä\n", [], {}, [[]],
    {"a": 1}, [1, 2, 3],
)  # fmt: skip


def contract_changed(rng: random.Random, text: str, *, fitting: bool) -> str:
    """The contract with a key removed, added, renamed or changed; `fitting`: with a digest that fits."""
    body = json.loads(text)
    digest = body.pop("digest")
    for _ in range(rng.choice((1, 1, 2))):
        _change_value(rng, body)
    if fitting:
        digest = _digest(body)
    result = json.dumps({**body, "digest": digest}, sort_keys=True, separators=(",", ":"))
    if not fitting and rng.random() < 0.1:
        return rng.choice(("", "{}", "[]", "null", "[" * 50_000, result[: len(result) // 2], result + "}"))
    return result


def _png(height: int, width: int) -> str:
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height)
    return base64.b64encode(head + b"\x08\x02" + bytes(64)).decode()


#: Place in a contract to values that break a rule or a cap there.
HOSTILE: dict[tuple[str | int, ...], Sequence[Any]] = {
    ("outputs", 0, "positive"): ("left", "up", "Right", [], {}),
    ("outputs", 0, "unit"): ("\x1b[2J", 3),
    ("outputs", 0, "kind"): ("boxes", [], {}, 10**400),
    ("inputs", 0, "kind"): ("vector", [], {}, 10**400),
    ("outputs", 0, "scale"): (1e308, 10**400, 0, -25, 1e9),
    ("outputs", 0, "low"): (5, 0, -1e9, 10**400, 1),
    ("outputs", 0, "high"): (9, 0, 1e-9, -1),
    ("outputs",): ([], [{"name": "steering"}] * 100_000),
    ("inputs", 0, "height"): (0, 16_000, 10**30),
    ("inputs", 0, "width"): (-1, 16_000),
    ("inputs", 0, "crop_top"): (1.0, -0.1, 10**400),
    ("frame",): ({"height": 9000, "width": 9000}, {"height": 1 << 40, "width": 1, "name": "frame"}),
    ("golden", 0, "frame_png"): (_png(16_000, 16_000), _png(0, 5), "AAAA", "R0lGODlh" * 8, "A" * 900_000, "\ud800"),
    ("golden",): (
        [{"expected": {"steering": 0.0}, "frame_png": "", "picture_crc32": 0}] * 10_000,
        [[]] * 100_000,
        {},
    ),
    ("golden", 0, "expected"): (
        {}, {"steering": [10**400]}, {"steering": [0.0], "brake": [0.0]}, {"steering": [0.0, 0.0]},
    ),
    ("tolerance", "steering"): (10**400, 0, 1, -1e-4),
    ("provenance", "recipe"): ("\x1b]0;x\x07", "\u202eabc", "\ud800", "a\nb", "x" * 5000, "\x9b2J"),
    ("provenance", "drives"): (["\x1b[2J"], ["a"] * 40_000, [["a"]] * 5),
    ("provenance", "versions"): ({"\x1b[2J": "1"}, {str(i): "1" for i in range(40_000)}),
    ("provenance", "created"): ("x" * (50 << 20), "\u2028"),
    ("statistics",): ({"brightness": [9, 1, 1], "contrast": [1, 1, 1], "sharpness": [1, 1, 1]}, [0] * 100_000),
    ("version",): ("3.0", "", 10**400, "\x1b"),
}


def contract_hostile(rng: random.Random, text: str) -> str:
    """The contract with one rule or cap broken, and a digest that fits."""
    body = json.loads(text)
    del body["digest"]
    place = rng.choice(list(HOSTILE))
    holder: Any = body
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = rng.choice(HOSTILE[place])
    return json.dumps({**body, "digest": _digest(body)}, sort_keys=True, separators=(",", ":"))


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _change_value(rng: random.Random, body: dict[str, Any]) -> None:
    """Change something at some depth."""
    holder: Any = body
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.8:
            holder = holder[key]
            continue
        break
    change = rng.choice(("remove", "add", "strange", "near"))
    value = copy.deepcopy(holder[key])
    if change == "remove":
        del holder[key]
    elif change == "add":
        holder.append(value) if isinstance(holder, list) else holder.update({f"{key}s": value})
    elif change == "near" and isinstance(value, int | float) and not isinstance(value, bool):
        holder[key] = value * rng.choice((0.5, 0.99, 1.01, 2, -1)) + rng.choice((0, 0.01, 1))
    elif change == "near" and isinstance(value, str) and value:
        at = rng.randrange(len(value))
        holder[key] = value[:at] + chr(rng.randrange(32, 127)) + value[at + 1 :]
    else:
        holder[key] = copy.deepcopy(rng.choice(STRANGE))


def table(counts: Counter[tuple[str, str]], seconds: float) -> str:
    """Counts by kind, as text."""
    rows = [f"{'CHANGED':<20}{'FILES':>8}" + "".join(f"{o.upper():>10}" for o in OUTCOMES) + f"{'UNSIGNED':>10}"]
    for kind in SHARES:
        found = [counts[kind, outcome] for outcome in OUTCOMES]
        rows.append(f"{kind:<20}{sum(found):>8}" + "".join(f"{n:>10}" for n in found))
        rows[-1] += f"{counts[kind, 'unsigned']:>10}"
    total = sum(counts[kind, outcome] for kind in SHARES for outcome in OUTCOMES)
    rows.append(f"{total} files in {seconds:.0f} s. UNSIGNED: accepted, but the signature tells that it was changed.")
    return "\n".join(rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="exported .tflite and .onnx files")
    parser.add_argument("--count", type=int, default=50_000, metavar="N", help="changed files (default 50000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes at a time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts here")
    parser.add_argument("--worker", nargs=2, metavar=("FIRST", "END"), help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except SepilotError as error:
        print(f"fuzz-models: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from error

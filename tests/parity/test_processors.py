"""The processor matrix: files keep their gates on other classes of processors, and one that does not is caught there.

The x86-64 classes run under qemu-user-static; without it these tests are skipped by name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hardest import hardest_frames
from processor_runs import ask
from processors import PROCESSORS

from emulation import under
from export_factory import write_record
from model_factory import PICTURE, contract_of, frames, steering_of, write_qdq_onnx, write_tflite
from parity.bar_nets import Bench
from repository import ROOT
from sepilot_export.convert.formats import format_named
from sepilot_export.verify.reference import REFERENCE_NAME, Reference
from sepilot_runtime.contract.preprocess import picture_of

SCRIPT = ROOT / "scripts" / "check_processors.py"
X86 = "Nehalem,Haswell,AVX-512"
EVERY = [p.name for p in PROCESSORS]


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """An export whose int8.onnx has full 8-bit weights with sums that saturate; the twin's place takes 7 bits."""
    folder = tmp_path / "export"
    folder.mkdir()
    write_tflite(folder / "ramp-float32.tflite")
    write_qdq_onnx(folder / "ramp-int8.onnx")
    write_qdq_onnx(folder / "ramp-int8-twin.onnx", weight_bits=7)
    pictures = np.stack([picture_of(f, PICTURE) for f in frames(150, seed=1)])
    predictions = np.array([steering_of(p) for p in pictures], np.float32)
    Reference(
        pictures=pictures,
        drives=("held",) * len(pictures),
        names=tuple(f"{i}.jpg" for i in range(len(pictures))),
        labels={"steering": predictions},
        predictions={"steering": predictions},
        constant={"steering": 0.0},
        contract=contract_of(),
    ).save(folder / REFERENCE_NAME)
    limits = {**format_named("int8.onnx").limits, "max_error": 0.02}
    names = ("float32.tflite", "int8.onnx", "int8-twin.onnx")
    write_record(folder, [{"format": name, "limits": limits, "sha256": ""} for name in names])
    return folder


def check_processors(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), *words],
        capture_output=True, text=True, timeout=280, env={**os.environ, **environment},
    )  # fmt: skip


def cells_of(path: Path) -> dict[tuple[str, str], Any]:
    return {(c["row"], c["processor"]): c for c in json.loads(path.read_text())["cells"]}


def test_sums_that_saturate_are_caught_on_the_processor_where_they_do(planted: Path, tmp_path: Path) -> None:
    """`vpmaddubsw` adds in 16 bits. ONNX Runtime uses it where there is AVX2 and no VNNI, OpenVINO without AVX2 too."""
    under("Haswell")
    done = check_processors(planted, "--processors", X86, "--frames", "20", "--json", str(tmp_path / "found.json"))
    assert done.returncode == 1, done.stdout + done.stderr
    cells = cells_of(tmp_path / "found.json")
    failing = {key for key, cell in cells.items() if cell["reasons"]}
    in_openvino = {("int8.onnx, OpenVINO", "Nehalem"), ("int8.onnx, OpenVINO", "Haswell")} & cells.keys()
    assert failing == {("int8.onnx", "Haswell")} | in_openvino
    reasons = " ".join(cells["int8.onnx", "Haswell"]["reasons"])
    assert "golden frame" in reasons and "max error" in reasons
    assert {cells["pixels", name]["text"] for name in ("Nehalem", "Haswell")} == {"identical"}
    assert "FAIL int8.onnx, Haswell: golden frame 0" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.count("emulated") >= 2


@pytest.mark.parametrize("name", ["Nehalem", "Haswell"])
@pytest.mark.parametrize("form", ["int8.tflite", "int8.onnx", "int8-twin.onnx", "float32.onnx", "float32.tflite"])
def test_exported_files_keep_their_gates(v27: Bench, form: str, name: str) -> None:
    candidate, reference = v27.candidate(form), v27.reference
    picked = hardest_frames(np.zeros((1, 500)), reference.predictions["steering"], 40)
    answers = under(name).answers(candidate.path, reference.pictures[picked])
    error = np.abs(answers.clip(-1, 1) - reference.predictions["steering"][picked].clip(-1, 1)).max()
    assert error <= candidate.limits["steering"]["max_error"]


PICTURES = """
import sys, zlib
import numpy as np
from sepilot_runtime.contract.contract import Contract
from sepilot_runtime.contract.preprocess import Preprocessor
made = Preprocessor(Contract.from_json(sys.argv[1], "contract").picture)
for height, width in ((480, 640), (120, 160)):
    frame = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    print(zlib.crc32(made.picture_of(frame).tobytes()))
"""


@pytest.mark.parametrize("name", EVERY)
def test_pictures_are_the_same_on_every_processor(name: str) -> None:
    contract = contract_of()
    if name.startswith("Cortex") and contract.picture.resize == "linear":
        pytest.skip(f"{name}: a linear resize is not the same on aarch64")
    here = subprocess.run(
        [sys.executable, "-c", PICTURES, contract.to_json()], capture_output=True, text=True, check=True
    )
    assert under(name).python(PICTURES, contract.to_json()) == here.stdout


FAKE = """
import json, os, signal, sys
for job in sys.argv[3:]:
    if job == "bad":
        os.kill(os.getpid(), signal.SIGSEGV)
    print(json.dumps({"job": job, "answers": [0.0], "golden": None}), flush=True)
"""


def test_a_crash_loses_one_file(tmp_path: Path) -> None:
    found = ask([sys.executable, "-c", FAKE], tmp_path / "none.npz", ["a", "bad", "b"], 60)
    assert found["bad"] == {"error": "the process died of signal 11", "crashed": True}
    assert found["a"]["answers"] == found["b"]["answers"] == [0.0]


MUTE = """
shift
for job; do
    [ "$job" != mute ] || exec sleep 60
    echo "{\\"job\\": \\"$job\\"}"
done
"""


def test_silence_loses_one_file(tmp_path: Path) -> None:
    """What hangs is ended, and the files after it still have their turn."""
    found = ask(["sh", "-c", MUTE], tmp_path / "none.npz", ["a", "mute", "b"], 3)
    assert found == {"a": {}, "mute": {"error": "no answer within 3 s", "crashed": True}, "b": {}}


def test_the_hardest_frames_are_chosen() -> None:
    rng = np.random.default_rng(0)
    predictions, errors = rng.uniform(-0.5, 0.5, 1000), rng.uniform(0, 0.1, (3, 1000))
    predictions[[100, 800]] = -1, 1
    errors[[0, 1, 2], [200, 202, 600]] = 0.2, 0.3, 0.4
    chosen = hardest_frames(errors, predictions, 60)
    assert len(chosen) == len(set(chosen.tolist())) == 60
    assert {100, 800, 200, 202, 600} <= set(chosen.tolist())
    assert np.abs(np.histogram(chosen, 4, (0, 1000))[0] - 15).max() <= 12, "from all over the drives"
    assert hardest_frames(errors, predictions, 0).tolist() == list(range(1000))
    assert len(hardest_frames(errors[:, :70], predictions[:70], 60)) == 60


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--processors", "Haswell"], "qemu-x86_64-static is missing; run: apt-get install qemu-user-static"),
        (["--processors", "Cortex-A72"], "missing; run: apt-get install qemu-user-static debootstrap"),
        (["--processors", "486"], "--processors: some of Nehalem, Haswell, AVX-512, Cortex-A72, Cortex-A76 expected"),
        (["--files", "int8.tflite", "--processors", "AVX-512"], "has none of these"),
    ],
)
def test_what_cannot_run_is_said_in_one_line(planted: Path, words: list[str], said: str) -> None:
    done = check_processors(planted, *words, PATH="/none")
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr and len(done.stderr.splitlines()) == 1

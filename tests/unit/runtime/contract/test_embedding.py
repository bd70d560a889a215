"""Vectors that are compared: arithmetic by hand, gates with the faults that they are to catch, galleries."""

from __future__ import annotations

import dataclasses
import json
import stat
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model_factory import contract_of
from sepilot_runtime.base.errors import ContractError, UsageError
from sepilot_runtime.contract.contract import Contract, Golden
from sepilot_runtime.contract.outputs.embedding.gallery import Gallery, gallery_for, read_gallery
from sepilot_runtime.contract.outputs.embedding.output import Embedding
from sepilot_runtime.contract.outputs.embedding.recognition import Recognizer, recognize
from sepilot_runtime.contract.outputs.embedding.task import identity_number, normalized
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.outputs.protocol import Evidence, GateRule

FACE = Embedding(name="face", size=8, threshold=0.6)
TASK = task_of(FACE)

Vectors = NDArray[np.float64]


def people(count: int = 10, each: int = 10, seed: int = 0) -> tuple[Vectors, NDArray[np.float32]]:
    """Vectors (n, 8) of all lengths about a direction for each person, and who it is."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count, dtype=np.float32), each)
    directions = random.normal(size=(count, 8))[labels.astype(int)] + 0.15 * random.normal(size=(len(labels), 8))
    return directions * random.uniform(0.5, 20, (len(labels), 1)), labels


def gates_kept(said: Vectors, expected: Vectors, labels: NDArray[np.float32]) -> dict[str, bool]:
    count = len(said)
    pictures = np.zeros((count, 1, 1, 1), np.uint8)
    found = Evidence(said=said, expected=expected, labels=labels, drives=["a"] * count, pictures=pictures)

    def kept(rule: GateRule) -> bool:
        return not rule.fault(rule.figure(found), rule.limits["int8"], count)

    return {rule.name: kept(rule) for rule in TASK.gates()}


def test_what_json_holds_is_of_length_one_whatever_the_model_gave() -> None:
    raw = np.array([3, 0, 0, -4, 0, 0, 0, 0], np.float32)
    assert TASK.decode(raw) == TASK.decode(raw * 100) == {"vector": [0.6, 0, 0, -0.8, 0, 0, 0, 0]}
    assert TASK.decode(raw * 0) == {"vector": [0.0] * 8}


def test_distance_goes_by_the_direction_and_deviation_by_the_length_too() -> None:
    a, b = np.eye(8)[:1], np.eye(8)[1:2]
    assert TASK.distance(a, 5 * a) == pytest.approx([0]) and TASK.distance(a, b) == pytest.approx([1])
    # Planted: a file that normalizes by itself. Its golden answers are others.
    assert TASK.deviation(a, a) == [0] and TASK.deviation(5 * a, a)[0] > 1


def test_the_error_of_a_picture_is_whether_the_nearest_other_one_is_of_another_identity() -> None:
    said = np.array([[1, 0], [0.9, 0.1], [0.2, 1], [0.8, 0.2], [0, 1]])
    task = task_of(Embedding(name="face", size=2))
    labels = np.array([7, 7, 9, 9, np.nan], np.float32)
    # The fourth lies beside the second; the last one is nobody's neighbour, as nobody knows who it is.
    assert task.error(said, labels)[:4].tolist() == [0, 0, 0, 1] and np.isnan(task.error(said, labels)[4])
    assert task.known(np.array([7, 7, 9, np.nan])).tolist() == [True, True, False, False]
    # One vector for all costs chance, not nothing.
    still = np.broadcast_to(task.constant(labels[:4]), (4, 2))
    assert task.error(still, labels[:4]) == pytest.approx([2 / 3] * 4)


def test_identities_are_kept_apart_by_name_wherever_they_stand() -> None:
    windows = np.zeros((3, 4))
    first = TASK.labels(np.array([0, 1, np.nan]), ("ada", "bob"), windows)
    second = TASK.labels(np.array([0, 1, 2]), ("bob", "ada", "eve"), windows)
    assert first[0] == second[1] == identity_number("ada") and first[1] == second[0] != second[2]
    assert np.isnan(first[2]) and first.dtype == np.float32 and int(first[0]) == identity_number("ada")


def test_rounding_passes_all_gates() -> None:
    vectors, labels = people()
    rounded = np.rint(normalized(vectors) * 127)
    assert (
        gates_kept(vectors, vectors, labels)
        == gates_kept(rounded, vectors, labels)
        == dict.fromkeys(("max_error", "mae_increase", "flips"), True)
    )


def test_each_gate_catches_what_it_is_there_for() -> None:
    vectors, labels = people()
    one_off = vectors.copy()
    one_off[3] = one_off[3, ::-1]
    assert not gates_kept(one_off, vectors, labels)["max_error"]
    # Planted: a number that is added to all, as by a wrong zero point: all are more alike, and all are taken for one.
    shifted = normalized(vectors) + 0.5
    assert not gates_kept(shifted, normalized(vectors), labels)["flips"]
    # Planted: answers that say nothing of the picture.
    other = np.random.default_rng(1).normal(size=vectors.shape)
    assert set(gates_kept(other, vectors, labels).values()) == {False}


def test_flips_go_by_pairs_on_both_sides_of_the_threshold() -> None:
    task = task_of(Embedding(name="face", size=2, threshold=0.5))
    flips = next(rule for rule in task.gates() if rule.name == "flips")
    expected = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]])
    said = np.array([[1, 0], [1, 0.1], [0, 1], [1, 0.2]])
    blank = np.full(4, np.nan, np.float32)
    pictures = np.zeros((4, 1, 1, 1), np.uint8)
    found = Evidence(said=said, expected=expected, labels=blank, drives=["a"] * 4, pictures=pictures)
    # Of two pairs that are the same one is no longer, and two are that were not; each pair counts from both ends.
    assert flips.figure(found) == pytest.approx(3 / 2)


def test_readings_ends_and_orders() -> None:
    vectors, _ = people()
    assert TASK.reading(vectors) == pytest.approx(np.ones(100))
    assert TASK.reading(vectors, vectors[:1])[:2] == pytest.approx([1.0, TASK.reading(vectors[1:2], vectors[:1])[0]])
    assert sorted(TASK.ordered(vectors)) == sorted(TASK.tails(vectors, None)[0].order) == list(range(100))
    assert TASK.contrary(vectors[:1], vectors[50:51]).tolist() == [True]


def face_contract(seed: float = 1.0) -> Contract:
    plain = contract_of()
    golden = tuple(dataclasses.replace(g, expected={"face": (seed, *[0.5] * 7)}) for g in plain.golden)
    assert isinstance(golden[0], Golden)
    return dataclasses.replace(plain, outputs=(FACE,), golden=golden, tolerance={"face": 1e-3})


def gallery_of(vectors: Vectors, labels: NDArray[np.float32]) -> Gallery:
    found = gallery_for(face_contract(), "face.tflite")
    for place in np.unique(labels):
        found = found.with_person(f"p{place:.0f}", normalized(vectors[labels == place])[:3], add=False)
    return found


def test_a_contract_with_vectors_reads_back() -> None:
    contract = face_contract()
    assert Contract.from_json(contract.to_json(), "x") == contract


@pytest.mark.parametrize(
    ("change", "words"),
    [({"size": 1}, "outputs.face.size"), ({"threshold": 1.5}, "cosine"), ({"false_accept_rate": 0.0}, "in (0, 1)")],
)
def test_what_a_contract_cannot_say(change: dict[str, float], words: str) -> None:
    with pytest.raises(ContractError, match=words.replace("(", r"\(").replace(")", r"\)")):
        dataclasses.replace(FACE, **change)  # type: ignore[arg-type]


def test_people_are_recognized_strangers_are_not_and_a_claim_is_held_against_one() -> None:
    vectors, labels = people()
    gallery = gallery_of(vectors[:70], labels[:70])
    names = [recognize(vector, gallery)[0] for vector in vectors[::10]]
    assert names[:7] == [f"p{i}" for i in range(7)] and names[7:].count(None) >= 2
    assert Recognizer(gallery, "p3").named(vectors[35])["name"] == "p3"
    assert Recognizer(gallery, "p3").named(vectors[5])["name"] is None
    assert recognize(vectors[0], gallery_for(face_contract(), "x")) == (None, -1.0)
    with pytest.raises(UsageError, match="zoe: somebody who is enrolled expected"):
        Recognizer(gallery, "zoe")


def test_a_vector_of_any_length_is_recognized_the_same() -> None:
    vectors, labels = people()
    gallery = gallery_of(vectors, labels)
    assert recognize(vectors[0] * 1e3, gallery)[1] == pytest.approx(recognize(vectors[0], gallery)[1])


def test_a_gallery_is_its_owners_alone_and_forgets(tmp_path: Path) -> None:
    path, (vectors, labels) = tmp_path / "team.json", people(3)
    gallery = gallery_of(vectors, labels)
    gallery.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and [p.name for p in tmp_path.iterdir()] == ["team.json"]
    assert gallery_for(face_contract(), "face.tflite", path) == read_gallery(path) == gallery
    gallery.without("p1").save(path)
    assert "p1" not in path.read_text() and [p.name for p in read_gallery(path).people] == ["p0", "p2"]
    with pytest.raises(UsageError, match="p0: enrolled already, by 3 pictures"):
        gallery.with_person("p0", normalized(vectors[:1]), add=False)
    assert len(gallery.with_person("p0", normalized(vectors[:1]), add=True).person("p0").vectors) == 4


def test_a_gallery_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "team.json"
    gallery_for(face_contract(), "face.tflite").save(path)
    with pytest.raises(ContractError, match=r"team\.json: a gallery of x\.tflite expected"):
        gallery_for(face_contract(0.9), "x.tflite", path)
    with pytest.raises(ContractError, match="a model with an embedding expected"):
        gallery_for(contract_of(), "x.tflite", path)
    # Another precision of the same training has the same vectors.
    provenance = dataclasses.replace(face_contract().provenance, precision="int8")
    gallery_for(dataclasses.replace(face_contract(), provenance=provenance), "int8.tflite", path)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("people", [{"name": "ada", "vectors": [[3.0] + [0.0] * 7]}], "of length 1 expected, found 3 for ada"),
        ("people", [{"name": "ada", "vectors": [[1.0]]}], "vectors of 8 numbers expected for ada"),
        ("people", [{"name": "ada", "vectors": []}], "at least one expected for ada"),
        ("people", [{"name": "a\x1bda", "vectors": [[1.0] + [0.0] * 7]}], "a printable text expected"),
        ("version", 2, "version: 1 expected, found 2"),
        ("threshold", "low", "threshold: a number expected"),
    ],
)
def test_a_damaged_gallery_is_one_line(tmp_path: Path, key: str, value: object, words: str) -> None:
    path = tmp_path / "team.json"
    body = dataclasses.asdict(gallery_for(face_contract(), "face.tflite"))
    path.write_text(json.dumps({**body, key: value}))
    with pytest.raises(ContractError, match=words) as raised:
        read_gallery(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)

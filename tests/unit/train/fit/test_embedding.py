"""What vectors learn from one batch, what a batch holds, and the figures, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

import set_factory as sets
from sepilot_runtime.base.errors import DriveError, RecipeError
from sepilot_runtime.recording.options import DriveFilter, ReaderOptions
from sepilot_train.commands.train_report import collapsed
from sepilot_train.fit.augment import Augmentation
from sepilot_train.fit.data import Batches
from sepilot_train.fit.outputs.embedding.metrics import Pairs, spread_of
from sepilot_train.fit.outputs.embedding.target import EmbeddingTarget
from sepilot_train.fit.settings import TrainingSettings
from sepilot_train.run.material import Material, gather
from sepilot_train.run.recipe import Recipe, load_recipe
from sepilot_train.run.request import Request

# On the unit circle at 0, 60, 90 and 180 degrees, of different lengths; the last is alone.
ANGLES = np.deg2rad([0, 60, 90, 180, 45])
VECTORS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1) * np.array([[1], [5], [1], [2], [3]])
LABELS = np.array([1, 1, 2, 2, 3], np.float32)
APART = 2 - 2 * np.cos(ANGLES[:, None] - ANGLES)


def loss(labels: NDArray[Any] = LABELS[:, None], vectors: NDArray[Any] = VECTORS, **settings: Any) -> float:
    function = EmbeddingTarget(**settings).losses("face", TrainingSettings())["face"]
    return float(function(labels.astype(np.float32), vectors.astype(np.float32)))


def test_hard_triplets_by_hand() -> None:
    far = [APART[0, 1], APART[1, 0], APART[2, 3], APART[3, 2]]
    near = [APART[0, 4], APART[1, 4], APART[2, 1], APART[3, 1]]
    by_hand = np.mean([max(f - n + 0.4, 0) for f, n in zip(far, near, strict=True)])
    assert loss(loss="triplet", mining="hard") == pytest.approx(by_hand, rel=1e-5)


def test_semi_hard_triplets_take_the_nearest_behind_the_own_or_the_farthest_there_is() -> None:
    far = [APART[0, 1], APART[1, 0], APART[2, 3], APART[3, 2]]
    semi = [APART[0, 2], APART[1, 3], APART[2, 0], APART[3, 1]]
    by_hand = np.mean([max(f - n + 0.4, 0) for f, n in zip(far, semi, strict=True)])
    assert loss(loss="triplet", mining="semi-hard") == pytest.approx(by_hand, rel=1e-5)
    # Of four pictures one has its own nearest to it: the warm-up is a quarter hard.
    mixed = 0.75 * by_hand + 0.25 * loss(loss="triplet", mining="hard")
    assert loss(loss="triplet") == pytest.approx(mixed, rel=1e-5)


def test_a_batch_that_is_right_already_is_given_hard_triplets() -> None:
    vectors = np.array([[1, 0], [1, 0.1], [0.9, 0.4], [0.9, 0.5]])
    labels = LABELS[:4, None]
    hard = loss(labels, vectors, loss="triplet", mining="hard")
    assert loss(labels, vectors, loss="triplet") == pytest.approx(hard) and hard > 0


def test_the_contrastive_loss_by_hand() -> None:
    alike = np.exp(np.cos(ANGLES[:, None] - ANGLES) / 0.5)
    np.fill_diagonal(alike, 0)
    own = [alike[0, 1], alike[1, 0], alike[2, 3], alike[3, 2]]
    by_hand = -np.mean([np.log(o / alike[i].sum()) for i, o in enumerate(own)])
    assert loss(temperature=0.5) == pytest.approx(by_hand, rel=1e-5)


def test_a_batch_of_one_identity_teaches_nothing_and_breaks_nothing() -> None:
    for kind in ("contrastive", "triplet"):
        assert loss(np.ones((5, 1)), loss=kind) == 0 == loss(np.arange(5)[:, None], loss=kind)


def test_another_nets_vectors_are_learned_by_their_direction() -> None:
    assert loss(VECTORS * 7) == pytest.approx(0, abs=1e-6)
    assert loss(-VECTORS) == pytest.approx(2)


def test_every_batch_has_several_pictures_of_several_identities_and_every_picture_once() -> None:
    labels = np.repeat(np.arange(20, dtype=np.float32), 10)
    batches = Batches(
        np.zeros((200, 4, 4, 1), np.uint8), {"face": labels}, shape=(4, 4, 1), targets={"face": EmbeddingTarget()},
        augmentation=Augmentation(mirror=0.0), batch_size=40, seed=3, straight=np.zeros(200, bool), straight_keep=1.0,
    )  # fmt: skip
    seen = [batches[step][1]["face"][:, 0] for step in range(len(batches))]
    for held in seen:
        _, counts = np.unique(held, return_counts=True)
        assert len(counts) >= 6 and (counts > 1).mean() > 0.7
    _, counts = np.unique(np.concatenate(seen), return_counts=True)
    assert counts.tolist() == [10] * 20
    batches.epoch = 1
    assert not np.array_equal(batches[0][1]["face"][:, 0], seen[0])


def test_figures_by_hand() -> None:
    pairs = Pairs(LABELS[:4], VECTORS[:4])
    assert pairs.same == pytest.approx([0, 0.5], abs=1e-9) and len(pairs.different) == 4
    found = Pairs(np.repeat([0.0, 1.0], 50), np.repeat(np.eye(2), 50, axis=0)).verification(0.01)
    assert (found.eer, found.auc, found.tar, found.one_shot) == (0, 1, 1, 1)
    random = np.random.default_rng(0).normal(size=(200, 16))
    chance = Pairs(np.repeat(np.arange(20.0), 10), random)
    found = chance.verification(0.05)
    assert found.eer == pytest.approx(0.5, abs=0.03) and found.auc == pytest.approx(0.5, abs=0.03)
    assert found.tar == pytest.approx(0.05, abs=0.02) and found.one_shot == pytest.approx(0.05, abs=0.03)
    assert (chance.different >= chance.threshold(0.05)).mean() == pytest.approx(0.05, abs=1e-3)
    assert spread_of(random) > 0.9 and spread_of(np.ones((5, 3))) == 0


def test_a_spread_that_does_not_grow_is_a_collapse() -> None:
    recipe, key = load_recipe("embed"), "spread:class"
    alarms = [
        list(collapsed(recipe, {key: now}, {} if was is None else {key: was}))
        for was, now in ((None, 0.05), (0.05, 0.08), (0.08, 0.05), (0.9, 0.02), (0.02, 0.5))
    ]
    assert alarms == [[], [], ["class"], ["class"], []]


def recipe() -> Recipe:
    return load_recipe("embed", ["picture.height=24", "picture.width=24", "picture.color=bgr"])


def gathered(*train: Path, val: tuple[Path, ...] = (), of: Recipe | None = None) -> Material:
    request = Request(
        drives=tuple(map(str, train)), validation_drives=tuple(map(str, val)), seed=0, filter=DriveFilter(),
        reader=ReaderOptions(labels=("class",)),
    )  # fmt: skip
    return gather(request, of or recipe(), progress=False)


def test_whole_identities_are_held_out(tmp_path: Path) -> None:
    material = gathered(sets.write_identities(tmp_path / "ids", 10, 4))
    train, held = (set(material.frames(side).labels["class"].tolist()) for side in ("train", "validation"))
    assert len(train) + len(held) == 10 and not train & held and len(held) == 2


def test_an_identity_in_two_sets_is_one_and_is_not_judged_by_where_it_is_trained_on(tmp_path: Path) -> None:
    first = sets.write_identities(tmp_path / "a", 10, 4)
    second = sets.write_identities(tmp_path / "b", 6, 5, first=7)
    material = gathered(first, second)
    train, held = (set(material.frames(side).labels["class"].tolist()) for side in ("train", "validation"))
    assert len(train | held) == 13 and not train & held
    with pytest.raises(DriveError, match=r"b: identities that are not trained on expected, found 3 .* such as id007"):
        gathered(first, val=(second,))


def test_what_cannot_be_learned_is_said(tmp_path: Path) -> None:
    few = sets.write_identities(tmp_path / "few", 3, 4)
    with pytest.raises(DriveError, match="4 identities or more expected, found id000, id001, id002"):
        from sepilot_train.run.material import open_sides

        request = Request(drives=(str(few),), validation_drives=(), seed=0, filter=DriveFilter(),
                          reader=ReaderOptions(labels=("class",)))  # fmt: skip
        recipe().settled(open_sides(request)[0])
    target = cast(EmbeddingTarget, load_recipe("embed").targets["class"])
    told = target.remarks(np.repeat(np.arange(5.0), 2).astype(np.float32), np.array([1, 1, 2, 2], np.float32))
    assert told[0].startswith("4 pairs of different identities") and told[1].startswith("5 identities to train on")
    with pytest.raises(RecipeError, match=r"mixup: what class says of two pictures cannot be mixed"):
        load_recipe("embed", ["augmentation.mixup=0.2"])

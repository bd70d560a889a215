"""The step `slim`: blocks and channels that matter least are removed, and what is left is trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from sepilot_export.compress.batch_norm_refresh import augmented, reestimate
from sepilot_export.compress.blocks import Block, bypass, find_blocks
from sepilot_export.compress.channels import KernelChannels, Wiring, remove, wire
from sepilot_export.compress.importance import choose, cost, taylor
from sepilot_export.compress.kernels import kernels_of
from sepilot_export.compress.recipe import Slim
from sepilot_export.compress.step import StepOutcome, Work, training_settings
from sepilot_export.record.compressions import LayerNote
from sepilot_runtime.base.errors import RecipeError, RunError
from sepilot_train.fit.fit import fit
from sepilot_train.fit.predict import predict

__all__ = ["require_supported", "slim"]


def require_supported(model: Any) -> None:
    """Check that channels can be cut everywhere in a Functional Keras 3 model.

    Raises:
        RunError: naming the first layer around which they cannot, and the compressions that can do without; or Keras
            does not run on TensorFlow, whose gradients `slim` takes.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise RunError(f"slim: KERAS_BACKEND=tensorflow expected, found {keras.backend.backend()}")
    wire(model)


def slim(model: Any, settings: Slim, work: Work) -> StepOutcome:
    """Remove blocks and channels of `model` until `settings.macs` of its multiply-accumulates are left, and train on.

    Blocks go first, with a part of the fine-tuning for themselves, because the worth of a channel is measured in a net
    that works. After every removal the batch-norm statistics are taken anew, so that what a removed channel gave on
    average is made up for; after training they stay as training leaves them. The same `work.seed` gives the same net.

    Raises:
        RunError: see `require_supported`.
        RecipeError: `settings.macs` cannot be reached. Both before anything is trained.
    """
    import keras

    require_supported(model)
    keras.utils.set_random_seed(work.seed)
    wiring = wire(model)
    whole = wiring.macs(np.ones(wiring.count, bool))
    blocks = _expendable(model, settings, work)
    smaller = bypass(model, blocks) if blocks else model
    _require_reachable(wire(smaller), settings, whole)
    parts = _parts(settings.finetune.epochs, settings.rounds + bool(blocks))
    if blocks:
        _train(smaller, settings, work, part=0, epochs=parts[0])
    trained = int(bool(blocks))
    for number in range(settings.rounds):
        wiring = wire(smaller)
        left = wiring.macs(np.ones(wiring.count, bool))
        # Equal factors, from what the blocks have left to what is asked for.
        target = left * min(1.0, settings.macs * whole / left) ** (1 / (settings.rounds - number))
        smaller = remove(
            smaller, wiring, choose(wiring, taylor(smaller, wiring, work.train, work.targets), target, settings)
        )
        _train(smaller, settings, work, part=trained + number, epochs=parts[trained + number])
    return StepOutcome(model=smaller, layers=tuple(_notes(model, smaller)), warnings=_warnings(model, settings, blocks))


def _parts(epochs: int, count: int) -> list[int]:
    """`epochs` in `count` parts, the last about twice as long as each of the others: it alone is not undone again."""
    early = epochs // (count + 1)
    return [early] * (count - 1) + [epochs - early * (count - 1)]


def _expendable(model: Any, settings: Slim, work: Work) -> tuple[Block, ...]:
    """The blocks to take out: those without which the loss rises least for the time that they take."""
    blocks = find_blocks(model)
    count = round(settings.blocks * len(blocks))
    if count in (0, len(blocks)):
        return blocks[:count]
    whole = _whole_cost(model)
    pictures = augmented(work.train.pictures, work.augmentation, seed=work.seed, limit=1024)
    chosen = np.unique(np.linspace(0, len(work.train) - 1, min(1024, len(work.train))).astype(int))
    harms = []
    for block in blocks:
        without = bypass(model, [block])
        reestimate(without, pictures)
        said, labels = predict(without, work.train.pictures[chosen]), work.train.labels
        harm = sum(t.weight * np.square(said[n] - labels[n][chosen]).mean() for n, t in work.targets.items())
        harms.append(float(harm) / (whole - _whole_cost(without)))
    return tuple(blocks[i] for i in sorted(np.argsort(harms, kind="stable")[:count]))


def _whole_cost(model: Any) -> float:
    wiring = wire(model)
    return cost(wiring, np.ones(wiring.count, bool))


def _require_reachable(wiring: Wiring, settings: Slim, whole: int) -> None:
    least = wiring.macs(choose(wiring, np.zeros(wiring.count), 0, settings)) / whole
    if least > settings.macs:
        raise RecipeError(
            f"slim.macs: at least {np.ceil(least * 1000) / 1000:g} expected with min_channels {settings.min_channels}, "
            f"multiple_of {settings.multiple_of} and blocks {settings.blocks:g} for this net, found {settings.macs:g}"
        )


def _train(model: Any, settings: Slim, work: Work, *, part: int, epochs: int) -> None:
    reestimate(model, augmented(work.train.pictures, work.augmentation, seed=work.seed))
    if epochs:
        finetune = dataclasses.replace(settings.finetune, epochs=epochs)
        fit(
            model, work.train, work.validation, work.targets, training_settings(finetune, work.seed + part),
            work.augmentation, work.folder / f"slim{part + 1}", show_progress=work.progress,
        )  # fmt: skip


def _notes(before: Any, after: Any) -> Iterator[LayerNote]:
    left = {(k.layer, k.kind): k for k in wire(after).kernels}
    values, still = ({(k.layer, k.kind): k for k in kernels_of(model)} for model in (before, after))
    for kernel in wire(before).kernels:
        key = kernel.layer, kernel.kind
        yield LayerNote(
            layer=kernel.layer,
            kind=kernel.kind,
            action=_action(kernel, left.get(key)),
            weights_before=values[key].values.size,
            weights_after=still[key].values.size if key in still else 0,
            sparsity=still[key].sparsity if key in still else 0.0,
        )


def _action(before: KernelChannels, after: KernelChannels | None) -> str:
    if after is None:
        return "removed with its block"
    if len(after.makes) < len(before.makes):
        return f"{len(before.makes)} -> {len(after.makes)} channels"
    if len(after.reads) < len(before.reads):
        return f"{len(before.reads)} -> {len(after.reads)} input channels"
    return "unchanged"


def _warnings(model: Any, settings: Slim, blocks: tuple[Block, ...]) -> tuple[str, ...]:
    wiring = wire(model)
    gone = {name for block in blocks for name in block}
    names = [
        name
        for group in wiring.groups
        for name in group.producers
        if (count := len(group.channels)) - (count % settings.multiple_of or settings.multiple_of)
        < settings.min_channels
        and name not in gone
    ]
    found = []
    if names:
        found.append(f"{', '.join(names)}: not cut, too few channels for min_channels and multiple_of")
    if wiring.fixed:
        found.append(f"{', '.join(wiring.fixed)}: not cut, its channels go into a layer that needs all of them")
    if settings.blocks and not blocks:
        found.append("blocks: none taken out, the net has none whose input and output have one size")
    return tuple(found)

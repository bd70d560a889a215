"""What a step makes that a later one would undo: zeros, shared values, training for int8. Said before anything is done.

Training moves every weight that nothing holds in place, so the zeros of a pruning are gone after any step that does not
know of them, and the net is none the smaller for having been pruned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sepilot_export.compress.kernels import kernels_of
from sepilot_export.compress.recipe import Compression
from sepilot_export.record.compressions import read_compression
from sepilot_runtime.base.errors import RunError, UsageError
from sepilot_train.run.run import Run

__all__ = ["INT8_NAME", "require_order"]

INT8_NAME = "int8.tflite"

Thing = Literal["zeros", "shared values", "training for int8"]

_MAKES: Mapping[str, Thing] = {"prune": "zeros", "cluster": "shared values", "quantize": "training for int8"}
_UNDOES: Mapping[str, tuple[Thing, ...]] = {
    "distill": ("zeros", "shared values", "training for int8"),
    "slim": ("zeros", "shared values", "training for int8"),
    "prune": ("shared values", "training for int8"),
    "cluster": ("training for int8",),
    "quantize": (),
}
_PRESERVED: Mapping[Thing, tuple[str, ...]] = {"zeros": ("sparsity", "clusters"), "shared values": ("clusters",)}
"""With which of its `preserve` a quantization leaves what there is; shared values take the zeros along."""

_ROUNDING = 0.01
"""A pruned kernel has its share of zeros to the nearest weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """Something that is there to be undone.

    Attributes:
        by: the recipe that made it in this command; "" where the run came with it.
        share: of zeros.
    """

    by: str = ""
    share: float = 0.0


def require_order(run: Run, model: Any, compressions: Sequence[Compression]) -> None:
    """Make sure that no step undoes what an earlier one made, in this command or in the run's own.

    Args:
        model: the run's.

    Raises:
        UsageError: there is no recipe, or they are in an order that makes no sense.
        RunError: the run was compressed, and a step would undo that.
    """
    if not compressions:
        raise UsageError("--recipe NAME: at least one expected")
    for compression in compressions[:-1]:
        if compression.quantize is not None:
            raise UsageError(f"--recipe: {compression.name} quantizes and must be the last, found others after it")
    for compression in compressions[1:]:
        if compression.distill is not None:
            raise UsageError(f"--recipe: {compression.name} begins with a student and must be the first")
    made = _made_by(run, model)
    for compression in compressions:
        for section in compression.sections:
            if compression.distill is not None and section == "distill" and compression.distill.student:
                # A net of its own, which has nothing of the run's.
                made.clear()
                continue
            # Shared values come last: a quantization that keeps them keeps the zeros, too.
            if undone := [thing for thing in made if _undoes(compression, section, thing, made[thing])]:
                raise _error(run, compression, section, undone[-1], made[undone[-1]])
            if section in _MAKES:
                share = compression.prune.sparsity if section == "prune" and compression.prune else 0.0
                made[_MAKES[section]] = _Made(by=compression.name, share=share)


def _made_by(run: Run, model: Any) -> dict[Thing, _Made]:
    """What the run came with. Its kernels tell, whatever command made them."""
    found: dict[Thing, _Made] = {}
    kernels = kernels_of(model)
    if pruned := [kernel.sparsity for kernel in kernels if kernel.is_pruned]:
        found["zeros"] = _Made(share=max(pruned))
    if any(kernel.is_clustered for kernel in kernels):
        found["shared values"] = _Made()
    if (run.path / INT8_NAME).exists():
        found["training for int8"] = _Made()
    return found


def _undoes(compression: Compression, section: str, thing: Thing, made: _Made) -> bool:
    if compression.prune is not None and (section, thing) == ("prune", "zeros"):
        return compression.prune.sparsity < made.share - _ROUNDING
    if compression.quantize is not None and section == "quantize" and thing in _PRESERVED:
        return compression.quantize.preserve not in _PRESERVED[thing]
    return thing in _UNDOES[section]


def _error(run: Run, compression: Compression, section: str, thing: Thing, made: _Made) -> RunError | UsageError:
    name = compression.name
    if section == "quantize":
        option = f"--set quantize.preserve={_PRESERVED[thing][0]}"
        return UsageError(f"--recipe: {name} would undo the {thing} of {made.by or run.path}; {option} keeps them")
    if made.by:
        return UsageError(f"--recipe: {name} would undo the {thing} of {made.by}; put {name} first")
    record = read_compression(run.path)
    parent = (record.parent if record else "") or "the run that it was made from"
    return RunError(f"{run.path}: {name} would undo its {thing}; begin with {parent} and put {name} first")

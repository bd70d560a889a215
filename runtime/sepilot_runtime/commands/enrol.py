"""`sepilot enrol GALLERY NAME PICTURE…`: whom a model is to recognize."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sepilot_runtime.base.errors import ContractError, UsageError
from sepilot_runtime.commands.arguments import flag, request_from, switch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sepilot_runtime.contract.outputs.embedding.gallery import Gallery

__all__ = ["main"]

EPILOG = """\
examples:
  sepilot enrol team.json Ada ada-1.jpg ada-2.jpg --model embed-int8.tflite
  sepilot enrol team.json Ada ada-3.jpg --add --model embed-int8.tflite
  sepilot enrol team.json --list
  sepilot enrol team.json --forget Ada

PICTURE is a picture or a folder of pictures, which show what the model was trained on: faces cut
out as the training's were. The gallery keeps a vector of each, and no picture; it can be read by
its owner alone. It goes with all files of one training, and with no other model's.

Before you enrol people, read docs/recognition.md: such vectors are biometric data.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolRequest:
    gallery: Path = flag("the gallery, a .json file; made if it is not there", "GALLERY", positional=True)
    name: str = flag("whom the pictures show", "NAME", positional=True, nargs="?", default="")
    pictures: tuple[Path, ...] = flag("pictures, or folders of them", "PICTURE", positional=True, nargs="*")
    model: Path | None = flag("a .tflite or .onnx file that says vectors", "FILE")
    add: bool = switch("add the pictures to those of the same name")
    forget: str | None = flag("delete this name and all its vectors", "NAME")
    list: bool = switch("print who is enrolled")

    def __post_init__(self) -> None:
        ways = [bool(self.name), self.forget is not None, self.list]
        if sum(ways) != 1 or bool(self.pictures) != bool(self.name) or bool(self.model) != bool(self.name):
            raise UsageError("enrol: GALLERY NAME PICTURE… --model FILE expected, or GALLERY with --list or --forget")


def main(argv: Sequence[str]) -> int:
    """Run `sepilot enrol`."""
    request = request_from(
        argv, EnrolRequest, "enrol", "Put people or things into a gallery, by a few pictures of each.", EPILOG
    )
    from sepilot_runtime.base.files import require_place
    from sepilot_runtime.contract.outputs.embedding.gallery import read_gallery

    if request.list:
        _print(read_gallery(request.gallery))
        return 0
    require_place(request.gallery)
    if request.forget is not None:
        read_gallery(request.gallery).without(request.forget).save(request.gallery)
        print(f"{request.gallery}: {request.forget} is forgotten")
        return 0
    assert request.model is not None
    _enrol(request, request.model)
    return 0


def _enrol(request: EnrolRequest, model: Path) -> None:
    from sepilot_runtime.base.files import exists
    from sepilot_runtime.contract.outputs.embedding.gallery import gallery_for
    from sepilot_runtime.contract.outputs.embedding.task import normalized
    from sepilot_runtime.engine.pilot import answers_to, load_pilot

    pilot = load_pilot(model)
    there = request.gallery if exists(request.gallery, ContractError) else None
    gallery = gallery_for(pilot.contract, str(model), there)
    paths = _pictures(request.pictures)
    vectors = normalized(answers_to(pilot.infer, _read(paths))[gallery.output])
    grown = gallery.with_person(request.name, vectors, add=request.add)
    for line in _doubts(grown, request.name, vectors, paths):
        print(f"warning: {line}", file=sys.stderr)
    grown.save(request.gallery)
    count = len(grown.person(request.name).vectors)
    print(f"{request.gallery}: {request.name}, by {_counted(count, 'picture')}; {len(grown.people)} enrolled")


def _pictures(given: Sequence[Path]) -> list[Path]:
    """Raises UsageError: a folder without pictures."""
    from sepilot_runtime.base.images import IMAGE_SUFFIXES, natural_key

    found: list[Path] = []
    for path in given:
        inside = (p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES) if path.is_dir() else [path]
        before = len(found)
        found += sorted(inside, key=natural_key)
        if len(found) == before:
            raise UsageError(f"{path}: pictures expected, found none")
    return found


def _read(paths: Sequence[Path]) -> list[NDArray[np.uint8]]:
    from sepilot_runtime.base.images import read_image

    return [read_image(path) for path in paths]


def _doubts(gallery: Gallery, name: str, vectors: NDArray[np.float64], paths: Sequence[Path]) -> list[str]:
    """Pictures that show somebody else, as far as the model can tell."""
    import numpy as np

    from sepilot_runtime.contract.outputs.embedding.recognition import recognize

    own = np.array(gallery.person(name).vectors)
    apart = own @ own.T
    likeness = (apart.sum(axis=1) - 1) / max(len(own) - 1, 1)
    new = range(len(own) - len(vectors), len(own))
    strange = [(i, path) for i, path in zip(new, paths, strict=True) if likeness[i] < gallery.threshold]
    lines = []
    if strange and len(own) > 1:
        listed = ", ".join(f"{path.name} {likeness[i]:.2f}" for i, path in strange[:5])
        lines.append(
            f"{name}: {len(strange)} of {_counted(len(vectors), 'picture')} unlike the others (mean similarity below "
            f"{gallery.threshold:.2f}: {listed}): two people under one name?"
        )
    double, similarity = recognize(own.mean(axis=0), gallery.without(name))
    if double is not None:
        lines.append(f"{name}: taken for {double} (similarity {similarity:.2f}): one person under two names?")
    return lines


def _print(gallery: Gallery) -> None:
    print(
        f"{len(gallery.people)} enrolled, for files of a training of {gallery.recipe}; recognized from a similarity of "
        f"{gallery.threshold:.3f} on, which {gallery.false_accept_rate:.1%} of pairs of different ones reach"
    )
    for person in gallery.people:
        print(f"  {person.name}: {_counted(len(person.vectors), 'picture')}")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"

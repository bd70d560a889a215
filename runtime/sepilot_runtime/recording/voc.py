"""Pascal VOC: an XML file for each picture, with its boxes in pixels.

Either beside the pictures, or in Annotations/ with the pictures in JPEGImages/ (or another folder) and, it may be,
lists of names in ImageSets/Main/ that say which are to train on. Corners are taken as they stand: LabelImg and most
after it count pixels from 0, and the edge of a box lies between two. The `path` is another machine's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepilot_runtime.base.caps import LABEL_FILE_BYTES, RECORDING_BYTES
from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.base.images import IMAGE_SUFFIXES, natural_key
from sepilot_runtime.base.reading import open_regular, read_regular
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.format import Format, Part
from sepilot_runtime.recording.geometry import Tally, labelled_size
from sepilot_runtime.recording.labelled import GROUPING, Side, as_set, in_order, quoted, require_apart, set_of
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_runtime.recording.places import FileFinder, Folder
from sepilot_runtime.recording.rows import Rows
from sepilot_runtime.recording.tables import to_number

__all__ = ["VOC", "VOC_BESIDE"]

HEAD_BYTES = 4096

LISTS: tuple[tuple[Side, tuple[str, ...]], ...] = (
    ("test", ("test.txt",)), ("val", ("val.txt", "valid.txt")), ("train", ("train.txt", "trainval.txt")),
)  # fmt: skip
"""The first of each that is there; a picture on two lists belongs to the first side here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Annotation:
    """What an XML file says: (height, width) or None, the picture's name, and boxes with the names of classes."""

    size: tuple[float, float] | None
    picture: str
    boxes: tuple[tuple[str, float, float, float, float], ...]


def _annotations_in(folder: Folder) -> str | None:
    """The name of the folder of XML files, where there is one."""
    name = next((name for name in folder.folders if name.lower() == "annotations"), None)
    return name if name and _has_annotations(Folder.at(folder.path / name)) else None


def _has_annotations(folder: Folder) -> bool:
    for name in folder.with_suffix({".xml"})[:1]:
        try:
            with open_regular(folder.path / name) as file:
                return b"<annotation" in file.read(HEAD_BYTES)
        except OSError:
            return False
    return False


def _find(folder: Folder) -> Iterator[Part]:
    if _annotations_in(folder):
        yield Part(path=folder.path, files=frozenset())


def _find_beside(folder: Folder) -> Iterator[Part]:
    pictures = folder.with_suffix(IMAGE_SUFFIXES)
    if pictures and _has_annotations(folder):
        yield Part(path=folder.path, files=frozenset([*pictures, *folder.with_suffix({".xml"})]))


def _read_beside(path: Path, options: ReaderOptions) -> list[Drive]:
    """Raises DriveError: no picture with an XML file, or one with a document type."""
    folder = Folder.at(path)
    annotations = _annotations(path, folder)
    name, side = set_of(path)
    reader = _Reader(path, [folder], annotations, options)
    return [reader.drive(reader.stems(), name, side)]


def _read(path: Path, options: ReaderOptions) -> list[Drive]:
    """Raises DriveError: as `_read_beside`; or a list that cannot be read."""
    root = Folder.at(path)
    inside = Folder.at(path / (_annotations_in(root) or ""))
    annotations = _annotations(inside.path, inside)
    others = sorted(root.folders, key=lambda name: name.lower() not in ("jpegimages", "images"))
    reader = _Reader(path, [*(Folder.at(path / name) for name in others), root], annotations, options)
    name, side = set_of(path)
    lists, notes = _lists(path / "ImageSets" / "Main", set(annotations))
    if not lists:
        return [reader.drive(reader.stems(), name, side)]
    return [reader.drive(stems, f"{name}/{side}", side, notes) for side, stems in lists.items()]


def _lists(folder: Path, known: set[str]) -> tuple[dict[Side, list[str]], list[str]]:
    """Stems by side, and notes on those that stand on several lists or on none."""
    sides: dict[Side, list[str]] = {}
    placed: dict[str, Side] = {}
    twice = 0
    for side, files in LISTS:
        file = next((path for name in files if (path := folder / name).is_file()), None)
        if file is None:
            continue
        stems = list(dict.fromkeys(stem for line in _lines(file) if (stem := _stem(line, known))))
        free = [stem for stem in stems if stem not in placed]
        # A `trainval.txt` in place of a `train.txt` holds those of `val.txt`, too.
        twice += 0 if file.stem == "trainval" else len(stems) - len(free)
        placed |= dict.fromkeys(free, side)
        if free:
            sides[side] = free
    notes = [f"{twice:,} pictures on the lists of two sides: taken for the last of train, val, test"] if twice else []
    if sides and (unlisted := len(known - placed.keys())):
        notes.append(f"{unlisted:,} label files on no list of ImageSets/Main: left out")
    return dict(reversed(sides.items())), notes


def _lines(path: Path) -> list[str]:
    try:
        return read_regular(path, RECORDING_BYTES).decode("utf-8-sig", "replace").splitlines()
    except OSError as e:
        raise DriveError(f"{path}: cannot be read: {e.strerror or e}") from e


def _stem(line: str, known: set[str]) -> str:
    """Of a picture on a list: with a suffix or without, it may be with a 1 or -1 behind it."""
    name = line.strip()
    for candidate in (name, name.rpartition(" ")[0].strip()):
        for stem in (candidate, Path(candidate).stem):
            if stem in known:
                return stem
    return Path(name).stem if name.lower().endswith(tuple(IMAGE_SUFFIXES)) else name


def _annotations(path: Path, folder: Folder) -> dict[str, _Annotation | None]:
    """By stem; None for what is no such XML file."""
    finder = FileFinder(path)
    names = folder.with_suffix({".xml"})
    return {Path(name).stem: _parsed(file) for name in names if (file := finder.find(name))}


def _parsed(path: Path) -> _Annotation | None:
    """Raises DriveError: it has a document type, by which a small file can ask for any amount of memory."""
    from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

    class Builder(TreeBuilder):
        def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
            raise DriveError(f"{path}: an annotation without a document type expected, found <!DOCTYPE {name[:40]}")

    parser = XMLParser(target=Builder())
    try:
        parser.feed(read_regular(path, LABEL_FILE_BYTES))
        root: Element = parser.close()
    except (OSError, ParseError, ValueError, LookupError):  # LookupError: an encoding that nobody knows.
        return None
    if root.tag != "annotation":
        return None

    def number(of: Element, where: str) -> float:
        return to_number(of.findtext(where, ""))

    edges = [f"bndbox/{edge}" for edge in ("xmin", "ymin", "xmax", "ymax")]
    boxes = [(o.findtext("name", "").strip(), *(number(o, edge) for edge in edges)) for o in root.findall("object")]
    size = number(root, "size/height"), number(root, "size/width")
    picture = root.findtext("filename", "").strip().replace("\\", "/").rpartition("/")[2]
    return _Annotation(size=size if min(size) > 0 else None, picture=picture, boxes=tuple(boxes))  # type: ignore[arg-type]


class _Reader:
    """Makes drives of parts of the annotations; all of them number the classes alike."""

    def __init__(
        self,
        path: Path,
        folders: Sequence[Folder],
        annotations: Mapping[str, _Annotation | None],
        options: ReaderOptions,
    ) -> None:
        """`folders`: where the pictures may be, the likeliest first."""
        self._path, self._annotations, self._options = path, annotations, options
        found = (box[0] for annotation in annotations.values() if annotation for box in annotation.boxes)
        classes = in_order([name for name in found if name])
        require_apart(path, classes)
        self._places = {name: place for place, name in enumerate(classes)}
        self._pictures: dict[str, Path] = {}
        self._stems = set(annotations)
        meant = {Path(annotation.picture).stem for annotation in annotations.values() if annotation}
        finder = FileFinder(path)
        for folder in folders:
            stems = {Path(file).stem for file in folder.with_suffix(IMAGE_SUFFIXES)}
            self._stems |= stems - meant if not stems.isdisjoint(annotations) else set()
            below = "" if folder.path == path else folder.path.name
            for file in folder.with_suffix(IMAGE_SUFFIXES):
                if (picture := finder.find(file, below=below)) is not None:
                    self._pictures.setdefault(file, picture)
                    self._pictures.setdefault(Path(file).stem, picture)

    def stems(self) -> list[str]:
        """Of all annotations, and of the pictures beside theirs."""
        return sorted(self._stems, key=lambda stem: natural_key(Path(stem)))

    def drive(self, stems: Sequence[str], name: str, side: Side, notes: Sequence[str] = ()) -> Drive:
        rows, tally = Rows(self._path, self._options), Tally(self._path)
        broken = [f"{stem}.xml" for stem in stems if stem in self._annotations and self._annotations[stem] is None]
        notes = [*notes, f"no annotations: {quoted(broken)}"] if broken else notes
        for stem in stems:
            if reason := self._take(rows, tally, stem):
                rows.skip(reason)
        return as_set(
            rows,
            self._options,
            kind="voc",
            name=name,
            label_names={"boxes": tuple(self._places)},
            side=side,
            notes=[*notes, *tally.notes()],
        )

    def _take(self, rows: Rows, tally: Tally, stem: str) -> str:
        """Why a picture cannot be taken, or ""."""
        annotation = self._annotations.get(stem)
        if annotation is None:
            return "label file that is no annotation" if stem in self._annotations else "picture without a label file"
        picture = self._pictures.get(stem) or self._pictures.get(annotation.picture)
        if picture is None:
            return "missing image"
        size = labelled_size(picture, annotation.size)
        if isinstance(size, str):
            return size
        if nameless := sum(not box[0] for box in annotation.boxes):
            tally.note("boxes left out, without a class", nameless)
        boxes = [(self._places[name], *edges) for name, *edges in annotation.boxes if name]
        rows.add(picture.name, picture, wide={"boxes": tally.boxes(boxes, size)})  # type: ignore[arg-type]
        return ""


VOC = Format(what="Pascal VOC (Annotations/*.xml)", kinds={"voc": GROUPING}, fills_folder=True, find=_find, read=_read)
VOC_BESIDE = Format(
    what="pictures with an .xml file each", kinds={"voc": GROUPING}, find=_find_beside, read=_read_beside
)

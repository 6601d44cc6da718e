"""Any folder of VOC XML files and the images that they are about, to one COCO document."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from wsis.data.folders import images_of, left_out, walk_files
from wsis.data.image_names import FolderIndex
from wsis.data.images import read_header
from wsis.data.prepare import number_annotations, require_folder
from wsis.data.source_checks import BAD_BOX_CURE
from wsis.data.values import leaves_root
from wsis.data.voc_xml import XmlObject, box_problem, corners_to_bbox, read_xml
from wsis.errors import DataError, counted


@dataclass
class XmlRecord:
    """What one XML file comes to.

    Args:
        xml: the file.
        file_name: of its image, relative to the image folder; "" where there is none.
        size: height and width of the image.
        objects: its objects.
        problems: all that is wrong, one line each.
        bad_boxes: those that have no pixel in their image.
    """

    xml: Path
    file_name: str = ""
    size: tuple[int, int] = (0, 0)
    objects: list[XmlObject] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    bad_boxes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class VocFolder:
    """All XML files of a folder, read.

    Args:
        records: by name of the image.
        without_xml: images of the image folder that no XML file is about.
        bad_boxes: those that have no pixel in their image, one line each; ``DATASETS.BAD_BOX`` decides about them.
        other: a line about files of the image folder that are no images by their suffix, "" where there are none.
        problems: all that is wrong, one line each, in the order of the XML files.
    """

    records: list[XmlRecord]
    without_xml: list[str]
    problems: list[str]
    bad_boxes: list[str] = field(default_factory=list)
    other: str = ""


class ImageIndex:
    """The images of a folder and of its subfolders, by name and by name without suffix.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        images, self.others = images_of(root)
        self.names = {path.relative_to(root).as_posix() for path in images}
        self._spelt = FolderIndex(root)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for name in sorted(self.names):
            self._by_stem[PurePosixPath(name).with_suffix("").as_posix()].append(name)

    def find(self, xml: PurePosixPath, file_name: str) -> str:
        """The image of an XML file: the one that its `<filename>` names, else the one that is named like the XML file;
        in the subfolder that the XML file is in, else directly in the image folder.

        Args:
            xml: relative to the folder of the XML files.
            file_name: `<filename>`; of a path that leaves the folder only the last part counts.

        Returns:
            The name relative to the image folder.

        Raises:
            DataError: no such image, or two that are named like the XML file.
        """
        stated = PurePosixPath(file_name.replace("\\", "/"))
        last = PureWindowsPath(file_name).name
        for name in dict.fromkeys((stated.as_posix(), last)):
            if not last or leaves_root(name):
                continue
            for folder in (xml.parent, PurePosixPath()):
                found = (folder / name).as_posix()
                if found in self.names or (self.root / found).is_file():
                    return found
        spelt = self._spelt.find(file_name, any_suffix=False) if file_name else None
        if spelt:
            return spelt
        for stem in (xml.with_suffix(""), PurePosixPath(xml.stem)):
            alike = self._by_stem.get(stem.as_posix(), [])
            if len(alike) > 1:
                raise DataError(
                    f"filename: found {file_name!r}, and {alike[0]} and {alike[1]} are both named like it; "
                    "write the name with its suffix"
                )
            if alike:
                return alike[0]
        other = self._spelt.find(file_name) if file_name else None
        if other:
            return other
        raise DataError(
            f"filename: found {file_name!r}, but {self.root} has no such image, nor one named {xml.stem}.*; "
            "name the folder of the images by --images, or remove the XML file"
        )


def read_folder(
    xml_root: Path,
    image_root: Path,
    *,
    zero_based: bool = False,
    class_names: Sequence[str] | None = None,
) -> VocFolder:
    """Reads every `*.xml` of a folder and of its subfolders, and the header of every image.

    Args:
        xml_root: folder of the XML files.
        image_root: folder of the images, which may be the same.
        zero_based: see :func:`wsis.data.voc_xml.corners_to_bbox`.
        class_names: the classes that there may be; None = any.

    Raises:
        DataError: one of the folders is not there, or has no XML file.
    """
    require_folder(xml_root, "XML files")
    index = ImageIndex(require_folder(image_root, "images"))
    paths = sorted(path for path in walk_files(xml_root) if path.suffix.lower() == ".xml")
    if not paths:
        raise DataError(
            f"{xml_root}: found no XML file in this folder and its subfolders; name another by --xml"
        )

    def read(path: Path) -> XmlRecord:
        return _read(path, xml_root, index, zero_based, class_names)

    with ThreadPoolExecutor(max_workers=8) as pool:
        records = list(pool.map(read, paths))
    owners: dict[str, Path] = {}
    for record in records:
        if record.file_name and owners.setdefault(record.file_name, record.xml) != record.xml:
            record.problems.append(
                f"{record.xml}: filename: image {record.file_name} has another XML file, {owners[record.file_name]}; "
                "remove one of them"
            )
    problems = [problem for record in records for problem in record.problems]
    return VocFolder(
        sorted(records, key=lambda record: record.file_name),
        sorted(index.names - owners.keys()),
        problems,
        [line for record in records for line in record.bad_boxes],
        left_out([path for path in index.others if path.suffix.lower() != ".xml"]),
    )


def _read(
    path: Path,
    xml_root: Path,
    index: ImageIndex,
    zero_based: bool,
    class_names: Sequence[str] | None,
) -> XmlRecord:
    record = XmlRecord(path)
    try:
        annotation = read_xml(path)
    except DataError as error:
        record.problems.append(str(error))
        return record
    record.problems += annotation.problems
    for item in annotation.objects:
        if class_names is not None and item.name not in class_names:
            record.problems.append(
                f"{path}: object {item.position}: name: found {item.name!r}, expected one of the list of "
                f"{counted(len(class_names), 'class', 'classes')}; add it to the list, or leave --classes out"
            )
    try:
        relative = PurePosixPath(path.relative_to(xml_root).as_posix())
        record.file_name = index.find(relative, annotation.file_name)
        height, width = annotation.size or (None, None)
        header = read_header(index.root / record.file_name, height, width)
    except DataError as error:
        record.problems.append(f"{path}: {error}")
        return record
    record.size = header.height, header.width
    record.objects = annotation.objects
    found = (box_problem(path, item, record.size, zero_based) for item in record.objects)
    record.bad_boxes += [problem for problem in found if problem]
    return record


def to_document(
    records: Sequence[XmlRecord], class_names: Sequence[str] | None = None, zero_based: bool = False
) -> dict[str, Any]:
    """The COCO document of records without problems.

    Args:
        records: in the order that images and annotations are numbered in, from 1.
        class_names: category 1, 2, ...; None = those found, sorted.
        zero_based: see :func:`wsis.data.voc_xml.corners_to_bbox`.

    Returns:
        ``info``, ``images``, ``categories`` and ``annotations``, the latter with ``difficult`` (0 or 1).
    """
    if class_names is None:
        class_names = sorted({item.name for record in records for item in record.objects})
    category_ids = {name: number for number, name in enumerate(class_names, start=1)}

    def annotation(item: XmlObject) -> dict[str, Any]:
        x, y, width, height = corners_to_bbox(item.corners, zero_based)
        return {
            "category_id": category_ids[item.name],
            "bbox": [x, y, width, height],
            "area": width * height,
            "iscrowd": 0,
            "difficult": int(item.difficult),
        }

    images, annotations = number_annotations(
        (
            {
                "id": number,
                "file_name": record.file_name,
                "height": record.size[0],
                "width": record.size[1],
            },
            [annotation(item) for item in record.objects],
        )
        for number, record in enumerate(records, start=1)
    )
    return {
        "info": {"description": "Boxes of VOC XML files"},
        "images": images,
        "categories": [{"id": number, "name": name} for name, number in category_ids.items()],
        "annotations": annotations,
    }


def read_class_names(path: Path) -> list[str]:
    """The names of a class list: one per line, empty lines aside.

    Raises:
        DataError: not a text file, no name in it, or one twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise DataError(
            f"{path}: cannot be read as a list of classes ({reason}); write UTF-8 text"
        ) from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DataError(
            f"{path}: found no class, expected one name per line; leave --classes out to take all"
        )
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{path}: class {name!r} occurs twice; name each class once")
    return names


def hints(folder: VocFolder, zero_based: bool) -> list[str]:
    """What may be worth a look, one line each."""
    found = []
    if folder.without_xml:
        number, first = len(folder.without_xml), folder.without_xml[0]
        found.append(
            f"images without an XML file, which are left out: {number}, the first is {first}"
        )
    if folder.other:
        found.append(folder.other)
    items = [item for record in folder.records for item in record.objects]
    turned = sum(item.turned for item in items)
    if turned:
        found.append(
            f"{counted(turned, 'box had its', 'boxes had their')} corners in the wrong order: put in order"
        )
    rotated = sum(item.rotated for item in items)
    if rotated:
        told = counted(rotated, "box is rotated", "boxes are rotated")
        found.append(f"{told}: the upright box around each is taken")
    if folder.bad_boxes:
        told = counted(len(folder.bad_boxes), "box has", "boxes have")
        found.append(
            f"{told} no pixel in the image, the first: {folder.bad_boxes[0]}; {BAD_BOX_CURE}, or correct the XML"
        )
    corners = [value for item in items for value in item.corners]
    if corners and max(corners) <= 1.001:
        found.append(
            "all corners within 0..1: multiply corners that are shares of the image by its width and height"
        )
    at_zero = sum(min(item.corners[:2]) == 0 for item in items)
    if at_zero and not zero_based:
        found.append(
            f"{counted(at_zero, 'box begins', 'boxes begin')} at 0: a tool that counts from 0 may have "
            "written the file; then use --zero-based"
        )
    return found


def alike(problems: list[str]) -> list[str]:
    """Problems that differ in file, object and numbers only as one line, with a count."""
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        cause = re.sub(r"^.*?\.xml: (object \d+: )?", "", problem, flags=re.IGNORECASE)
        kinds.setdefault(re.sub(r"\d+|/\S+|'[^']*'", "", cause), []).append(problem)
    return [
        first + (f" (and {counted(len(more), 'more like it', 'more like it')})" if more else "")
        for first, *more in kinds.values()
    ]

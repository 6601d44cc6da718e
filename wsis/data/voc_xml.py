"""Annotations in PASCAL VOC's XML form, as VOC itself and labelling tools write them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from wsis.data.foreign import recognised_text
from wsis.data.values import rotation
from wsis.errors import DataError
from wsis.structures.boxes import box_around_rotated

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class XmlObject:
    """One `<object>`.

    Args:
        position: 1-based, in the order of the file.
        name: of its class.
        corners: xmin, ymin, xmax, ymax as they stand in the file, but in order.
        difficult: marked so by the annotators.
        turned: its corners stood in the wrong order.
        rotated: its corners are those of the upright box around a rotated one.
    """

    position: int
    name: str
    corners: Corners
    difficult: bool
    turned: bool = False
    rotated: bool = False


@dataclass(frozen=True)
class XmlAnnotation:
    """What one file says.

    Args:
        file_name: `<filename>`, or "".
        size: height and width of the image; None where the file does not say, or says 0.
        objects: those whose numbers can be read, in the order of the file.
        problems: all that is wrong with the file, one line each.
    """

    file_name: str
    size: tuple[int, int] | None
    objects: list[XmlObject]
    problems: list[str]


def read_xml(path: Path) -> XmlAnnotation:
    """Reads one annotation file.

    Every `<object>` directly under the root counts, difficult or not, unless it is empty; boxes of `<part>`s do not.

    Raises:
        DataError: missing, not XML, or XML of another form.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; every image needs its annotation XML") from error
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:  # no such encoding
        raise DataError(
            f"{path}: not valid XML ({error}); export it again, or remove it"
        ) from error
    if root.tag.lower() != "annotation":
        foreign = recognised_text(f"<{root.tag}".encode())
        text = foreign.partition("; ")[2] if root.tag == "annotations" else "name VOC's XML files"
        form = " (CVAT for images)" if root.tag == "annotations" else ""
        raise DataError(f"{path}: found <{root.tag}>{form}, expected VOC's <annotation>; {text}")
    problems: list[str] = []
    size = None
    if any((root.findtext(f"size/{key}") or "0").strip() != "0" for key in ("height", "width")):
        height, width = (
            _number(root, f"size/{k}", str(path), problems) for k in ("height", "width")
        )
        if min(height, width) >= 1:
            size = int(height), int(width)
        elif not problems:
            problems.append(f"{path}: size: found {width:g}x{height:g}, expected at least 1x1")
    elements = list(enumerate(root.findall("object"), start=1))
    found = [_read_object(element, position, path, problems) for position, element in elements]
    objects = [item for item in found if item is not None]
    file_name = (root.findtext("filename") or "").strip()
    return XmlAnnotation(file_name, size, objects, problems)


def _read_object(
    element: ElementTree.Element, position: int, path: Path, problems: list[str]
) -> XmlObject | None:
    """One `<object>`; None where it is empty, or has a problem, which is added to the others."""
    if len(element) == 0 and not (element.text or "").strip():
        return None  # how some mark an image without objects
    where = f"{path}: object {position}"
    before = len(problems)
    if element.find("bndbox") is None:
        forms = [f"<{child.tag}>" for child in element if len(child) and child.tag != "part"]
        problems.append(
            f"{where}: no <bndbox> (found {', '.join(forms) or 'no other form either'}); draw it as an upright "
            "box, or remove the object"
        )
        return None
    for tag in ("bndbox", "name"):
        number = len(element.findall(tag))
        if number > 1:
            problems.append(
                f"{where}: found {number} <{tag}>, expected one; write an <object> for each"
            )
    name = (element.findtext("name") or "").strip()
    if not name:
        problems.append(
            f"{where}: name: found nothing, expected the name of a class; write it, or remove the object"
        )
    x0, y0, x1, y1 = (
        _number(element, f"bndbox/{key}", where, problems)
        for key in ("xmin", "ymin", "xmax", "ymax")
    )
    difficult = (element.findtext("difficult") or "").strip().lower() in ("1", "true")
    if len(problems) > before:
        return None
    corners = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
    turned = corners != (x0, y0, x1, y1)
    degrees = _rotation(element)
    if degrees:
        x0, y0, x1, y1 = box_around_rotated(corners, degrees).tolist()
        corners = x0, y0, x1, y1
    return XmlObject(position, name, corners, difficult, turned, bool(degrees))


def _rotation(element: ElementTree.Element) -> float:
    """Degrees by which an object's box is rotated, as CVAT writes it, see :func:`wsis.data.values.rotation`."""
    attributes = {a.findtext("name"): a.findtext("value") for a in element.iter("attribute")}
    return rotation({"attributes": attributes})


def corners_to_bbox(corners: Corners, zero_based: bool = False) -> Corners:
    """XML corners as COCO's x, y, width, height in continuous pixel coordinates.

    Args:
        corners: xmin, ymin, xmax, ymax, at times decimal.
        zero_based: False, as VOC has it: pixel numbers from 1, the last one included, so that columns xmin..xmax cover
            [xmin - 1, xmax). True: continuous coordinates from 0, columns [xmin, xmax).
    """
    x0, y0, x1, y1 = corners
    first = 0 if zero_based else 1
    return x0 - first, y0 - first, x1 - x0 + first, y1 - y0 + first


def box_problem(
    path: Path, item: XmlObject, size: tuple[int, int], zero_based: bool = False
) -> str | None:
    """What is wrong with a box, in one line; None where it covers a part of its image.

    Args:
        path: the file, for the text.
        item: whose box.
        size: height and width of the image.
        zero_based: see :func:`corners_to_bbox`.
    """
    height, width = size
    x0, y0, x1, y1 = item.corners
    x, y, w, h = corners_to_bbox(item.corners, zero_based)
    if w > 0 and h > 0 and x < width and y < height and x + w > 0 and y + h > 0:
        return None
    found = f"box {x0:g} {y0:g} {x1:g} {y1:g}"
    return f"{path}: object {item.position}: {found} has no pixel in a {width}x{height} image"


def _number(element: ElementTree.Element, key: str, where: str, problems: list[str]) -> float:
    """The number at a key; 0, and one problem more, where there is none."""
    text = element.findtext(key)
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if math.isfinite(value):
        return value
    found = "nothing" if text is None else repr(text.strip())
    problems.append(
        f"{where}: {key}: found {found}, expected a number; write pixels such as 12 or 12.5"
    )
    return 0.0

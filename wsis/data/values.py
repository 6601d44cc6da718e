"""Single values of JSON files, as people's tools write them, in the form that the rules know."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Sequence
from operator import itemgetter
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

NUMBERS = frozenset((int, float))


def show(value: Any) -> str:
    """A found value in one short line."""
    if isinstance(value, list) and len(value) > 8:
        return f"a list of {len(value)}"
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deep; an integer of too many digits
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."


def leaves_root(file_name: str) -> bool:
    """Whether a relative name is absolute or climbs out of its root, on any system's spelling."""
    if not (".." in file_name or ":" in file_name or file_name[:1] in ("/", "\\")):
        return False
    for flavour in (PurePosixPath, PureWindowsPath):
        path = flavour(file_name)
        if path.is_absolute() or path.drive or path.root or ".." in path.parts:
            return True
    return False


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number; truth values are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the largest float
        return False


def is_integer(value: Any) -> bool:
    """Whether a JSON value is an integer that an array of int64 can hold; truth values are none."""
    return type(value) is int and -(2**63) <= value < 2**63


def is_image_id(value: Any) -> bool:
    """Whether a JSON value can be the id of an image."""
    return is_integer(value) or isinstance(value, str)


def is_file_name(value: Any) -> bool:
    """Whether a JSON value can be the name of a file."""
    return isinstance(value, str) and bool(value) and "\0" not in value


def is_side(value: Any) -> bool:
    """Whether a JSON value can be the height or width of an image."""
    return type(value) is int and 1 <= value < 2**31


def column(items: Iterable[dict[str, Any]], key: str) -> list[Any]:
    """What each has under a key, None where there is nothing."""
    try:
        return list(map(itemgetter(key), items))  # a third of the time of what follows
    except KeyError:
        return [item.get(key) for item in items]


def has_size(image: dict[str, Any]) -> bool:
    """Whether an entry has a height and a width."""
    return is_side(image.get("height")) and is_side(image.get("width"))


def all_have_sizes(images: Sequence[dict[str, Any]]) -> bool:
    """Whether :func:`has_size` says yes to all, in few steps."""
    for side in ("height", "width"):
        found = column(images, side)
        if set(map(type, found)) != {int} or not (is_side(min(found)) and is_side(max(found))):
            return False
    return True


def whole(value: Any) -> Any:
    """1.0 and "1" as 1; anything else as it is."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    if isinstance(value, str) and value.isascii() and len(value) < 19:
        return int(value) if value.removeprefix("-").isdigit() else value
    return value


def in_numbers(value: Any) -> Any:
    """A value that a table has made text, "[1, 2]", and numbers in quotes, "1.5" in a list, too, as what they say;
    anything else as it is.
    """
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        with contextlib.suppress(ValueError, RecursionError):
            return in_numbers(json.loads(value))
    if isinstance(value, list) and any(isinstance(each, str) for each in value):
        return [as_number(each) for each in value]
    return value


def as_number(value: Any) -> Any:
    """A number in quotes as a number; anything else as it is."""
    if isinstance(value, str) and value.isascii():
        with contextlib.suppress(ValueError):
            number = float(value)
            return number if math.isfinite(number) else value
    return value


def usable_mask(mask: Any) -> tuple[Any, int]:
    """A mask with its polygons in a list, those of three points or more, None where none is left; and how many others
    there were. What is no mask comes back for the rules to refuse.
    """
    mask = in_numbers(mask)
    if mask in ("", {}):
        return None, 0
    if not isinstance(mask, list) or not mask or _are_polygons(mask):
        return mask, 0
    parts = [mask] if all(map(is_number, mask)) else [_in_one_row(part) for part in mask]
    if not all(
        isinstance(part, list) and not any(isinstance(v, str | list | dict) for v in part)
        for part in parts
    ):
        return mask, 0
    kept = [part for part in parts if len(part) >= 6 and not len(part) % 2]
    return kept or None, len(parts) - len(kept)


def rotation(annotation: dict[str, Any]) -> float:
    """Degrees by which the box of an annotation is rotated, as CVAT writes it: the box is the one before. 0 where there
    is a mask, whose box is upright.
    """
    attributes = annotation.get("attributes")
    if not isinstance(attributes, dict) or annotation.get("segmentation"):
        return 0.0
    degrees = as_number(attributes.get("rotation"))
    return degrees % 180 if is_number(degrees) else 0.0


def is_mask(mask: Any) -> bool:
    """Whether there is nothing to mend."""
    return (
        mask is None
        or (type(mask) is dict and bool(mask))
        or (type(mask) is list and _are_polygons(mask))
    )


def _are_polygons(mask: list[Any]) -> bool:
    """Whether each part is a list of three points or more."""
    for part in mask:
        if type(part) is not list or len(part) < 6 or len(part) % 2 or type(part[0]) not in NUMBERS:
            return False
    return bool(mask)


def _in_one_row(part: Any) -> Any:
    """Points [[x, y], ...] as [x, y, ...]; anything else, and numbers in quotes, as :func:`in_numbers` has it."""
    if isinstance(part, list) and part and all(isinstance(p, list) and len(p) == 2 for p in part):
        return [value for point in part for value in in_numbers(point)]
    return in_numbers(part)

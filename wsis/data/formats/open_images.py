"""The table of boxes that Open Images comes as, CSV with one row per box."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from wsis.data.formats.records import Imported, Item
from wsis.errors import DataError

CORNERS = ("XMin", "YMin", "XMax", "YMax")
COLUMNS = ("ImageID", "LabelName", *CORNERS)


def read_open_images(
    source: Path, images: Path | None, classes: dict[str, str] | None = None
) -> Imported:
    """Reads the table; images of the folder that it does not name are left out.

    Args:
        source: the CSV file.
        images: folder of the images, named like their ids; by default the file's folder.
        classes: name by the code that the table has (``/m/01g317``), the classes that are wanted; None = all, under
            their codes.

    Raises:
        DataError: no such file, or a column is missing.
    """
    dataset = Imported(
        "Open Images",
        images or source.parent,
        list(dict.fromkeys(classes.values())) if classes else None,
    )
    seen: dict[str, str | None] = {}
    for where, row in csv_rows(source, COLUMNS):
        code, name = row["ImageID"], row["LabelName"]
        if code not in seen:
            seen[code] = dataset.locate(PurePosixPath(f"{code}.csv"), code)
        image = seen[code]
        if image is None:
            dataset.left_out.add("boxes of images that cannot be used", where)
            continue
        height, width = dataset.sizes[image]
        try:
            box = np.array([float(row[key]) for key in CORNERS])
        except ValueError:
            dataset.left_out.add("rows whose corners are no numbers", where)
            continue
        if not ((box >= -0.01) & (box <= 1.01)).all():
            dataset.left_out.add("rows with corners outside of 0 to 1", where)
            continue
        crowd = (row.get("IsGroupOf") or "").strip() == "1"
        if crowd:
            dataset.notes.add("boxes around groups, written as crowds", where)
        label = (classes or {}).get(name, name)
        dataset.add(image, Item(label, box * (width, height, width, height), crowd=crowd), where)
    dataset.count_unnamed()
    return dataset


def read_class_descriptions(path: Path) -> dict[str, str]:
    """Open Images' class list: code, name in each row, with or without a heading.

    Raises:
        DataError: a row has another form, or there is none.
    """
    names = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a class list of Open Images") from error
    for row in rows:
        if len(row) != 2:
            raise DataError(f"{path}: found {','.join(row)!r}, expected code,name in each row")
        if row[0] != "LabelName":
            names[row[0]] = row[1]
    if not names:
        raise DataError(f"{path}: found no class, expected code,name in each row")
    return names


def csv_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a table with a heading, each with the place that it stands at.

    Raises:
        DataError: it cannot be read, or a column is missing.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restval="")
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                found = ", ".join(reader.fieldnames or ())[:80]
                raise DataError(
                    f"{path}: column {missing[0]} is missing, found {found or 'nothing'}"
                )
            for row in reader:
                yield f"{path} line {reader.line_num}", row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read as a CSV table ({reason})") from error

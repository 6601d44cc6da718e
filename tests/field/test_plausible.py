"""Boxes, masks and areas that are well-formed and hardly meant: one line with the likely cause."""

import re

import numpy as np
import pytest

from tests.data.builders import coco
from wsis.data.plausible import doubts, is_filled_box, no_object
from wsis.data.source import check_document
from wsis.structures.rle import encode_box

HEIGHT, WIDTH = 400, 600
RNG = np.random.default_rng(3)


def boxes(low, high, number=30):
    """(number, 4) x, y, width, height inside the image, of these sides."""
    size = RNG.uniform(low, high, (number, 2)).round()
    corner = (RNG.uniform(0, 1, (number, 2)) * ([WIDTH, HEIGHT] - size)).round()
    return np.concatenate([corner, size], axis=1)


GOOD, LARGE = boxes(30, 150), boxes(200, 390)
FAR = GOOD[:, :2] + GOOD[:, 2:]
CORNERS = np.concatenate([GOOD[:, :2], FAR], axis=1)
SHARES = GOOD / [WIDTH, HEIGHT, WIDTH, HEIGHT]


def square(box):
    x, y, w, h = box
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def diamond(box):
    x, y, w, h = box
    return [[x, y + h / 2, x + w / 2, y, x + w, y + h / 2, x + w / 2, y + h]]


def said(found, **keys):
    """The doubts about boxes; keys: of each annotation, made of the right box."""
    annotations = [
        {"bbox": list(map(float, box)), **{key: make(right) for key, make in keys.items()}}
        for box, right in zip(found, GOOD.tolist(), strict=False)
    ]
    size = {"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}
    document = coco(*annotations, images=[size])
    return doubts(document["images"], document["annotations"])


def area(box):
    return box[2] * box[3]


CASES = {
    "corners": (
        CORNERS,
        {},
        "bbox seems to be corners x0, y0, x1, y1: read so all 30 boxes lie inside",
    ),
    "corners, rows first": (
        CORNERS[:, [1, 0, 3, 2]],
        {},
        "bbox seems to be corners y0, x0, y1, x1: read so all 30 boxes lie inside",
    ),
    "few corners and areas": (
        CORNERS[:2],
        {"area": area},
        "the first area is .*, its width x height",
    ),
    "shares": (SHARES, {}, "all 30 boxes within 0..1: multiply"),
    "percent": (SHARES * 100, {}, "all 30 boxes within 0..100: are they percent"),
    "centres": (
        np.concatenate([LARGE[:, :2] + LARGE[:, 2:] / 2, LARGE[:, 2:]], axis=1),
        {},
        "boxes reach out of their image, and none if bbox is centre",
    ),
    "of a larger image": (
        GOOD * 2,
        {},
        "boxes reach out of their image: were the boxes drawn on larger",
    ),
    "of a smaller image": (
        GOOD / 2,
        {},
        "upper left .*% of their images: were the boxes drawn on smaller",
    ),
    "masks that are boxes": (
        GOOD,
        {"segmentation": square},
        "30 of 30 masks are the filled box itself",
    ),
    "masks elsewhere": (
        GOOD,
        {"segmentation": lambda box: diamond([box[0] / 4, box[1] / 4, 9, 9])},
        "masks do not fit their boxes",
    ),
    "areas of another size": (
        GOOD,
        {"area": lambda box: 4 * area(box)},
        "30 of 30 areas are larger than",
    ),
}


@pytest.mark.parametrize(("found", "keys", "text"), CASES.values(), ids=CASES)
def test_each_mistake_is_told_by_itself(found, keys, text):
    (line,) = said(found, **keys)
    assert re.search(text, line), line


@pytest.mark.parametrize(
    "keys", [{}, {"area": area}, {"segmentation": diamond, "area": lambda b: area(b) / 2}]
)
def test_what_is_meant_so_is_not_doubted(keys):
    assert said(GOOD, **keys) == []
    assert said(GOOD[:1], **keys) == []


def test_a_filled_box_in_any_form():
    box = [20.0, 15.0, 40.0, 30.0]
    code = encode_box([20, 15, 60, 45], HEIGHT, WIDTH)
    closed = [[*square(box)[0], 20.0, 15.0]]
    for mask, filled in (
        *((form, True) for form in (square(box), closed, code)),
        *((form, False) for form in (diamond(box), square([20, 15, 40, 20]), None)),
    ):
        assert is_filled_box({"bbox": box, "segmentation": mask}, HEIGHT, WIDTH) is filled


@pytest.mark.parametrize(
    ("annotations", "text"),
    [
        ([], "there is no annotation; draw"),
        ([{"bbox": [1, 1, 4, 4], "iscrowd": 1}] * 2, "all 2 annotations are crowds; set iscrowd 0"),
        ([{"bbox": [1, 1, 4, 4], "iscrowd": 1}], "the only annotation is a crowd; set"),
        (
            [{"bbox": [50, 1, 4, 4]}, {"bbox": [1, 1, 4, 4], "iscrowd": 1}],
            "is bbox x, y, width, height",
        ),
        ([{"bbox": [50, 1, 4, 4]}, {"bbox": [1, 1, 4, 4]}], ""),
    ],
)
def test_a_file_without_an_object_says_why(annotations, text):
    source = check_document(coco(*annotations), "a.json", "", "", bad_box="skip")
    assert text in no_object(source) and bool(text) == bool(no_object(source))

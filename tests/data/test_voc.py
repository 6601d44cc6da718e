"""Reading single VOC and SBD files, and pairing masks with XML objects."""

import pytest

from tests.data.converters import PART, write_xml
from wsis.data.voc import (
    VocInstance,
    VocObject,
    image_id_of,
    match_instances,
    parse_voc_xml,
    train_aug_names,
)
from wsis.errors import DataError


def parse(tmp_path, *objects, **more):
    write_xml(tmp_path / "a.xml", *objects, **more)
    return parse_voc_xml(tmp_path / "a.xml")


def test_a_box_may_stick_out_but_not_lie_outside(tmp_path):
    cow = VocObject(10, (2.0, 3.0, 3.0, 3.0), False)
    assert parse(tmp_path, ("cow", 3, 4, 5, 6, PART)) == (40, 60, [cow])
    for box in ((60, 40, 70, 50), (-5, -5, 1, 1)):
        assert len(parse(tmp_path, ("cow", *box))[2]) == 1
    with pytest.raises(DataError, match="object 1: its corners are in the wrong order"):
        parse(tmp_path, ("cow", 9, 1, 8, 5))
    for box in ((61, 1, 70, 5), (1, 41, 5, 50), (-5, 1, 0, 5)):
        with pytest.raises(DataError, match="object 1: box .* has no pixel in a 60x40 image"):
            parse(tmp_path, ("cow", *box))
    with pytest.raises(DataError, match="a.xml: size/height: found nothing, expected a number"):
        parse(tmp_path, size=None)


def test_image_ids():
    assert image_id_of("2007_000032") == 2007000032
    with pytest.raises(DataError, match="'cat_1': expected digits"):
        image_id_of("cat_1")


def test_train_aug_is_the_union_without_val():
    names = train_aug_names(["b", "a"], ["v"], ["c", "a"], ["v", "d"])
    assert names == ["a", "b", "c", "d"]
    with pytest.raises(DataError, match="v is in train.txt and in val.txt"):
        train_aug_names(["v"], ["v"], [], [])


def pairs(objects, instances, same_order):
    """Pairs of boxes XYWH and of labels with boxes XYXY, all of class 3 unless an instance says so."""
    given = [VocObject(3, box, False) for box in objects]
    found = [VocInstance(label, *(more or (3,)), box) for label, box, *more in instances]
    return match_instances(given, found, (40, 60), 0.5, same_order)


LEFT, RIGHT, BESIDE = (0, 0, 20, 20), (30, 0, 20, 20), (2, 0, 20, 20)


@pytest.mark.parametrize(
    ("objects", "instances", "same_order", "expected"),
    [
        # the order of the XML goes before the overlap, if the masks are VOC's own
        ([LEFT, BESIDE], [(1, (4, 2, 20, 18)), (2, (2, 2, 18, 18))], True, {0: 0, 1: 1}),
        ([LEFT, BESIDE], [(1, (2, 0, 22, 20)), (2, (0, 0, 20, 20))], False, {0: 1, 1: 0}),
        # the overlap, where the order is wrong
        ([LEFT, RIGHT], [(1, (32, 2, 48, 18)), (2, (2, 2, 18, 18))], True, {0: 1, 1: 0}),
        ([LEFT, RIGHT], [(1, (2, 2, 18, 18), 4)], True, {}),  # another class
        ([(5, 5, 7, 7)], [(1, (7, 7, 10, 10))], True, {0: 0}),  # 3x3 px left of a 7x7 px object
        ([(5, 5, 7, 7)], [(1, (7, 7, 10, 10))], False, {}),
        # one to one
        ([LEFT, (1, 0, 20, 20)], [(7, (1, 0, 21, 20))], False, {1: 0}),
    ],
)
def test_matching(objects, instances, same_order, expected):
    assert pairs(objects, instances, same_order) == expected

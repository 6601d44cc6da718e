"""Reading single VOC and SBD files, and pairing masks with XML objects."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsis.data.voc import (
    VocInstance,
    VocObject,
    image_id_of,
    match_instances,
    parse_voc_xml,
    train_aug_names,
)
from wsis.errors import DataError

SIZE = "<size><width>60</width><height>40</height><depth>3</depth></size>"
BOX = "<bndbox><xmax>{2}</xmax><xmin>{0}</xmin><ymax>{3}</ymax><ymin>{1}</ymin></bndbox>"


def write(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "a.xml"
    path.write_text(f"<annotation>{body}</annotation>")
    return path


def test_parts_are_no_objects_and_difficult_may_be_absent(tmp_path: Path) -> None:
    part = f"<part><name>head</name>{BOX.format(1, 1, 2, 2)}</part>"
    body = f"<object>{part}<name>cow</name>{BOX.format(3, 4, 5, 6)}</object>"
    assert parse_voc_xml(write(tmp_path, SIZE + body)) == (
        40,
        60,
        [VocObject(10, (2.0, 3.0, 3.0, 3.0), False)],
    )


def test_a_box_may_stick_out_but_not_lie_outside(tmp_path: Path) -> None:
    body = f"{SIZE}<object><name>cow</name>{BOX}</object>"
    assert len(parse_voc_xml(write(tmp_path, body.format(60, 40, 70, 50)))[2]) == 1
    assert len(parse_voc_xml(write(tmp_path, body.format(-5, -5, 1, 1)))[2]) == 1
    for box in ((61, 1, 70, 5), (1, 41, 5, 50), (-5, 1, 0, 5), (9, 1, 8, 5)):
        with pytest.raises(DataError, match="object 1: box .* has no pixel in a 60x40 image"):
            parse_voc_xml(write(tmp_path, body.format(*box)))


def test_missing_size(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a.xml: size/height: found nothing, expected a number"):
        parse_voc_xml(write(tmp_path, ""))


def test_image_ids() -> None:
    assert image_id_of("2007_000032") == 2007000032
    with pytest.raises(DataError, match="'cat_1': expected digits"):
        image_id_of("cat_1")


def test_train_aug_is_the_union_without_val() -> None:
    names = train_aug_names(["b", "a"], ["v"], ["c", "a"], ["v", "d"])
    assert names == ["a", "b", "c", "d"]
    with pytest.raises(DataError, match="v is in train.txt and in val.txt"):
        train_aug_names(["v"], ["v"], [], [])


def test_matching_prefers_the_order_of_the_xml() -> None:
    objects = [VocObject(3, (0, 0, 20, 20), False), VocObject(3, (2, 0, 20, 20), False)]
    instances = [VocInstance(1, 3, (4, 2, 20, 18)), VocInstance(2, 3, (2, 2, 18, 18))]
    assert match_instances(objects, instances, (40, 60), 0.5, True) == {0: 0, 1: 1}
    sbd = [VocInstance(1, 3, (2, 0, 22, 20)), VocInstance(2, 3, (0, 0, 20, 20))]
    assert match_instances(objects, sbd, (40, 60), 0.5, False) == {0: 1, 1: 0}


def test_matching_falls_back_to_iou_where_the_order_is_wrong() -> None:
    objects = [VocObject(3, (0, 0, 20, 20), False), VocObject(3, (30, 0, 20, 20), False)]
    instances = [VocInstance(1, 3, (32, 2, 48, 18)), VocInstance(2, 3, (2, 2, 18, 18))]
    assert match_instances(objects, instances, (40, 60), 0.5, True) == {0: 1, 1: 0}
    other_class = [VocInstance(1, 4, (2, 2, 18, 18))]
    assert match_instances(objects, other_class, (40, 60), 0.5, True) == {}
    tiny = [VocInstance(1, 3, (7, 7, 10, 10))]  # 3x3 px left of a 7x7 px object
    box = [VocObject(3, (5, 5, 7, 7), False)]
    assert match_instances(box, tiny, (40, 60), 0.5, True) == {0: 0}
    assert match_instances(box, tiny, (40, 60), 0.5, False) == {}


def test_matching_is_one_to_one() -> None:
    objects = [VocObject(3, (0, 0, 20, 20), False), VocObject(3, (1, 0, 20, 20), False)]
    one = [VocInstance(7, 3, (1, 0, 21, 20))]
    assert match_instances(objects, one, (40, 60), 0.5, False) == {1: 0}

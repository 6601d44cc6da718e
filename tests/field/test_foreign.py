"""Files of other tools are recognised, and the line says what to do; masks of other tools find their images."""

import json
import logging
import re

import pytest
from PIL import Image

from tests.data.builders import coco, write_json
from tests.data.converters import BOX, main_of, write_xml
from wsis.data.external_masks import join_masks
from wsis.data.source import check_document, load_source
from wsis.errors import DataError

TASK = {"id": 1, "data": {"image": "/a.png"}, "annotations": [{"result": []}]}
SEGMENTS = {"image_id": 1, "file_name": "1.png", "segments_info": [{"id": 3, "category_id": 1}]}
FILES = {
    "LabelMe": ({"version": "5.0", "shapes": [], "imagePath": "a.png"}, "--from labelme"),
    "VGG Image Annotator": ({"a.png12": {"filename": "a.png", "regions": []}}, "--from via"),
    "VGG Image": ({"_via_settings": {}, "_via_img_metadata": {}}, "--from via"),
    "VGG": ("filename,file_size,region_shape_attributes\na.png,1,{}", "--from via"),
    "CVAT": ('<?xml version="1.0"?>\n<annotations><version>1.1</version>', "--from cvat"),
    "PASCAL VOC": ("<annotation><filename>a.png</filename></annotation>", "prepare_voc_xml.py"),
    "YOLO": ("0 0.5 0.5 0.1 0.2\n1 0.2 0.2 0.1 0.1", "--from yolo"),
    "a file of YOLO": ("names: [cat, dog]\ntrain: images", "--from yolo"),
    "Open Images": ("ImageID,Source,LabelName,Confidence,XMin", "--from openimages"),
    "Label Studio": ([TASK], "export the project as COCO"),
    "a file of Label Studio": ([{"id": 1, "image": "a.png", "label": [{"x": 1}]}], "as COCO"),
    "COCO panoptic": (coco(images=[]) | {"annotations": [SEGMENTS]}, "instances_"),
    "COCO captions": ({"images": [], "annotations": [{"id": 1, "caption": "a"}]}, "instances_"),
    "COCO results": ([{"image_id": 1, "category_id": 1, "bbox": [], "score": 1}], "MODEL.EXTERNAL"),
    "YouTube-VIS": ({"videos": [], "annotations": [{"bboxes": []}]}, "its frames as images"),
    "Labelbox": ([{"data_row": {}, "projects": {}}], "export the project as COCO"),
    "Datumaro": ({"info": {}, "categories": {}, "items": []}, "as COCO"),
    "CreateML": ([{"image": "a.png", "annotations": []}], "as COCO"),
    "Supervisely": ({"description": "", "size": {}, "objects": []}, "as COCO"),
    "VIA 3": ({"project": {}, "file": {}, "metadata": {}, "view": {}}, "from VIA 2"),
    "Detectron2's dicts": ([{"file_name": "a", "image_id": 1, "annotations": []}], "convert_to"),
    "MMDetection": ([{"filename": "a.png", "ann": {}}], "docs/formats.md"),
    "BDD100K": ([{"name": "a.png", "labels": []}], "to_coco"),
    "FiftyOne": ({"samples": []}, "as COCO"),
    "a manifest of labels": ({"wsis": {}, "classes": [], "labels": []}, "name the box file"),
    "JSON Lines": ('{"file_name": "a.png"}\n{"file_name": "b.png"}', "one JSON document"),
    "a table .CSV.": ("filename,width,height,class\na.png,64,48,cat", "docs/formats.md"),
    "a web page": ("<!DOCTYPE html><html>", "signed in"),
    "a pointer of Git LFS": ("version https://git-lfs.github.com/spec/v1", "git lfs pull"),
    "an empty file": (" \n", "download the file again"),
    "a ZIP archive": ("PK\x03\x04 rest", "unpack it"),
}


@pytest.mark.parametrize(("name", "content", "cure"), [(n, *case) for n, case in FILES.items()])
def test_a_file_of_another_form(tmp_path, name, content, cure):
    path = write_json(tmp_path / "boxes.json", content)
    with pytest.raises(DataError, match=f"found (a file of )?{name}.*expected a COCO JSON.*{cure}"):
        load_source(path)


@pytest.mark.parametrize("content", ["hello", "[1, 2]", "{}", '{"images": [], "data": 1}'])
def test_what_is_not_known_is_not_guessed(tmp_path, content):
    with pytest.raises(DataError) as caught:
        load_source(write_json(tmp_path / "boxes.json", content))
    assert "found a file of" not in str(caught.value)


@pytest.fixture
def convert(tmp_path, capsys):
    """``convert()``: exit status, document and what was printed of the VOC XML files in a folder."""
    for name in ("a.png", "b.png"):
        Image.new("RGB", (60, 40)).save(tmp_path / name)

    def run():
        words = ["--xml", str(tmp_path), "--output", str(tmp_path / "boxes.json")]
        status = main_of("prepare_voc_xml")(words)
        printed = capsys.readouterr()
        made = json.loads((tmp_path / "boxes.json").read_text()) if status == 0 else None
        return status, made, printed.out + printed.err

    return run


def test_boxes_of_voc_follow_the_rule_of_all_bad_boxes(tmp_path, convert):
    boxes = (1, 1, 20, 20), (20, 30, 5, 9), (0, 0, 0, 0), (70, 5, 80, 9)
    write_xml(tmp_path / "a.xml", *(("cat", *box) for box in boxes), file_name="a.png")
    status, document, out = convert()
    assert status == 0 and [a["bbox"] for a in document["annotations"]][1] == [4, 8, 16, 22]
    assert "1 box had its corners in the wrong order: put in order" in out
    assert "2 boxes have no pixel in the image, the first: " in out
    assert "object 3: box 0 0 0 0 has no pixel in a 60x40 image; set DATASETS.BAD_BOX skip" in out
    with pytest.raises(DataError, match="and 1 more like it.*set DATASETS.BAD_BOX skip"):
        check_document(document, "boxes.json", "", "")
    assert len(check_document(document, "boxes.json", "", "", bad_box="skip").bad_boxes) == 2


def test_a_rotated_box_of_voc_becomes_the_upright_one_around_it(tmp_path, convert):
    path = tmp_path / "a.xml"
    write_xml(path, ("cat", 11, 11, 31, 21), file_name="a.png")
    attribute = "<attribute><name>rotation</name><value>-90.0</value></attribute>"
    text = path.read_text().replace("</object>", f"<attributes>{attribute}</attributes></object>")
    path.write_text(text)
    status, document, out = convert()
    assert status == 0 and document["annotations"][0]["bbox"] == [15, 5, 11, 21]
    assert "1 box is rotated: the upright box around each is taken" in out


START = "<annotation><filename>a.png</filename>"
ROTATED = "<object><name>ship</name><robndbox><cx>4</cx></robndbox></object>"
POLYGON = "<object><name>ship</name><polygon><x1>4</x1></polygon></object>"
XML = {
    "an empty object": (f"{START}<object></object></annotation>", "no object"),
    "rotated boxes": (
        f"{START}{ROTATED}{ROTATED}</annotation>",
        r"object 1: no <bndbox> \(found "
        r"<robndbox>\); .* \(and 1 more like it\)",
    ),
    "polygons": (f"{START}{POLYGON}</annotation>", "no <bndbox> .found <polygon>"),
    "CVAT": ("<annotations/>", r"found <annotations> \(CVAT for images\), expected VOC's .*cvat"),
    "two boxes of one object": (
        f"{START}<object><name>cat</name>{BOX.format(1, 1, 9, 9) * 2}</object></annotation>",
        "found 2 <bndbox>, expected one; write an <object> for each",
    ),
    "another root": ("<svg/>", "found <svg>, expected VOC's <annotation>"),
}


@pytest.mark.parametrize(("text", "message"), XML.values(), ids=XML)
def test_other_xml_is_told_once(tmp_path, convert, text, message):
    (tmp_path / "a.xml").write_text(text)
    try:
        found, _, out = convert()
    except DataError as error:
        found, out = 2, str(error)
    assert found == 2 and len(out.splitlines()) == 1
    assert re.search(message, out)


def test_an_empty_object_beside_others_is_none(tmp_path, convert):
    (tmp_path / "a.xml").write_text(f"{START}<object>\n</object></annotation>")
    write_xml(tmp_path / "b.xml", ("cat", 1, 1, 9, 9), file_name="b.png")
    _, document, _ = convert()
    assert len(document["images"]) == 2 and len(document["annotations"]) == 1


SQUARE = [[2, 2, 8, 2, 8, 8, 2, 8]]


@pytest.fixture
def join(tmp_path, caplog):
    """``join(entries, ids)``: image of each joined mask by annotation id, and the lines about the file."""

    def run(
        entries, ids=(1, 2), boxes=((2, 2, 6, 6), (2, 2, 6, 6)), names="photo_{}.png", **options
    ):
        images = [
            {"id": key, "file_name": names.format(i), "height": 10, "width": 12}
            for i, key in enumerate(ids)
        ]
        pairs = zip(ids, boxes, strict=True)
        annotations = [{"image_id": key, "bbox": list(box)} for key, box in pairs]
        source = check_document(coco(*annotations, images=images), "boxes.json", "", "")
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            joined = join_masks(write_json(tmp_path / "m.json", entries), source, **options)
        return {key: mask.image_id for key, mask in joined.masks.items()}, caplog.text

    return run


def entry(image_id, mask=SQUARE, **keys):
    return {"image_id": image_id, "segmentation": mask, "score": None, **keys}


NAMED = {
    "stems": [entry("photo_0"), entry("photo_1")],
    "names": [entry("photo_0.png"), entry("photos/photo_1.png")],
    "names beside": [entry(0, file_name="photo_0.png"), entry(1, file_name="C:\\x\\photo_1.png")],
    "ids as text": [entry("1"), entry("2")],
    "ids of a table": [entry(1.0), entry(2.0)],
}


@pytest.mark.parametrize("entries", NAMED.values(), ids=NAMED)
def test_images_are_found_by_what_names_them(join, entries):
    joined, _ = join(entries)
    assert joined == {1: 1, 2: 2}


def test_a_name_decides_over_a_number_that_happens_to_fit(join):
    joined, text = join([entry(2, file_name="photo_0.png"), entry(1, file_name="photo_1.png")])
    assert joined == {1: 1, 2: 2}
    assert "2 entries have a file_name of another image than image_id, the first is entry 0" in text


def test_numbers_that_are_the_names_of_files_and_fit_other_ids(join):
    boxes, masks = (
        ((1, 1, 3, 3), (6, 4, 5, 5)),
        ([[1, 1, 4, 1, 4, 4, 1, 4]], [[6, 4, 11, 4, 11, 9, 6, 9]]),
    )
    numbered = [
        entry(i, mask) for i, mask in enumerate(masks)
    ]  # 0.png has the id 1, 1.png the id 0
    joined, text = join(numbered, ids=(1, 0), boxes=boxes, names="{}.png")
    assert joined == {1: 1, 2: 0}
    assert (
        "image_id is taken for the number in the file name: 2 masks fit a box then, 0 as the id"
        in text
    )
    right = [entry(1 - i, mask) for i, mask in enumerate(masks)]
    joined, text = join(right, ids=(1, 0), boxes=boxes, names="{}.png")
    assert joined == {1: 1, 2: 0} and "taken for" not in text


def test_specks_are_left_out_and_masks_of_another_class_hinted_at(join):
    joined, text = join([entry(1, [*SQUARE, [1, 1], [1, 1, 2, 2]]), entry(2, category_id=4)])
    assert joined == {1: 1}
    assert "2 polygons of less than three points left out of the masks" in text
    assert (
        "boxes without a mask 1, 1 of which one of another class fits; set MODEL.EXTERNAL" in text
    )

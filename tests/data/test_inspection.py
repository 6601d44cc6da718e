"""What a dataset has and what is wrong with it, all at once."""

import json

import cv2
import numpy as np
import pytest

from tests.data.builders import save_turned, write_json
from wsis.data.inspection import inspect_file, inspect_images
from wsis.data.source import load_source
from wsis.errors import DataError


@pytest.fixture
def inspect(tmp_path):
    """``inspect(document, files=True, **options)``: the report of a document on disk."""

    def run(document, files=True, **options):
        report = inspect_file(write_json(tmp_path / "a.json", document), tmp_path, **options)
        if files:
            list(inspect_images(report))
        return report

    return run


def test_what_it_has(inspect, make_document):
    document = make_document((2, 0, 3))
    first, second, third, fourth, fifth = document["annotations"]
    first["iscrowd"] = 1
    second["segmentation"] = [[1, 1, 9, 1, 9, 9]]
    del third["segmentation"]
    fourth["ignore_segmentation"] = fourth["segmentation"]
    report = inspect(document)
    assert (report.problems, report.unreadable, report.exit_status) == ([], [], 0)
    facts = report.facts
    assert (facts["images"]["count"], facts["images"]["without_boxes"]) == (3, 1)
    assert facts["images"]["height"] == dict.fromkeys(facts["images"]["height"], 48.0)
    assert (facts["annotations"], facts["crowds"]) == (5, 1)
    assert facts["classes"] == [
        {"id": 4, "name": "cat", "annotations": 2, "images": 1},
        {"id": 9, "name": "dog", "annotations": 2, "images": 2},
    ]
    assert facts["masks"] == {"polygons": 1, "none": 1, "run-length codes": 2, "ignored regions": 1}
    widths = sorted(a["bbox"][2] for a in (second, third, fourth, fifth))
    assert facts["boxes"]["width"]["smallest"] == widths[0]
    assert facts["boxes"]["width"]["median"] == pytest.approx((widths[1] + widths[2]) / 2)
    assert facts["files"] == {"read": 3, "modes": {"RGB": 3}, "more_than_8_bits": 0, "rotated": 0}
    json.dumps(facts)


def test_kinds_of_image_files(inspect, make_document, tmp_path):
    document = make_document((1, 1, 1))
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((48, 64), dtype=np.uint16))
    save_turned(tmp_path / "2.png", np.zeros((64, 48), np.uint8), 8, format="JPEG")
    files = inspect(document).facts["files"]
    assert (files["read"], files["more_than_8_bits"], files["rotated"]) == (3, 1, 1)
    assert sum(files["modes"].values()) == 3 and files["modes"]["L"] == 1


def test_everything_that_is_wrong_at_once(inspect, make_document, tmp_path):
    document = make_document((2, 1, 2))
    masks = [a["segmentation"] for a in document["annotations"]]
    document["annotations"][0].update(category_id=77)
    document["annotations"][1].update(bbox=[1, 1, 0, 3])
    masks[2]["counts"] = "no code"
    masks[3]["size"] = [64, 48]
    document["annotations"].append({**document["annotations"][4], "bbox": "none"})
    document["images"].append({**document["images"][0], "id": 9, "height": 47})
    (tmp_path / "2.png").unlink()
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:200])
    report = inspect(document)
    expected = [
        "annotation id 104 occurs twice",
        "annotation 100: key 'category_id': 77 is not among",
        "annotation 101: key 'bbox': [1, 1, 0, 3] has no area",
        "annotation 104: key 'bbox': found 'none'",
        "annotation 102: key 'segmentation': counts",
        f"image 9: {tmp_path}/1.png: the image is 64x48",
    ]
    assert len(report.problems) == len(expected)
    for problem, text in zip(report.problems, expected, strict=True):
        assert problem.startswith(f"{tmp_path}/a.json: {text}") and "\n" not in problem
    assert [text.split(": ")[1] for text in report.unreadable] == ["image 2", "image 3"]
    assert report.exit_status == 2
    assert report.facts["annotations"] == 4 and report.facts["masks"]["malformed"] == 2
    with pytest.raises(DataError) as caught:
        load_source(tmp_path / "a.json", tmp_path)
    assert str(caught.value) == report.problems[0]


def test_unreadable_images_alone_are_status_3(inspect, make_document, tmp_path):
    document = make_document((1, 1))
    (tmp_path / "2.png").write_bytes(b"")
    report = inspect(document)
    assert (report.problems, len(report.unreadable), report.exit_status) == ([], 1, 3)
    assert inspect(document, files=False).exit_status == 0


def test_boxes_that_are_left_out_or_not_needed(inspect, make_document):
    document = make_document((2,))
    document["annotations"][0]["bbox"] = [99, 0, 4, 4]
    report = inspect(document)
    assert "wholly outside its 64x48 image; set DATASETS.BAD_BOX skip" in report.problems[0]
    report = inspect(document, bad_box="skip")
    assert (
        report.exit_status == 0
        and "4] lies wholly outside its 64x48 image: will not be used" in report.notes[0]
    )
    assert report.facts["boxes"]["count"] == 1
    del document["annotations"][0]["bbox"], document["annotations"][0]["segmentation"]
    assert inspect(document).exit_status == 2
    assert inspect(document, need_boxes=False).exit_status == 0


def test_what_is_allowed_and_seldom_meant(inspect, make_document, tmp_path):
    document = make_document((2, 1))
    document["categories"] += [{"id": 11, "name": "cow"}, {"id": 12, "name": "cow"}]
    document["images"][1]["file_name"] = "1.png"
    first, second, third = document["annotations"]
    del first["segmentation"], second["segmentation"]
    first["bbox"] = [-5, 0, 20, 20]
    second.update(bbox=first["bbox"], category_id=first["category_id"], area=9)
    third["segmentation"]["counts"] = [48 * 64]
    notes = inspect(document).notes
    expected = [
        "1 mask without a pixel, the first is annotation 102",
        "boxes that reach out of their image and are cut to it: 2, the first is annotation 100",
        "boxes that are there twice with one class: 1, the first is annotation 101",
        "classes without an annotation: 3, the first is 'dog'",
        "names of several categories, case and spaces aside: 1, the first is 'cow'",
        "files that are the image of several entries: 1, the first is '1.png'",
        f"images in {tmp_path} that the file does not list: 1, the first is '2.png'",
    ]
    third["category_id"] = 4
    assert [note.split(": ", 1)[1] for note in inspect(document).notes] == expected
    assert len(notes) == len(expected)


@pytest.mark.parametrize("text", ["", "[1]", '{"images": 3}', '{"images": [], "annotations": []}'])
def test_a_file_that_cannot_be_counted(inspect, text):
    report = inspect(text)
    assert (report.exit_status, report.facts) == (2, {})
    assert report.problems


def test_an_empty_dataset_is_fine_and_a_proxy_file_says_who_made_it(inspect, make_document):
    report = inspect(make_document((), info={"wsis": {"method": "GrabCut"}}))
    assert report.exit_status == 0
    assert report.facts["images"]["height"] == {} and report.facts["masks"] == {}
    assert report.facts["proxy_of"] == "GrabCut"


def test_images_of_another_size_are_one_line(inspect, make_document):
    document = make_document((1, 1, 1))
    for image in document["images"]:
        image["height"], image["width"] = image["width"], image["height"]
    report = inspect(document)
    (line,) = [problem for problem in report.problems if "annotations say" in problem]
    assert "exchange width and height if they were mixed up" in line
    assert line.endswith("(and 2 more images)")
    assert sum("annotations say" in problem for problem in report.every_problem) == 3

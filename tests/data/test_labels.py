"""Label maps from folders and from instance masks."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.data.builders import coco, write_json
from tests.masks import rectangle
from tests.tiny import SIZE, write_dataset
from wsis.data.labels import (
    check_label_files,
    check_pseudo_labels,
    instances_to_label,
    merge_classes,
    read_label,
    truth_reader,
)
from wsis.data.registration import register_dataset
from wsis.data.source import check_document, load_source
from wsis.errors import ConfigError, DataError
from wsis.structures.pseudo_labels import write_label, write_manifest
from wsis.structures.rle import encode_mask


def square(y, x, side=4):
    return rectangle((10, 12), x, y, x + side, y + side)


def of(category, mask, **more):
    code = encode_mask(mask)
    return {"category_id": category, "segmentation": code, "bbox": [1, 1, 2, 2], **more}


def source_of(*annotations, **image):
    document = coco(*annotations)
    document["images"][0].update(image)
    return check_document(document, "test.json", "", ""), document["images"][0]


def test_masks_become_classes_by_ascending_id():
    first, second = square(0, 0), square(5, 5)
    label = instances_to_label(*source_of(of(9, first), of(4, second)))
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, 2 * first + 1 * second)


def test_what_is_not_known_is_ignored():
    first, second, same = square(0, 0), square(2, 2), square(3, 0)
    crowd, void = square(6, 8), square(0, 9, side=2)
    objects = of(9, first), of(4, second), of(9, same), of(9, crowd, iscrowd=1)
    without_mask = {"category_id": 4, "bbox": [2, 7, 3, 3]}
    label = instances_to_label(*source_of(*objects, without_mask, void=encode_mask(void)))
    assert (label[second & (first | same)] == 255).all()
    assert (label[first & same & ~second] == 2).all()
    assert (label[crowd | void] == 255).all()
    box = square(7, 2, side=3)
    assert (label[box & ~same & ~second] == 255).all()
    rest = ~(first | second | same | crowd | void | box)
    assert (label[rest] == 0).all() and rest.sum() > 30


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        ({}, np.ones((3, 3)), "annotation 1: key 'segmentation': size"),
        ({"void": "x"}, square(1, 1), "image 1: key 'void': "),
        ({"void": {"size": [1, 1], "counts": [1]}}, square(1, 1), "image 1: key 'void': "),
    ],
)
def test_a_malformed_mask_is_named(image, mask, message):
    with pytest.raises(DataError, match=rf"test\.json: {message}"):
        instances_to_label(*source_of(of(9, mask), **image))


def test_labels_are_read_as_they_were_written(tmp_path):
    label = np.array([[0, 1, 255], [3, 2, 0]], dtype=np.uint8)
    write_label(tmp_path / "a.png", label)
    Image.fromarray(label).save(tmp_path / "grey.png")
    for name in ("a.png", "grey.png"):
        got = read_label(tmp_path / name, 2, 3, 4)
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, label)
    assert merge_classes(label).tolist() == [[0, 1, 255], [1, 1, 0]]


@pytest.mark.parametrize(
    ("words", "file", "arguments"),
    [
        ("the value 3, expected 0 to 2 or 255", "a.png", (2, 3, 3)),
        (r"is 3x2 \(width x height\), the image 2x3", "a.png", (3, 2)),
        ("mode RGB", "colour.png", ()),
        ("cannot be read", "broken.png", ()),
        ("cannot be read", "missing.png", ()),
    ],
)
def test_labels_that_are_wrong_are_named(tmp_path, words, file, arguments):
    write_label(tmp_path / "a.png", np.full((2, 3), 3, dtype=np.uint8))
    Image.new("RGB", (3, 2)).save(tmp_path / "colour.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    with pytest.raises(DataError, match=rf"{file}: .*{words}"):
        read_label(tmp_path / file, *arguments)


@pytest.fixture
def data(tmp_path):
    write_dataset(tmp_path / "data", number=2)
    return tmp_path / "data"


@pytest.fixture
def register(data, name):
    """``register(file="boxes.json", **label folders)``: a new dataset of two images; returns its name."""

    def call(file="boxes.json", **labels):
        register_dataset(name, str(data / file), str(data), labels)
        return name

    return call


def write_labels(data, folder, value=1):
    for i in (1, 2):
        write_label(data / folder / f"{i}.png", np.full((SIZE, SIZE), value, dtype=np.uint8))
    return str(data / folder)


def test_truth_comes_from_the_folder_or_from_the_masks(data, register):
    name = register(sem_seg=write_labels(data, "true", value=2))
    image = json.loads((data / "boxes.json").read_text())["images"][1]
    assert (truth_reader(name)(image) == 2).all()
    assert (truth_reader(name, class_agnostic=True)(image) == 1).all()
    label = truth_reader(register())(image)  # a wide one, of the first category
    assert np.unique(label).tolist() == [0, 1] and (label == 1).sum() == 14 * 30


def test_truth_must_be_one(data, register):
    with pytest.raises(ConfigError, match="has the labels y_crf, y_ret, expected one"):
        truth_reader(register(y_crf="a", y_ret="b"))
    document = json.loads((data / "boxes.json").read_text())
    for annotation in document["annotations"]:
        del annotation["segmentation"]
    write_json(data / "no_masks.json", document)
    with pytest.raises(ConfigError, match="no label folder and .* no masks"):
        truth_reader(register("no_masks.json"))


def test_every_image_needs_a_label_of_its_size(data):
    source = load_source(data / "boxes.json", data)
    check_label_files(source, write_labels(data, "y"))
    write_label(data / "y" / "2.png", np.zeros((SIZE, SIZE + 1), dtype=np.uint8))
    with pytest.raises(DataError, match=r"2\.png: the label map is 65x64"):
        check_label_files(source, data / "y")
    (data / "y" / "2.png").unlink()
    with pytest.raises(DataError, match=r"2\.png: cannot be read as a label map, .* image 2 of"):
        check_label_files(source, data / "y")
    with pytest.raises(DataError, match="no such folder of label maps"):
        check_label_files(source, data / "nowhere")


NO_TEACHER = ConfigError, "its labels are not a teacher's"


def test_labels_of_a_teacher_have_a_manifest_that_names_them(tmp_path):
    with pytest.raises(NO_TEACHER[0], match=NO_TEACHER[1]):
        check_pseudo_labels(tmp_path / "y_crf", ["a", "b"])
    write_manifest(tmp_path, {"method": "BANA"}, ["y_crf"], ["a", "b"])
    check_pseudo_labels(tmp_path / "y_crf", ["a", "b"])
    with pytest.raises(NO_TEACHER[0], match=NO_TEACHER[1]):
        check_pseudo_labels(tmp_path / "true", ["a", "b"])
    found = r"'classes': found 3 \(background, a, b\), expected 2 \(background, a\)"
    with pytest.raises(DataError, match=found):
        check_pseudo_labels(tmp_path / "y_crf", ["a"])


@pytest.mark.parametrize(
    ("manifest", "error", "message"),
    [
        ({"labels": 5}, *NO_TEACHER),
        ([], *NO_TEACHER),
        ({"labels": ["y"]}, DataError, "manifest.json: key 'classes': found None, expected a list"),
        ({"labels": ["y"], "classes": ["a", 1], "wsis": {}}, DataError, "'classes': found .'a', 1"),
    ],
)
def test_a_manifest_of_another_form_is_one_line(tmp_path, manifest, error, message):
    write_json(tmp_path / "manifest.json", manifest)
    with pytest.raises(error, match=message):
        check_pseudo_labels(tmp_path / "y", ["a"])

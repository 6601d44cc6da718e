"""The VOC 2012 / SBD converter on small trees of exactly the official form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.voc_tree import VOC_TRAIN, of_image, prepare, read, write_tree
from wsis.data.builtin_paths import BUILTIN, BUILTIN_SEM_SEG
from wsis.data.labels import check_truth, truth_reader
from wsis.data.registration import register_dataset
from wsis.data.source import load_source
from wsis.data.voc import VOC_CLASSES
from wsis.structures.rle import decode_mask


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree(tmp_path)


def test_boxes_are_one_based_inclusive(root: Path) -> None:
    prepare(root)
    document = read(root, "voc_2012_trainaug_boxes")
    person, dog = of_image(document, "2007_000032")
    assert person["bbox"] == [0, 0, 20, 30] and dog["bbox"] == [30, 10, 30, 30]
    assert (person["category_id"], dog["category_id"]) == (15, 12)
    assert (person["difficult"], dog["difficult"]) == (0, 1)
    assert person["area"] == 600
    monitor = of_image(document, "2008_000002")[0]
    assert monitor["bbox"] == pytest.approx([9.7, 4.2, 21.0, 21.0])
    assert all(a["iscrowd"] == 0 for a in document["annotations"])


def test_sets_ids_and_categories(root: Path) -> None:
    prepare(root)
    masked, boxes = read(root, "voc_2012_trainaug"), read(root, "voc_2012_trainaug_boxes")
    stems = ["2007_000032", "2007_000039", "2008_000002", "2008_000003"]
    assert [i["file_name"] for i in boxes["images"]] == [f"{s}.jpg" for s in stems]
    assert boxes["images"][0]["id"] == 2007000032
    assert [i["id"] for i in read(root, "voc_2012_val_instances")["images"]] == [2007000033]
    names = {c["id"]: c["name"] for c in boxes["categories"]}
    assert names == dict(enumerate(VOC_CLASSES, start=1)) and sorted(VOC_CLASSES) == [*VOC_CLASSES]
    assert [a["id"] for a in boxes["annotations"]] == list(range(1, 10))
    same = ("id", "image_id", "category_id", "bbox", "difficult")
    for with_mask, without in zip(masked["annotations"], boxes["annotations"], strict=True):
        assert all(with_mask[key] == without[key] for key in same)
    for name in ("voc_2012_trainaug_boxes", "voc_2012_trainaug", "voc_2012_val_instances"):
        source = load_source(root / BUILTIN[name][0], root / BUILTIN[name][1])
        assert source.has_masks == (not name.endswith("boxes"))


def test_boxes_file_holds_nothing_of_a_mask(root: Path) -> None:
    prepare(root)
    text = (root / BUILTIN["voc_2012_trainaug_boxes"][0]).read_text()
    assert "segmentation" not in text and "void" not in text and "counts" not in text
    boxes = json.loads(text)
    assert all(a["area"] == a["bbox"][2] * a["bbox"][3] for a in boxes["annotations"])


def test_the_official_train_images_have_true_labels_of_their_own(root: Path) -> None:
    prepare(root)
    train, masked = read(root, "voc_2012_train_instances"), read(root, "voc_2012_trainaug")
    assert [image["file_name"] for image in train["images"]] == [f"{s}.jpg" for s in VOC_TRAIN]
    assert train["annotations"] == [
        a for name in VOC_TRAIN for a in of_image(masked, name)
    ]  # ids too
    json_file, images, folders = BUILTIN_SEM_SEG["voc_2012_train_semantic"]
    labels = {name: str(root / folder) for name, folder in folders.items()}
    register_dataset("voc_train_test", str(root / json_file), str(root / images), labels)
    check_truth("voc_train_test")
    label_of = truth_reader("voc_train_test")
    for image, name in zip(train["images"], VOC_TRAIN, strict=True):
        png = root / "VOCdevkit/VOC2012/SegmentationClass" / f"{name}.png"
        assert np.array_equal(label_of(image), np.array(Image.open(png)))


def test_void_is_neither_object_nor_background(root: Path) -> None:
    prepare(root)
    document = read(root, "voc_2012_trainaug")
    image = document["images"][0]
    labels = np.array(Image.open(root / "VOCdevkit/VOC2012/SegmentationObject/2007_000032.png"))
    assert np.array_equal(decode_mask(image["void"]), labels == 255)
    for k, annotation in enumerate(of_image(document, "2007_000032"), start=1):
        mask = decode_mask(annotation["segmentation"])
        assert np.array_equal(mask, labels == k)
        assert annotation["area"] == mask.sum()
    assert "void" not in document["images"][2]  # SBD knows no void


def test_voc_masks_follow_the_order_of_the_xml(root: Path) -> None:
    prepare(root)
    left, right, bird = of_image(read(root, "voc_2012_trainaug"), "2007_000039")
    labels = np.array(Image.open(root / "VOCdevkit/VOC2012/SegmentationObject/2007_000039.png"))
    assert np.array_equal(decode_mask(left["segmentation"]), labels == 1)
    assert np.array_equal(decode_mask(right["segmentation"]), labels == 2)
    assert "segmentation" not in bird and bird["area"] == 49


def test_sbd_masks_are_matched_by_class_and_iou(root: Path) -> None:
    prepare(root)
    monitor, sofa, small_sofa = of_image(read(root, "voc_2012_trainaug"), "2008_000002")
    mask = decode_mask(monitor["segmentation"])
    assert mask[5:25, 10:30].all() and mask.sum() == 400
    mask = decode_mask(sofa["segmentation"])
    assert mask[:20, 30:50].all() and mask.sum() == 400
    assert "segmentation" not in small_sofa and small_sofa["difficult"] == 1


def test_min_iou_is_obeyed(root: Path) -> None:
    prepare(root, "--min-iou", "0.99")
    monitor, sofa, _ = of_image(read(root, "voc_2012_trainaug"), "2008_000002")
    assert "segmentation" not in monitor and "segmentation" in sofa


def test_val_has_every_mask_instance(root: Path) -> None:
    prepare(root)
    plane, person = read(root, "voc_2012_val_instances")["annotations"]
    assert plane["bbox"] == [5, 5, 20, 20] and plane["area"] == 16 * 16  # box of the XML
    assert person["bbox"] == [42, 12, 6, 6] and person["category_id"] == 15  # no XML object: tight
    assert (plane["id"], person["id"]) == (1, 2)


def test_class_pngs(root: Path) -> None:
    prepare(root)
    json_file, _, folders = BUILTIN_SEM_SEG["voc_2012_trainaug_semantic"]
    folder = root / folders["sem_seg"]
    names = [
        Path(i["file_name"]).stem for i in json.loads((root / json_file).read_text())["images"]
    ]
    assert sorted(p.name for p in folder.iterdir()) == [f"{name}.png" for name in names]
    with Image.open(folder / "2007_000032.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[15 * 3 : 15 * 3 + 3] == [192, 128, 128]  # VOC's colour of person
        own = Image.open(root / "VOCdevkit/VOC2012/SegmentationClass/2007_000032.png")
        assert np.array_equal(np.array(image), np.array(own))
    sbd = np.array(Image.open(folder / "2008_000002.png"))
    assert sbd[10, 12] == 20 and sbd[0, 0] == 0 and sbd[10, 40] == 18


def test_running_again_and_in_parallel_gives_the_same_bytes(root: Path) -> None:
    prepare(root)
    first = {p: p.read_bytes() for p in (root / "voc_2012").rglob("*.*") if p.is_file()}
    prepare(root, "--workers", "2")
    second = {p: p.read_bytes() for p in (root / "voc_2012").rglob("*.*") if p.is_file()}
    assert first == second and len(first) == 4 + 4

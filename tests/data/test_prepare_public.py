"""What the converters make of public datasets."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.converters import (
    BLOBS,
    COCO,
    NUCLEI,
    VOC,
    VOC_TRAIN,
    check_boxes_file,
    of_image,
    prepare,
    read,
)
from wsis.data.builtin_paths import BUILTIN, BUILTIN_SEM_SEG
from wsis.data.labels import check_truth, truth_reader
from wsis.data.nuclei import split
from wsis.data.registration import register_dataset
from wsis.data.source import load_source
from wsis.data.voc import VOC_CLASSES
from wsis.structures.rle import decode_mask


@pytest.fixture
def voc(tmp_path):
    prepare("voc2012", tmp_path)
    return tmp_path


@pytest.fixture
def masked(voc):
    return read(voc, "voc_2012_trainaug")


def pixels_of(path):
    with Image.open(path) as image:
        return np.array(image)


def source_of(root, name, **options):
    return load_source(root / BUILTIN[name][0], root / BUILTIN[name][1], **options)


def test_voc_boxes_are_one_based_inclusive(voc):
    document = read(voc, "voc_2012_trainaug_boxes")
    person, dog = of_image(document, "2007_000032")
    assert person["bbox"] == [0, 0, 20, 30] and dog["bbox"] == [30, 10, 30, 30]
    assert (person["category_id"], dog["category_id"]) == (15, 12)
    assert (person["difficult"], dog["difficult"]) == (0, 1)
    assert person["area"] == 600
    monitor = of_image(document, "2008_000002")[0]
    assert monitor["bbox"] == pytest.approx([9.7, 4.2, 21.0, 21.0])
    assert all(a["iscrowd"] == 0 for a in document["annotations"])


def test_voc_sets_ids_and_categories(voc, masked):
    boxes = read(voc, "voc_2012_trainaug_boxes")
    stems = ["2007_000032", "2007_000039", "2008_000002", "2008_000003"]
    assert [i["file_name"] for i in boxes["images"]] == [f"{s}.jpg" for s in stems]
    assert boxes["images"][0]["id"] == 2007000032
    assert [i["id"] for i in read(voc, "voc_2012_val_instances")["images"]] == [2007000033]
    names = {c["id"]: c["name"] for c in boxes["categories"]}
    assert names == dict(enumerate(VOC_CLASSES, start=1)) and sorted(VOC_CLASSES) == [*VOC_CLASSES]
    assert [a["id"] for a in boxes["annotations"]] == list(range(1, 10))
    check_boxes_file(masked, boxes, "difficult")
    for name in ("voc_2012_trainaug_boxes", "voc_2012_trainaug", "voc_2012_val_instances"):
        assert source_of(voc, name).has_masks == (not name.endswith("boxes"))


def test_the_official_train_images_have_true_labels_of_their_own(voc, masked):
    train = read(voc, "voc_2012_train_instances")
    assert [image["file_name"] for image in train["images"]] == [f"{s}.jpg" for s in VOC_TRAIN]
    assert train["annotations"] == [a for n in VOC_TRAIN for a in of_image(masked, n)]  # ids too
    json_file, images, folders = BUILTIN_SEM_SEG["voc_2012_train_semantic"]
    labels = {name: str(voc / folder) for name, folder in folders.items()}
    register_dataset("voc_train_test", str(voc / json_file), str(voc / images), labels)
    check_truth("voc_train_test")
    label_of = truth_reader("voc_train_test")
    for image, name in zip(train["images"], VOC_TRAIN, strict=True):
        png = voc / VOC / "SegmentationClass" / f"{name}.png"
        assert np.array_equal(label_of(image), pixels_of(png))


def test_voc_masks_follow_the_xml_and_void_is_neither_object_nor_background(voc, masked):
    *_, bird = of_image(masked, "2007_000039")
    assert "segmentation" not in bird and bird["area"] == 49
    for name in VOC_TRAIN:
        labels = pixels_of(voc / VOC / "SegmentationObject" / f"{name}.png")
        for k, annotation in enumerate(of_image(masked, name)[:2], start=1):
            mask = decode_mask(annotation["segmentation"])
            assert np.array_equal(mask, labels == k) and annotation["area"] == mask.sum()
        (image,) = (i for i in masked["images"] if i["file_name"] == f"{name}.jpg")
        assert np.array_equal(decode_mask(image["void"]), labels == 255)
    assert "void" not in masked["images"][2]  # SBD knows no void


def test_sbd_masks_are_matched_by_class_and_iou(voc, masked):
    monitor, sofa, small_sofa = of_image(masked, "2008_000002")
    for annotation, window in ((monitor, np.s_[5:25, 10:30]), (sofa, np.s_[:20, 30:50])):
        mask = decode_mask(annotation["segmentation"])
        assert mask[window].all() and mask.sum() == 400
    assert "segmentation" not in small_sofa and small_sofa["difficult"] == 1
    prepare("voc2012", voc, "--min-iou", "0.99")
    monitor, sofa, _ = of_image(read(voc, "voc_2012_trainaug"), "2008_000002")
    assert "segmentation" not in monitor and "segmentation" in sofa


def test_voc_val_has_every_mask_instance(voc):
    plane, person = read(voc, "voc_2012_val_instances")["annotations"]
    assert plane["bbox"] == [5, 5, 20, 20] and plane["area"] == 16 * 16  # box of the XML
    assert person["bbox"] == [42, 12, 6, 6] and person["category_id"] == 15  # no XML object: tight
    assert (plane["id"], person["id"]) == (1, 2)


def test_voc_class_pngs(voc):
    json_file, _, folders = BUILTIN_SEM_SEG["voc_2012_trainaug_semantic"]
    folder = voc / folders["sem_seg"]
    images = json.loads((voc / json_file).read_text())["images"]
    names = [Path(image["file_name"]).stem for image in images]
    assert sorted(p.name for p in folder.iterdir()) == [f"{name}.png" for name in names]
    with Image.open(folder / "2007_000032.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[15 * 3 : 15 * 3 + 3] == [192, 128, 128]  # VOC's colour of person
        own = pixels_of(voc / VOC / "SegmentationClass/2007_000032.png")
        assert np.array_equal(np.array(image), own)
    sbd = pixels_of(folder / "2008_000002.png")
    assert sbd[10, 12] == 20 and sbd[0, 0] == 0 and sbd[10, 40] == 18


def test_boxes_masks_and_images_of_nuclei(tmp_path, capsys):
    prepare("nuclei", tmp_path, "--val-fraction", "0", "--max-side", "24")
    assert "4 empty masks left out" in capsys.readouterr().out
    document = read(tmp_path, "nuclei_train")
    assert [i["file_name"] for i in document["images"]] == [f"{n}.png" for n in NUCLEI[:4]]
    first, second = document["annotations"][:2]
    assert first["bbox"] == [3, 2, 6, 4] and second["bbox"] == [8, 4, 4, 4]
    mask = decode_mask(first["segmentation"])
    assert mask[2:6, 3:9].all() and mask.sum() == first["area"] == 24
    assert decode_mask(second["segmentation"]).sum() == 16  # overlaps stay with both
    image = Image.open(tmp_path / BUILTIN["nuclei_train"][1] / f"{NUCLEI[1]}.png")
    assert image.mode == "RGB" and image.getpixel((0, 0)) == (10, 20, 31)
    assert read(tmp_path, "nuclei_val")["images"] == []


def test_splits_of_nuclei_are_disjoint_and_share_ids(tmp_path):
    prepare("nuclei", tmp_path, "--val-fraction", "0.4")
    train, boxes, val = (read(tmp_path, f"nuclei_{s}") for s in ("train", "train_boxes", "val"))
    assert len(train["images"]) == 3 and len(val["images"]) == 2
    assert sorted(i["id"] for i in train["images"] + val["images"]) == [1, 2, 3, 4, 5]
    ids = [a["id"] for a in train["annotations"] + val["annotations"]]
    assert sorted(ids) == list(range(1, 9))
    check_boxes_file(train, boxes)
    for name in ("nuclei_train", "nuclei_train_boxes", "nuclei_val"):
        source_of(tmp_path, name)


def test_the_split_depends_on_the_seed_only():
    names = [f"{k:03d}" for k in range(100)]
    first = split(names, 0.2, 0)
    assert len(first) == 20 and first == split(names[::-1], 0.2, 0)
    assert first != split(names, 0.2, 1)
    assert first < split(names, 0.3, 0)


def test_images_of_a_single_salient_object(tmp_path, capsys):
    prepare("duts", tmp_path)
    document = read(tmp_path, "duts_tr_single")
    names = [image["file_name"] for image in document["images"]]
    assert names == ["one.jpg", "one_and_a_speck.jpg", "touching_at_a_corner.jpg"]
    assert "3 of 5 images" in capsys.readouterr().out
    first, speck, third = document["annotations"]
    assert [a["image_id"] for a in (first, speck, third)] == [1, 2, 3]
    assert first["bbox"] == [5, 4, 10, 8] and first["area"] == 80
    expected = np.zeros((20, 30), dtype=bool)
    expected[BLOBS["one"][0]] = True
    np.testing.assert_array_equal(decode_mask(first["segmentation"]), expected)
    assert decode_mask(speck["segmentation"]).sum() == 102  # the speck stays in the mask
    source = source_of(tmp_path, "duts_tr_single")
    assert source.has_masks and source.class_names == ["object"]
    prepare("duts", tmp_path, "--min-share", "0")
    assert len(read(tmp_path, "duts_tr_single")["images"]) == 4  # every one with a mask


def test_only_masks_and_what_came_of_them_are_gone_from_coco(tmp_path):
    prepare("coco", tmp_path)
    document = read(tmp_path, "coco_2017_train_boxes")
    for key in ("info", "licenses", "images", "categories"):
        assert document[key] == COCO[key]
    boxes = document["annotations"]
    assert [a["id"] for a in boxes] == [7, 900100000009, 8]
    assert [a["bbox"] for a in boxes] == [a["bbox"] for a in COCO["annotations"]]
    assert [a["area"] for a in boxes] == [1200.0, 20, 0]
    assert [a["iscrowd"] for a in boxes] == [0, 1, 0]
    kept = {"id", "image_id", "category_id", "bbox", "area", "iscrowd"}
    assert all(set(a) == kept for a in boxes)
    assert json.loads((tmp_path / "coco/annotations/instances_train2017.json").read_text()) == COCO
    json_file = tmp_path / BUILTIN["coco_2017_train_boxes"][0]
    assert not load_source(json_file, bad_box="skip").has_masks

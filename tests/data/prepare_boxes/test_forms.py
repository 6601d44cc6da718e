"""The converter of other tools' boxes, on small trees as these tools leave them."""

import json
import re

import numpy as np
import pytest

from tests.data import formats_trees as trees
from tests.data.formats_trees import HEIGHT, NAMES, OBJECTS, WIDTH, labelme_file, labelme_shape
from tests.masks import rectangle
from wsis.data.source import load_source
from wsis.structures.rle import decode_mask, segmentation_to_rle


def objects_of(document):
    """In the form of OBJECTS."""
    names = {c["id"]: c["name"] for c in document["categories"]}
    images = {i["id"]: i["file_name"] for i in document["images"]}
    found = {name: [] for name in images.values()}
    for a in document["annotations"]:
        x, y, w, h = a["bbox"]
        box = (x, y, round(x + w, 6), round(y + h, 6))
        found[images[a["image_id"]]].append((names[a["category_id"]], box))
    return found


@pytest.mark.parametrize("form", [*trees.FORMS, "via_csv"])
def test_six_forms_are_one_document(root, convert, form):
    source = trees.FORMS.get(form, trees.via_csv)(root)
    more = ("--classes", root / "codes.csv") if form == "openimages" else ()
    status, document, out, err = convert(form.partition("_")[0], source, *more)
    assert (status, err) == (0, "")
    # a table of boxes does not know of images without any
    expected = {n: o for n, o in OBJECTS.items() if o or form != "openimages"}
    assert objects_of(document) == expected
    assert [c["name"] for c in document["categories"]] == NAMES
    assert {(i["height"], i["width"]) for i in document["images"]} == {(HEIGHT, WIDTH)}
    assert f"{len(expected)} images, 4 boxes" in out and str(root / "images") in out
    assert ("left out: images without annotations: 1, the first is sub/c.png" in out) == (
        form == "openimages"
    )
    source = load_source(root / "out/boxes.json", root / "images")
    assert not source.has_masks and not source.bad_boxes


@pytest.mark.parametrize("form", ["yolo", "labelme", "cvat", "via"])
@pytest.mark.parametrize("masks", [False, True])
def test_polygons_are_boxes_and_on_request_masks(root, convert, form, masks):
    source = trees.FORMS[form](root, polygons=True)
    _, document, out, _ = convert(form, source, *["--masks"][: int(masks)])
    assert objects_of(document) == OBJECTS
    assert ("4 with mask" in out) == masks
    for a in document["annotations"]:
        assert ("segmentation" in a) == masks
        x, y, w, h = map(round, a["bbox"])
        if masks:
            mask = decode_mask(segmentation_to_rle(a["segmentation"], HEIGHT, WIDTH))
            np.testing.assert_array_equal(mask, rectangle((HEIGHT, WIDTH), x, y, x + w, y + h))
            assert a["area"] == w * h


@pytest.mark.parametrize("form", ["yolo", "cvat", "labelme", "via"])
def test_an_independent_reader_finds_the_same_boxes(root, form):
    globox = pytest.importorskip("globox")
    source, images = trees.FORMS[form](root), root / "images"
    read = globox.AnnotationSet
    found = {
        "yolo": lambda: read.from_yolo_v5(
            root / "labels", image_folder=images, image_extension=".png"
        ).map_labels({"0": "bolt", "1": "nut"}),
        "cvat": lambda: read.from_cvat(source),
        "labelme": lambda: read.from_labelme(source, recursive=True),
        "via": lambda: read.from_via_json(source, label_key="kind"),
    }[form]()
    assert len(found) >= 1
    for annotation in found:
        name = annotation.image_id.replace("\\", "/").rpartition("/")[2]
        (own,) = (o for n, o in OBJECTS.items() if n.rpartition("/")[2] == name)
        assert [box.label for box in annotation.boxes] == [label for label, _ in own]
        boxes = np.array([box.ltrb for box in annotation.boxes]).reshape(-1, 4)
        np.testing.assert_allclose(boxes, np.array([b for _, b in own]).reshape(-1, 4), atol=1e-6)


YOLO_LINES = {
    "1 0.5 0.5 0.2 0.2 0.93": "",  # a prediction with its confidence
    "\n  \n": "",
    "1 0.5 0.5 0.2": "neither a box (5 numbers) nor a polygon",
    "nut 0.5 0.5 0.2 0.2": "something else than numbers",
    "2 0.5 0.5 0.2 0.2": "whose class number has no name",
    "-1 0.5 0.5 0.2 0.2": "whose class number has no name",
    "0.5 0.5 0.5 0.2 0.2": "whose class number has no name",
    "1 30 20 12 8": "outside of 0 to 1 (pixels instead of shares?)",
    "1 nan 0.5 0.2 0.2": "outside of 0 to 1",
    "1 0.5 0.5 0 0.2": "boxes without area",
}


@pytest.mark.parametrize("line", YOLO_LINES)
def test_lines_of_yolo(root, convert, line):
    source = trees.yolo(root)
    with (root / "labels/a.txt").open("a") as stream:
        stream.write(f"{line}\n")
    status, document, out, _ = convert("yolo", source)
    assert status == 0
    told = [text for text in out.splitlines() if text.startswith("left out: ")]
    assert len(told) == bool(YOLO_LINES[line])
    assert len(document["annotations"]) == 4 + ("0.93" in line)
    if told:
        assert YOLO_LINES[line] in told[0]
        assert f": 1, the first is {root / 'labels/a.txt'} line 3" in told[0]


def test_splits_and_layouts_of_yolo(root, convert, monkeypatch):
    source = trees.yolo(root)
    _, document, _, _ = convert("yolo", root, "--split", "val")
    assert list(objects_of(document)) == ["sub/b.jpg", "sub/c.png"]
    # names of images are relative to the dataset unless --images says otherwise
    _, document, out, _ = convert("yolo", root, images=False)
    assert list(objects_of(document)) == [f"images/{name}" for name in OBJECTS]
    # a list of images, as Ultralytics has it, and a path as exports of Roboflow have it
    (root / "list.txt").write_text("./images/a.png\n/elsewhere/images/sub/b.jpg\n")
    for train, number in (("list.txt", 2), ("[images/sub, images]", 3), ("../images", 3)):
        source.write_text(f"train: {train}\nnames: {{'0': no, 1: 007}}\n")
        document = convert("yolo", source)[1]
        assert len(document["images"]) == number
        assert [c["name"] for c in document["categories"]] == ["no", "007"]
    source.write_text("train: images\nnc: 3\nnames: [bolt, nut]\n")
    text = f"which decide: 1, the first is {source}: nc 3, 2 names"
    assert text in " ".join(convert("yolo", source)[2].split())
    # without data.yaml
    source.unlink()
    status, _, _, err = convert("yolo", root)
    assert "name them by --classes" in err
    (root / "names.txt").write_text("bolt\nnut\n")
    _, document, _, _ = convert("yolo", root, "--classes", root / "names.txt")
    assert objects_of(document) == OBJECTS
    (root / "names.txt").rename(root / "labels/classes.txt")
    (root / "labels/a.txt").rename(root / "labels/z.txt")
    _, document, out, _ = convert("yolo", root)
    assert len(document["annotations"]) == 2 and len(document["images"]) == 3
    assert "left out: text files without an image: 1, the first is " in out
    assert "note: images without a text file, which show no object: 1, the first is a.png" in out


def test_poses_of_yolo_are_boxes(root, convert):
    source = trees.yolo(root)
    source.write_text(source.read_text() + "kpt_shape: [2, 2]\n")
    text = (root / "labels/a.txt").read_text().replace("\n", " 0.9 0.9 0 0\n")
    (root / "labels/a.txt").write_text(text)
    assert objects_of(convert("yolo", source)[1]) == OBJECTS


def test_shapes_of_labelme(root, convert):
    window = np.zeros((3, 4), dtype=np.uint8)
    window[1:, :2] = 255
    cut = labelme_shape("nut", "mask", [[-2, 38], [1, 40]], mask=trees.png(window))
    pieces = [
        labelme_shape("bolt", "polygon", trees.corners((x, 1, x + 3, 5)), group_id=7)
        for x in (2, 20)
    ]
    shapes = [
        labelme_shape("nut", "circle", [[30, 20], [33, 24]]),
        labelme_shape("nut", "mask", [[10, 20], [13, 22]], mask=trees.png(window)),
        *pieces,
        labelme_shape("nut", "rectangle", [[1, 1], [4, 4]], group_id=7),  # of another class
        labelme_shape("nut", "line", [[1, 1], [4, 4]]),
        labelme_shape("nut", "linestrip", [[1, 1], [4, 4]]),
        labelme_shape("nut", "line", [[1, 1], [4, 4]]),
        labelme_shape("nut", "rectangle", [[1, "x"], [4, 4]]),
        labelme_shape("nut", "mask", [[1, 1], [4, 4]], mask="no image"),
        labelme_shape("", "rectangle", [[1, 1], [4, 4]]),
        labelme_shape("nut", "rectangle", [[70, 1], [74, 4]]),
        cut,
        7,
    ]
    labelme_file(root / "json/a.json", "a.png", *shapes)
    (root / "json/other.json").write_text("[1]")
    labelme_file(root / "json/gone.json", "gone.png", shapes[0])
    labelme_file(root / "json/b.json", "sub/b.jpg", shapes[0], imageHeight=41)
    status, document, out, err = convert("labelme", root / "json", "--masks")
    assert status == 3 and "images of another size than the annotations say: 1, the first is" in err
    expected = [(25, 15, 35, 25), (10, 20, 14, 23), (2, 1, 23, 5), (1, 1, 4, 4), (-2, 38, 2, 41)]
    labels = ["nut", "nut", "bolt", "nut", "nut"]
    assert objects_of(document) == {"a.png": list(zip(labels, expected, strict=True))}
    circle, mask, joined, plain, _ = document["annotations"]
    assert circle["area"] == pytest.approx(np.pi * 25, rel=0.05)
    whole = np.zeros((HEIGHT, WIDTH), dtype=bool)
    whole[21:23, 10:12] = True
    np.testing.assert_array_equal(decode_mask(mask["segmentation"]), whole)
    assert joined["area"] == 24 and len(joined["segmentation"]) == 2
    assert "segmentation" not in plain
    told = dict(re.findall(r"^left out: (.*?): (\d+), the first is", out, flags=re.M))
    assert told == {
        "shapes of the kind line": "2",
        "shapes of the kind linestrip": "1",
        "shapes of the kind rectangle whose points cannot be used": "1",
        "shapes of the kind mask whose points cannot be used": "1",
        "objects without a class": "1",
        "boxes wholly outside their image": "1",
        "shapes that are none": "1",
        "JSON files that are not LabelMe's": "1",
        "annotated images that are not there": "1",
        "images without annotations": "1",
    }


def test_shapes_of_cvat(root, convert):
    shapes = [
        trees.cvat_box("nut", (10, 10, 30, 14), rotation="90"),
        '<ellipse label="nut" cx="30" cy="20" rx="5" ry="2" rotation="90"/>',
        '<mask label="nut" rle="4, 2, 2, 2, 2" left="10" top="20" width="4" height="3"/>',
        '<polygon label="bolt" points="2,1;5,1;5,5;2,5" group_id="3"/>',
        '<polygon label="bolt" points="20,1;23,1;23,5;20,5" group_id="3"/>',
        '<polyline label="nut" points="2,1;5,1;5,5"/>',
        '<points label="nut" points="2,1;5,1"/>',
        '<mask label="nut" rle="4,2" left="10" top="20" width="4" height="3"/>',
        trees.cvat_box("nut", (1, 1, "wide", 4)),
        '<tag label="nut"/>',
    ]
    trees.cvat_file(root / "annotations.xml", {"a.png": "".join(shapes), "": "", "x/gone.png": ""})
    status, document, out, err = convert("cvat", root, "--masks")
    assert (status, err) == (0, "")
    expected = [(18, 2, 22, 22), (28, 15, 32, 25), (10, 20, 14, 23), (2, 1, 23, 5)]
    assert [box for _, box in objects_of(document)["a.png"]] == expected
    whole = np.zeros((HEIGHT, WIDTH), dtype=bool)
    whole[21:23, 10:12] = True
    np.testing.assert_array_equal(decode_mask(document["annotations"][2]["segmentation"]), whole)
    assert [a["area"] for a in document["annotations"]][::3] == [80, 24]
    assert "note: turned boxes, of which the upright box around them was taken: 1, the first" in out
    told = dict(re.findall(r"^left out: (.*?): (\d+), the first is", out, flags=re.M))
    assert told == {
        "shapes of the kind polyline": "1",
        "shapes of the kind points": "1",
        "shapes of the kind mask whose numbers cannot be used": "1",
        "shapes of the kind box whose numbers cannot be used": "1",
        "shapes of the kind tag": "1",
        "annotated images that are not there": "2",
        "images without annotations": "2",
    }


def test_rows_of_open_images(root, convert):
    path = trees.open_images(root)
    rows = ["gone,,/m/nut,1,0,1,0,1,0", "gone,,/m/nut,1,0,1,0,1,0", "a,,/m/nut,1,0.1,0.5,x,1,0"]
    rows += ["a,,/m/nut,1,6,30,4,20,0", "a,,/m/nut,1,0.1,0.5,0.2,0.5,1", "a,,/m/cat,1,0,1,0,1,0"]
    path.write_text(path.read_text() + "".join(f"{row}\n" for row in rows))
    _, document, out, _ = convert("openimages", path, "--classes", root / "codes.csv")
    assert [a["iscrowd"] for a in document["annotations"]] == [0, 0, 1, 0, 0]
    for line in (
        "left out: annotated images that are not there: 1, the first is gone",
        "left out: boxes of images that cannot be used: 2, the first is ",
        "left out: rows whose corners are no numbers: 1",
        "left out: rows with corners outside of 0 to 1: 1",
        "left out: objects of classes that are not in the list: 1, the first is /m/cat, ",
        "note: boxes around groups, written as crowds: 1",
    ):
        assert line in out
    _, document, _, _ = convert("openimages", path)
    assert [c["name"] for c in document["categories"]] == ["/m/bolt", "/m/cat", "/m/nut"]


def test_regions_of_via(root, convert):
    regions = [
        {"shape_attributes": {"name": "circle", "cx": 30, "cy": 20, "r": 5}},
        {"shape_attributes": {"name": "ellipse", "cx": 30, "cy": 20, "rx": 5, "ry": 2, "theta": 0}},
        {"shape_attributes": {"name": "polyline", "all_points_x": [1], "all_points_y": [1]}},
        {"shape_attributes": {"name": "rect", "x": 1, "y": 2, "width": 3}},
        {"shape_attributes": {"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1]}},
        {"shape_attributes": {"name": []}},
        "no region",
    ]
    entry = {"filename": "a.png", "regions": dict(enumerate(regions))}  # version 1 has no list
    (root / "via.json").write_text(json.dumps({"a.png": entry, "x": {**entry, "filename": ""}}))
    status, document, out, _ = convert("via", root / "via.json")
    assert objects_of(document) == {
        "a.png": [("object", (25, 15, 35, 25)), ("object", (25, 18, 35, 22))]
    }
    told = dict(re.findall(r"^left out: (.*?): (\d+), the first is", out, flags=re.M))
    assert told == {
        "regions of the kind polyline": "1",
        "regions of the kind []": "1",
        "regions of the kind None": "1",
        "regions of the kind rect whose numbers cannot be used": "1",
        "regions of the kind polygon whose numbers cannot be used": "1",
        "annotated images that are not there": "1",
        "images without annotations": "2",
    }
    assert "note: regions without attributes, whose class is now 'object': 1" in out
    # several attributes: the user says which one is the class
    for region, kind in zip(regions[:2], ("nut", {"bolt": True, "nut": True}), strict=True):
        region["region_attributes"] = {"kind": kind, "note": "x"}
    (root / "via.json").write_text(json.dumps({"a.png": {**entry, "regions": regions}}))
    assert (
        "attributes kind, note; name the one that is the class by --label-key"
        in (convert("via", root / "via.json")[3])
    )
    _, document, out, _ = convert("via", root / "via.json", "--label-key", "kind")
    assert len(document["annotations"]) == 1 and "objects without a class: 1" in out


def test_photographs_on_their_side_and_files_that_are_no_images(root, convert):
    trees.turn(root / "images/sub/b.jpg")
    assert objects_of(convert("cvat", trees.cvat(root))[1]) == OBJECTS
    assert objects_of(convert("yolo", trees.yolo(root))[1]) == OBJECTS
    (root / "images/sub/b.jpg").write_bytes(b"no image")
    for form in ("cvat", "labelme", "yolo", "via", "openimages"):
        status, document, _, err = convert(form, trees.FORMS[form](root))
        assert status == 3 and len(document["annotations"]) == 2
        assert err.startswith("left out: images that cannot be read: 1, the first is ")

"""The tool that writes masks as polygons, and the way home of masks that people have corrected."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.data.builders import coco, write_json
from tests.data.converters import SCRIPTS, save
from tests.masks import rectangle
from wsis.structures.rle import decode_mask, encode_mask, rle_area, segmentation_to_rle

SIZE = (40, 60)
FORMS = ("coco-polygons", "yolo-seg", "labelme")
DONUT = rectangle(SIZE, 2, 2, 22, 22) & ~rectangle(SIZE, 8, 8, 14, 14)
SPLIT = rectangle(SIZE, 30, 4, 36, 20) | rectangle(SIZE, 40, 4, 44, 20)
Y, X = np.mgrid[: SIZE[0], : SIZE[1]]
DISC = (X - 30) ** 2 + (Y - 20) ** 2 <= 15**2
MASKS = {11: (1, 4, DONUT, 0.75), 5: (2, 9, DISC, 1), 12: (1, 9, SPLIT, 0.5)}
"""Annotation id to image, category, mask and score; the order is not that of the images."""


@pytest.fixture
def masks(tmp_path):
    """``masks.json``: three masks, one of them with ignored pixels, and whatever has none; its images."""
    size = {"height": SIZE[0], "width": SIZE[1]}
    images = [{"id": i, "file_name": f"x/{i}.png", **size} for i in (1, 2, 3)]
    for image in images:
        save(tmp_path / "images" / image["file_name"], np.zeros((*SIZE, 3), dtype=np.uint8))
    box, filled = [1, 1, 50, 30], encode_mask(rectangle(SIZE, 1, 1, 51, 31))
    annotations = [
        {
            "id": i,
            "image_id": image,
            "category_id": category,
            "bbox": box,
            "iscrowd": 0,
            "segmentation": encode_mask(mask),
            "area": int(mask.sum()),
            "score": score,
            "status": "ok",
        }
        for i, (image, category, mask, score) in MASKS.items()
    ]
    annotations[0]["ignore_segmentation"] = filled
    no_mask = {"image_id": 3, "category_id": 4, "bbox": box, "segmentation": filled}
    for i, more in enumerate(({"status": "empty"}, {"status": "failed"}, {"iscrowd": 1}), start=30):
        annotations.append({"id": i, **no_mask, **more})
    annotations.append({"id": 40, **no_mask, "segmentation": encode_mask(np.zeros(SIZE, bool))})
    annotations.append({"id": 41, **no_mask, "segmentation": []})
    info = {"wsis": {"method": "GrabCut"}}
    document = coco(*annotations, images=images, categories={9: "cat", 4: "dog"}, info=info)
    write_json(tmp_path / "masks.json", document)
    return document


@pytest.fixture
def export(tmp_path, tool):
    """``export(form, words...)``: what was written, and what was printed."""

    def run(form, *words, proxy="masks.json", status=0):
        target = tmp_path / ("out.json" if form == "coco-polygons" else "out")
        words = ("--to", form, "--proxy", tmp_path / proxy, "--output", target, *words)
        ended = tool("export_masks", *words)
        assert ended.status == status, ended.err
        if status:
            assert len(ended.err.splitlines()) == 1 and ended.out == ""
            return ended.err
        return target, ended.out

    return run


def told(out):
    return dict(re.findall(r"^(?:left out|note): (.*?): (\d+), the first is", out, flags=re.M))


LEFT_OUT = {
    "boxes without a mask (status empty)": "1",
    "boxes without a mask (status failed)": "1",
    "crowds": "1",
    "masks without a pixel": "1",
    "annotations without a mask": "1",
}
SAID = {
    "coco-polygons": {"regions to be ignored, which are not written": "1"},
    "yolo-seg": {
        "masks of several parts, which were strung together by a seam": "1",
        "ids and scores, which YOLO has no place for": "3",
    },
    "labelme": {"masks of several parts, which were written as one group of shapes": "1"},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_pixel_comes_back_and_what_a_form_cannot_say_is_counted(masks, export, form):
    _, out = export(form)
    seams = {"masks with holes, which were cut open by a seam": "1"}
    assert told(out) == LEFT_OUT | SAID[form] | seams
    assert "3 masks of 3 images; round trip IoU: mean 1.0000, minimum 1.0000" in out


@pytest.mark.parametrize("form", FORMS)
def test_filled_holes_and_thinned_outlines_are_measured(masks, export, form, tmp_path):
    _, out = export(form, "--fill-holes")
    fit = DONUT.sum() / (DONUT.sum() + 36)
    assert f"mean {(2 + fit) / 3:.4f}, minimum {fit:.4f}" in out
    counts = told(out)
    assert counts["masks with holes, which were filled"] == "1"
    assert counts["pixels in holes that were filled"] == "36"
    full = tmp_path / ("out.json" if form == "coco-polygons" else "out")
    full.rename(tmp_path / "exact")
    target, out = export(form, "--tolerance", 1)
    mean, minimum = map(float, re.findall(r"(?:mean|minimum) ([\d.]+)", out))
    assert 0.9 < minimum < mean < 1
    sizes = [
        sum(p.stat().st_size for p in ([f] if f.is_file() else f.rglob("*.*")) if p.is_file())
        for f in (target, tmp_path / "exact")
    ]
    assert sizes[0] < sizes[1]


def test_coco_polygons_keep_what_annotations_say(masks, export):
    target, _ = export("coco-polygons")
    document = json.loads(target.read_text())
    assert [document[k] for k in ("info", "images", "categories")] == [
        masks[k] for k in ("info", "images", "categories")
    ]
    for made, given in zip(document["annotations"], masks["annotations"], strict=False):
        drawn = segmentation_to_rle(made.pop("segmentation"), *SIZE)
        assert drawn == given.pop("segmentation")
        given.pop("ignore_segmentation", None)
        assert made == given and made["area"] == rle_area(drawn)
    assert len(document["annotations"]) == 3


def test_a_folder_that_yolo_trains_on(masks, export, tmp_path, tool):
    target, _ = export("yolo-seg", "--images", tmp_path / "images")
    assert (target / "images/x/1.png").is_file() and (target / "labels/x/3.txt").read_text() == ""
    assert [len(p.read_text().splitlines()) for p in sorted(target.rglob("*.txt"))] == [2, 1, 0]
    document = yaml.safe_load((target / "data.yaml").read_text())
    assert document == {"train": "images", "val": "images", "names": {0: "dog", 1: "cat"}}
    words = ("--from", "yolo", "--input", target, "--masks", "--output", tmp_path / "again.json")
    status, out, _ = tool(SCRIPTS / "prepare_boxes.py", *words)
    assert status == 0 and "left out" not in out
    again = json.loads((tmp_path / "again.json").read_text())
    drawn = [segmentation_to_rle(a["segmentation"], *SIZE) for a in again["annotations"]]
    assert drawn == [encode_mask(m) for m in (DONUT, SPLIT, DISC)]


def test_files_that_labelme_opens(masks, export, tmp_path):
    target, _ = export("labelme", "--images", tmp_path / "images")
    document = json.loads((target / "x/1.json").read_text())
    assert (target / "x" / document["imagePath"]).resolve() == tmp_path / "images/x/1.png"
    assert [(s["label"], s["group_id"], s["description"]) for s in document["shapes"]] == [
        ("dog", None, "id 11, score 0.75"),
        *[("cat", 12, "id 12, score 0.5")] * 2,
    ]
    assert sorted(p.name for p in target.rglob("*.json")) == ["1.json", "2.json", "3.json"]
    assert not json.loads((target / "x/3.json").read_text())["shapes"]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_results_of_a_detector(masks, export, tmp_path):
    results = [
        {"image_id": image, "category_id": c, "segmentation": encode_mask(mask), "score": score}
        for image, c, mask, score in MASKS.values()
    ]
    write_json(tmp_path / "results.json", [*results, {**results[0], "segmentation": []}])
    assert "name the COCO file that it is about by --json" in (
        export("coco-polygons", proxy="results.json", status=2)
    )
    words = ("--json", tmp_path / "masks.json")
    target, out = export("coco-polygons", *words, proxy="results.json")
    assert "left out: entries without a mask: 1" in out and "minimum 1.0000" in out
    made = json.loads(target.read_text())["annotations"]
    assert [(a["id"], a["image_id"], a["category_id"], a["score"]) for a in made] == [
        (i, image, c, score) for i, (image, c, _, score) in enumerate(MASKS.values(), start=1)
    ]
    assert made[1]["bbox"] == [15, 5, 31, 31]
    del results[0]["category_id"]
    write_json(tmp_path / "results.json", results)
    assert "key 'category_id': found nothing" in (
        export("coco-polygons", *words, proxy="results.json", status=2)
    )


def test_refusals(masks, export, tmp_path):
    assert "--tolerance: found -1.0" in export("labelme", "--tolerance", -1, status=2)
    assert "no such folder" in export("labelme", "--images", tmp_path / "gone", status=2)
    (tmp_path / "out").mkdir()
    export("yolo-seg")
    assert "holds files already, expected a new or empty folder" in export("labelme", status=2)
    write_json(tmp_path / "boxes.json", coco({"bbox": [1, 1, 4, 4]}))
    assert (
        "found no mask, expected a proxy-mask file or results; annotations without a mask: 1"
        in (export("labelme", proxy="boxes.json", status=2))
    )
    for names, message in (
        (("a.png", "a.jpg"), "a.png and a.jpg: two images of one name"),
        (("../a.png", "b.png"), "../a.png leaves the image folder"),
    ):
        for image, name in zip(masks["images"], names, strict=False):
            image["file_name"] = name
        write_json(tmp_path / "names.json", masks)
        assert message in export("labelme", proxy="names.json", status=2)


def _correct(form: str, target: Path) -> None:
    """What a person does: the outline of one mask becomes another one."""
    if form == "coco-polygons":
        document = json.loads(target.read_text())
        document["annotations"][0]["segmentation"] = [[5, 5, 25, 5, 25, 30, 5, 30]]
        target.write_text(json.dumps(document))
    elif form == "labelme":
        path = target / "x/1.json"
        document = json.loads(path.read_text())
        document["shapes"].append(document["shapes"][0] | {"points": [[50, 1], [55, 1], [55, 9]]})
        document["shapes"][0]["points"] = [[5, 5], [25, 5], [25, 30], [5, 30]]
        path.write_text(json.dumps(document))
    else:
        path = target / "labels/x/1.txt"
        shares = np.array([5, 5, 25, 5, 25, 30, 5, 30]).reshape(-1, 2) / SIZE[::-1]
        _, *others = path.read_text().splitlines()
        line = " ".join(["0", *(f"{v:.6f}" for v in shares.ravel())])
        path.write_text("\n".join([line, *others]))


@pytest.mark.parametrize("form", FORMS)
def test_corrected_masks_come_home(masks, export, tmp_path, tool, form):
    boxes = [(2, 2, 25, 28), (15, 5, 31, 31), (30, 4, 14, 16)]
    for a, box in zip(masks["annotations"], boxes, strict=False):
        a["bbox"] = list(box)
    write_json(tmp_path / "masks.json", masks)
    target, _ = export(form, "--images", tmp_path / "images")
    _correct(form, target)
    home = target
    if form != "coco-polygons":
        home = tmp_path / "corrected.json"
        words = ["--from", form.partition("-")[0], "--input", target, "--masks", "--output", home]
        status, out, err = tool(
            SCRIPTS / "prepare_boxes.py", *words, "--images", tmp_path / "images"
        )
        assert status == 0, err
        assert ("objects that were copied from another one, with its id: 1" in out) == (
            form == "labelme"
        )
    words = ["--config-file", SCRIPTS.parent / "configs/external/external_masks.yaml"]
    words += ["MODEL.EXTERNAL.FILE", home, "OUTPUT_DIR", tmp_path / "run"]
    custom = [["mine", str(tmp_path / "masks.json"), str(tmp_path / "images")]]
    words += ["DATASETS.CUSTOM", custom, "DATASETS.TRAIN", "('mine',)", "MODEL.DEVICE", "cpu"]
    status, _, err = tool("generate_proxy_masks", *words, "PROXY.NUM_WORKERS", 0)
    assert status == 0, err
    made = json.loads((tmp_path / "run/proxy/mine.json").read_text())["annotations"]
    expected = {11: rectangle(SIZE, 5, 5, 25, 30), 5: DISC, 12: SPLIT}
    for a in made[:3]:
        assert a["status"] == "ok"
        np.testing.assert_array_equal(decode_mask(a["segmentation"]), expected[a["id"]])
    assert {a["status"] for a in made[3:]} == {"empty", "crowd"}

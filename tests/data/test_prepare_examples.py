"""The photos that come with scikit-image, and the boxes on them."""

from __future__ import annotations

from collections import Counter

import numpy as np

from tests.conftest import TOOLS
from wsis.data.images import read_image
from wsis.data.source import load_source
from wsis.layers.iou import box_iou
from wsis.structures.boxes import xywh_to_xyxy

SCRIPT = TOOLS.parent / "datasets" / "prepare_examples.py"
CLASSES = {"cat": 1, "eye": 2, "coin": 24, "saucer": 1, "cup": 1, "spoon": 1}
CLASSES |= {"person": 1, "space shuttle": 1, "helmet": 1}


def test_boxes_lie_on_the_photos_and_the_bytes_are_the_same_twice(tmp_path, tool):
    written = []
    for name in ("one", "two"):
        status, printed, error = tool(SCRIPT, "--output", tmp_path / name)
        assert (status, error) == (0, "")
        assert printed.endswith("examples_boxes.json: 4 photos, 33 boxes\n")
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        written.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert written[0] == written[1] and len(written[0]) == 5
    source = load_source(tmp_path / "one/examples_boxes.json", tmp_path / "one/images")
    names = {each["id"]: each["name"] for each in source.categories}
    assert Counter(names[each["category_id"]] for each in source.annotations) == CLASSES
    assert not any("segmentation" in each for each in source.annotations)
    for image in source.images:
        size = image["height"], image["width"]
        assert read_image(source.path_of(image), *size).shape == (*size, 3)
        boxes = xywh_to_xyxy([each["bbox"] for each in source.annotations_of(image["id"])])
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= size[::-1]).all()


def test_every_coin_has_its_box(tmp_path, tool):
    """No two overlap, and each is dark in its corners and bright within."""
    assert tool(SCRIPT, "--output", tmp_path)[0] == 0
    source = load_source(tmp_path / "examples_boxes.json", tmp_path / "images")
    (image,) = (each for each in source.images if each["file_name"] == "coins.png")
    pixels = read_image(source.path_of(image), image["height"], image["width"])[..., 0]
    boxes = xywh_to_xyxy([each["bbox"] for each in source.annotations_of(image["id"])])
    overlaps = box_iou(boxes[:, None], boxes[None])
    assert np.array_equal(overlaps > 0, np.eye(24, dtype=bool))
    for x0, y0, x1, y1 in boxes.astype(int):
        crop = pixels[y0:y1, x0:x1]
        corners = np.concatenate([crop[:3, :3], crop[:3, -3:], crop[-3:, :3], crop[-3:, -3:]])
        assert np.median(crop) > np.median(corners) + 30

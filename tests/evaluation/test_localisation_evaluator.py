"""Score maps of the classes of images against their boxes and masks."""

import json

import numpy as np
import pytest
import torch

from tests.data.builders import coco
from tests.masks import rectangle
from wsis.config import get_cfg
from wsis.data.prepare import mask_annotation
from wsis.data.registration import register_dataset
from wsis.errors import ConfigError, DataError
from wsis.evaluation.localisation import (
    LocalisationEvaluator,
    LocalisationParams,
    View,
)
from wsis.structures import ScoreMaps

NAME = "localisation_test"
SIZE = (32, 40)
BOXES = {(1, 3): (4, 4, 20, 24), (1, 7): (24, 8, 36, 16), (2, 3): (8, 8, 24, 24)}
"""By image and category."""


def write(path, masks=True, boxes=True):
    annotations = []
    for number, ((image, category), box) in enumerate(BOXES.items(), start=1):
        made = mask_annotation(rectangle(SIZE, *box), category)
        if not masks:
            del made["segmentation"]
        if not boxes:
            del made["bbox"]
        annotations.append({"id": number, "image_id": image, **made})
    images = [
        {"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]} for i in (1, 2)
    ]
    document = coco(*annotations, images=images, categories={3: "a", 7: "b"})
    path.write_text(json.dumps(document))
    register_dataset(NAME, str(path), "")


@pytest.fixture
def make(tmp_path):
    def evaluator(view=None, masks=True, boxes=True, **params):
        write(tmp_path / "gt.json", masks, boxes)
        params = LocalisationParams(**params)
        return LocalisationEvaluator(NAME, params, view or View(), str(tmp_path / "out"))

    return evaluator


def perfect(image, value=1.0, stride=1, shift=0):
    """Maps of the image's objects, moved to the right."""
    found = {3: [], 7: []}
    for (number, category), (x0, y0, x1, y1) in BOXES.items():
        if number == image:
            found[category].append(value * rectangle(SIZE, x0 + shift, y0, x1 + shift, y1))
    present = {k: v[0] for k, v in found.items() if v}
    scores = np.stack(list(present.values())).astype(np.float32)
    if stride > 1:
        scores = scores[:, ::stride, ::stride]
    return ScoreMaps([{3: 1, 7: 2}[k] for k in present], scores, *SIZE, stride=stride)


def run(evaluator, maps, scores=None):
    evaluator.reset()
    for image, each in maps.items():
        output = {"score_maps": {"bas": each}}
        if scores is not None:
            output["tags"] = torch.tensor(scores[image])
        evaluator.process([{"image_id": image}], [output])
    return evaluator.evaluate()["localisation"]


def test_perfect_maps(make, tmp_path):
    found = run(make(), {image: perfect(image) for image in (1, 2)})
    assert {name: round(value) for name, value in found.items()} == {
        "GTknown": 100,
        "IoU30": 100,
        "IoU50": 100,
        "IoU70": 100,
        "MaxBoxAccV2": 100,
        "PxAP": 0,  # a map of two values has no step of recall
        "PIoU": 100,
    }
    saved = json.loads((tmp_path / "out" / "localisation.json").read_text())
    assert saved == {"localisation": found}


def test_the_unit_is_an_image_and_a_class(make):
    maps = {1: perfect(1, shift=8), 2: perfect(2)}
    found = run(make(masks=False), maps, {1: [0.2, 0.9], 2: [0.9, 0.2]})
    # IoU of the moved objects: 8 / 24, and 4 / 16 as the image's edge cuts it
    assert found["IoU30"] == pytest.approx(200 / 3) and found["GTknown"] == pytest.approx(100 / 3)
    assert found["Top1Loc"] == pytest.approx(100 / 3) and found["Top1"] == pytest.approx(200 / 3)
    assert found["Top5"] == 100 and "PxAP" not in found


def test_a_threshold_chosen_on_the_images_is_named_so(make):
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    cone = 1 - np.maximum(abs(y - 15.5) / 16, abs(x - 15.5) / 16).clip(0, 1)
    maps = {2: ScoreMaps([1], cone[None], *SIZE)}
    plain = run(make(threshold=0.9), maps)
    assert plain["GTknown"] == 0 and not any("chosen" in name for name in plain)
    found = run(make(threshold=0.9, choose=True), maps)
    assert found["GTknown"] == 0 and found["GTknown chosen here"] == 100
    assert 0.2 < found["threshold chosen here"] < 0.7 and found["MaxBoxAccV2"] == 100


@pytest.mark.parametrize("stride", [2, 4])
def test_maps_on_a_grid(make, stride):
    found = run(make(threshold=0.5), {i: perfect(i, 0.3, stride) for i in (1, 2)})
    assert found["IoU70"] == 100 and found["PIoU"] > 75


def test_the_centre_crop(make):
    """The object of image 2 in the middle 24 x 24 of an image made 32 x 32: from x = 6.4 to 19.2, less 4."""
    view = View("centre", resize=32, size=24)
    shown = np.zeros((1, 24, 24), np.float32)
    shown[0, 4:20, 2:15] = 1
    maps = {2: ScoreMaps([1], shown, 24, 24)}
    found = run(make(view), maps)
    assert found["IoU70"] == 100 and found["PIoU"] > 90


def test_what_cannot_be_judged(make):
    with pytest.raises(DataError, match=r"gt.json: found no box, expected some"):
        make(boxes=False, masks=False).process(
            [{"image_id": 1}], [{"score_maps": {"bas": perfect(1)}}]
        )
    cfg = get_cfg()
    cfg.DATASETS.CLASS_AGNOSTIC = True
    with pytest.raises(ConfigError, match="CLASS_AGNOSTIC: found True, expected False"):
        LocalisationEvaluator.from_cfg(cfg, NAME, "")
    assert make().evaluate() == {}

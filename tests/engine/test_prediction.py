"""A student's predictions: annotations, classes, and the folder that survives a kill."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances

import wsis
from tests.tiny import write_config
from wsis.config import load_cfg
from wsis.engine.prediction import PredictionFolder, resolve_categories, to_annotations
from wsis.errors import ConfigError, DataError, WsisError
from wsis.structures.rle import decode_mask

CATEGORIES = [{"id": 3, "name": "wide"}, {"id": 7, "name": "tall"}]


def instances(boxes, scores, classes, masks=None):
    found = Instances((10, 12), pred_boxes=Boxes(torch.tensor(boxes)))
    found.scores = torch.tensor(scores)
    found.pred_classes = torch.tensor(classes)
    if masks is not None:
        found.pred_masks = torch.from_numpy(np.stack(masks))
    return found


def test_annotations_of_masks():
    mask, nothing = np.zeros((2, 10, 12), dtype=bool)
    mask[2:5, 3:9] = True
    boxes = [[3.004, 2.0, 9.5, 5.25], [0, 0, 4, 4], [0, 0, 4, 4.0]]
    found = instances(boxes, [0.9, 0.5, 0.4], [1, 0, 0], [mask, nothing, mask])
    (first,) = to_annotations(found, CATEGORIES, 0.5)
    segmentation = first.pop("segmentation")
    assert np.array_equal(decode_mask(segmentation), mask)
    assert first == {
        "category_id": 7,
        "bbox": [3.0, 2.0, 6.5, 3.25],
        "area": 18,
        "iscrowd": 0,
        "score": pytest.approx(0.9, abs=1e-6),
        "status": "ok",
    }


def test_annotations_of_boxes_are_cut_to_the_image():
    boxes = [[-3, -3, 4, 5], [12, 2, 15, 6], [4, 4, 4.001, 9], [2, 8, 40, 40.0]]
    found = to_annotations(instances(boxes, [0.9, 0.8, 0.7, 0.6], [0, 0, 0, 1]), CATEGORIES, 0.0)
    assert [a["bbox"] for a in found] == [[0, 0, 4, 5], [2, 8, 10, 2]]
    assert [a["area"] for a in found] == [20, 20]
    assert "segmentation" not in found[0]
    assert to_annotations(instances(boxes, [0.9] * 4, [0] * 4), CATEGORIES, 0.95) == []


@pytest.fixture
def make_cfg(tmp_path, data):
    config = write_config(tmp_path, data)
    return lambda *opts: load_cfg(config, [str(o) for o in opts])


def test_classes_of_the_dataset_with_its_ids(make_cfg):
    cfg = make_cfg()
    assert resolve_categories(cfg) == CATEGORIES
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2
    cfg = make_cfg("DATASETS.CLASS_AGNOSTIC", True)
    assert resolve_categories(cfg) == [{"id": 1, "name": "object"}]
    cfg = make_cfg("DATASETS.TRAIN", "('gone_proxy',)", "DATASETS.TEST", "('tiny',)")
    assert resolve_categories(cfg) == CATEGORIES


def test_classes_without_the_dataset(make_cfg):
    gone = ("DATASETS.TRAIN", "('gone_proxy',)")
    with pytest.raises(ConfigError, match="no dataset is named 'gone_proxy'.*--classes FILE"):
        resolve_categories(make_cfg(*gone))
    with pytest.raises(ConfigError, match="DATASETS.TRAIN: found nothing.*--classes FILE"):
        resolve_categories(make_cfg("DATASETS.TRAIN", "()"))
    cfg = make_cfg(*gone)
    assert resolve_categories(cfg, ["a", "b", "c"])[2] == {"id": 3, "name": "c"}
    assert (cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES) == (3, 4)
    with pytest.raises(ConfigError, match="MODEL.ROI_HEADS.NUM_CLASSES: found 2, but there are 3"):
        resolve_categories(make_cfg(*gone, "MODEL.ROI_HEADS.NUM_CLASSES", 2), ["a", "b", "c"])


def test_classes_that_detectron2_knows(make_cfg):
    categories = resolve_categories(make_cfg("DATASETS.TRAIN", "('coco_2017_val',)"))
    assert [c["name"] for c in categories] == MetadataCatalog.get("coco_2017_val").thing_classes
    assert (categories[0]["id"], categories[-1]["id"]) == (1, 90)


PROVENANCE = {"version": wsis.__version__, "method": "X", "score_threshold": 0.5}


def annotation(category_id):
    return {"category_id": category_id, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 0}


@pytest.fixture
def open_folder(tmp_path):
    """The same folder with every call."""
    return lambda: PredictionFolder(tmp_path / "o", PROVENANCE, CATEGORIES)


def test_the_folder_goes_on_after_a_torn_line(tmp_path, open_folder):
    with open_folder() as folder:
        assert folder.start(resume=False) == set()
        folder.add("b.png", (4, 5), [annotation(3), annotation(7)])
        folder.add_failure("c.png", "c.png: cannot be read")
    with open(tmp_path / "o/predictions.jsonl", "ab") as stream:
        stream.write(b'{"image_id":"torn')
    with open_folder() as folder:
        assert folder.start(resume=True) == {"b.png"}
        folder.add("a.png", (6, 7), [annotation(7)])
        assert folder.finish(["a.png", "b.png", "c.png"]) == 3
    document = json.loads(folder.path.read_text())
    assert document["images"] == [
        {"id": 1, "file_name": "a.png", "height": 6, "width": 7},
        {"id": 2, "file_name": "b.png", "height": 4, "width": 5},
    ]
    found = [(a["id"], a["image_id"], a["category_id"]) for a in document["annotations"]]
    assert found == [(1, 1, 7), (2, 2, 3), (3, 2, 7)]
    assert document["info"]["wsis"] == PROVENANCE and document["categories"] == CATEGORIES


def test_the_folder_refuses_what_does_not_belong_together(tmp_path, open_folder):
    with open_folder() as folder:
        folder.start(resume=False)
        text = "another run is writing predictions"
        with pytest.raises(WsisError, match=text), open_folder():
            pass
    with open(tmp_path / "o/predictions.jsonl", "ab") as stream:
        stream.write(b'{"annotations": []}\n')
    folder = open_folder()
    with pytest.raises(DataError, match=r"predictions\.jsonl: line 2: not what image None"), folder:
        folder.start(resume=True)

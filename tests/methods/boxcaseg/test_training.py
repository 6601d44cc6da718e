"""From images and boxes to proxy masks in one run, as the tools do it."""

import contextlib
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from pycocotools.coco import COCO

from tests.methods.boxcaseg.tiny import make_cfg
from wsis.data.build import training_dicts
from wsis.data.mapper import WsisDatasetMapper
from wsis.data.registration import prepare_datasets
from wsis.data.shapes import ShapesSpec, prepare_shapes
from wsis.engine import WsisTrainer, launch

IMAGES = 4
SIZE = 64


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    prepare_shapes(folder, ShapesSpec(SIZE, IMAGES, 1, 6, 0), workers=1)
    write_discs(folder)
    return folder


def write_discs(folder):
    """``discs.json`` beside the shapes: images with two discs each, of which one covers a part of the other."""
    path = folder / "annotations" / "discs.json"
    document = json.loads(path.with_name("shapes_train_boxes.json").read_text())
    category = document["categories"][0]["id"]
    document["images"], document["annotations"] = [], []
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for number in range(1, IMAGES + 1):
        name, pixels = f"discs{number}.png", np.full((SIZE, SIZE, 3), 30, np.uint8)
        image = {"id": number, "file_name": name, "height": SIZE, "width": SIZE}
        document["images"].append(image)
        for x, y, radius in ((20 + number, 26, 14), (34 + number, 34, 10)):
            pixels[(columns - x) ** 2 + (rows - y) ** 2 <= radius**2] = 20 * radius - 100
            box = [x - radius, y - radius, 2 * radius + 1, 2 * radius + 1]
            annotation = {"id": 10 * number + radius, "image_id": number, "iscrowd": 0}
            document["annotations"].append(annotation | {"category_id": category, "bbox": box})
        cv2.imwrite(str(folder / "images" / name), pixels)
    path.write_text(json.dumps(document))


def config(folder, output, *opts):
    custom = [
        [f"my_{name}", str(folder / f"annotations/{name}.json"), str(folder / "images")]
        for name in ("shapes_train_boxes", "discs", "shapes_salient")
    ]
    cfg = make_cfg(
        *("DATASETS.CUSTOM", custom),
        *("DATASETS.TRAIN", "('my_shapes_train_boxes', 'my_discs')"),
        *("DATASETS.TEST", "()", "MODEL.BOXCASEG.SALIENT_DATASETS", ["my_shapes_salient"]),
        *("SOLVER.IMS_PER_BATCH", 4, "SOLVER.MAX_ITER", 3, "SOLVER.BASE_LR", 0.01, "SEED", 3),
        *("SOLVER.LR_SCHEDULER_NAME", "WarmupPolyLR", "SOLVER.WARMUP_ITERS", 0),
        *("DATALOADER.NUM_WORKERS", 0, "PROXY.NUM_WORKERS", 0, "OUTPUT_DIR", str(output), *opts),
    )
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    return cfg


def train(cfg, resume=False):
    """Trains to the end; the trainer."""
    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    seed_all_rng(3)
    trainer = WsisTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def weights(path):
    found = torch.load(path, weights_only=True)
    return found.get("model", found)


def coco_of(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


@pytest.fixture(scope="module")
def run(shapes, tmp_path_factory):
    """Output of a training that made its proxy masks, and the trainer."""
    output = tmp_path_factory.mktemp("run") / "out"
    return output, train(config(shapes, output, "PROXY.GENERATE_AFTER_TRAIN", True))


def test_every_parameter_has_learned(run):
    output, trainer = run
    seed_all_rng(3)
    start = dict(build_model(trainer.cfg).named_parameters())
    end = weights(output / "model_final.pth")
    assert set(start) <= set(end)
    for name, value in end.items():
        assert value.isfinite().all(), name
        if name in start:
            assert not torch.equal(value, start[name]), name
    lines = (output / "metrics.json").read_text().splitlines()
    assert {"loss_mil", "loss_pairwise", "loss_saliency"} <= set(json.loads(lines[-1]))


@pytest.mark.parametrize("name", ["shapes_train_boxes", "discs"])
def test_a_mask_and_a_confidence_for_every_box(run, shapes, name):
    path = run[0] / "proxy" / f"my_{name}.json"
    document, source = (
        json.loads(p.read_text()) for p in (path, shapes / "annotations" / f"{name}.json")
    )
    found, given = document["annotations"], source["annotations"]
    for key in ("id", "image_id", "category_id", "bbox"):
        assert [a[key] for a in found] == [a[key] for a in given]
    assert document["info"]["wsis"]["method"] == "BoxCaseg"
    assert {a["status"] for a in found} <= {"ok", "empty"}
    assert any(a["status"] == "ok" for a in found)
    assert all(0 <= a["score"] <= 1 for a in found)
    coco = coco_of(path)
    for annotation in found:
        mask = coco.annToMask(annotation)
        assert mask.shape == (SIZE, SIZE) and mask.any()
        x, y, w, h = annotation["bbox"]
        rows, columns = np.nonzero(mask)
        assert rows.min() >= int(y) and columns.min() >= int(x)
        assert rows.max() < y + h and columns.max() < x + w


def test_masks_of_overlapping_boxes_share_no_pixel(run):
    coco = coco_of(run[0] / "proxy" / "my_discs.json")
    assert len(coco.imgs) == IMAGES
    for pair in coco.imgToAnns.values():
        assert [a["status"] for a in pair] == ["ok", "ok"]
        first, second = (coco.annToMask(a) for a in pair)
        assert not (first & second).any()


def test_a_student_gets_the_confidences(run, shapes):
    proxy = run[0] / "proxy" / "my_shapes_train_boxes.json"
    cfg = make_cfg(
        *("DATASETS.CUSTOM", [["my_proxy", str(proxy), str(shapes / "images")]]),
        *("DATASETS.TRAIN", "('my_proxy',)", "DATASETS.TEST", "()", "WSIS.SUPERVISION", "proxy"),
        *("MODEL.META_ARCHITECTURE", "GeneralizedRCNN", "MODEL.MASK_ON", True),
        *("INPUT.MASK_FORMAT", "bitmask", "INPUT.RANDOM_FLIP", "none"),
        *("INPUT.MIN_SIZE_TRAIN", "(64,)"),
    )
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    expected = {a["id"]: a["score"] for a in json.loads(proxy.read_text())["annotations"]}
    seen = {}
    mapper = WsisDatasetMapper(cfg, is_train=True)
    for record in training_dicts(cfg):
        instances = mapper(record)["instances"]
        seen |= dict(zip(instances.gt_ids.tolist(), instances.gt_scores.tolist(), strict=True))
    assert seen == pytest.approx(expected)


def _train_in_a_process(folder, output):
    """What each of two processes does: every batch has three boxes and one salient image for both."""
    model = train(config(folder, output, "MODEL.BOXCASEG.WEAK_SHARE", 0.75)).model.module
    torch.save(dict(model.named_parameters()), output / f"rank{comm.get_rank()}.pth")


def test_two_processes_of_which_one_has_no_salient_image(run, shapes, tmp_path):
    assert launch(_train_in_a_process, 2, args=(shapes, tmp_path)) == 0
    first, second = (weights(tmp_path / f"rank{i}.pth") for i in range(2))
    seed_all_rng(3)
    start = dict(build_model(run[1].cfg).named_parameters())
    assert list(first) == list(second) == list(start)
    for name, value in first.items():
        assert torch.equal(value, second[name]) and value.isfinite().all(), name
        assert not torch.equal(value, start[name]), name


def test_a_resumed_training_ends_as_one_that_went_through(run, shapes, tmp_path):
    short = config(shapes, tmp_path, "SOLVER.CHECKPOINT_PERIOD", 2)
    seed_all_rng(3)
    Path(short.OUTPUT_DIR).mkdir(exist_ok=True)
    trainer = WsisTrainer(short)
    trainer.max_iter = 2
    trainer.train()
    assert trainer.iter == 2
    train(config(shapes, tmp_path), resume=True)
    through, resumed = (weights(folder / "model_final.pth") for folder in (run[0], tmp_path))
    for name, value in through.items():
        assert torch.allclose(resumed[name], value, atol=1e-6), name

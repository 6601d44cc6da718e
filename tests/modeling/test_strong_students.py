"""Students beyond Mask R-CNN on proxy masks: PointRend's head, Cascade, large-scale jitter."""

import json

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_loss
from detectron2.structures import BitMasks, Instances
from detectron2.utils.events import EventStorage

from tests.config_files import ROOT
from tests.modeling.heads import proposals
from tests.tiny import SIZE, write_config
from wsis.config import load_cfg
from wsis.data.build import training_dicts
from wsis.data.mapper import WsisDatasetMapper
from wsis.data.registration import prepare_datasets
from wsis.errors import ConfigError
from wsis.modeling.point_mask_head import ProxyPointRendMaskHead, values_at
from wsis.structures.rle import encode_box
from wsis.structures.run_masks import RunMasks


@pytest.fixture
def proxy_file(data):
    """A proxy-mask file: one mask with ignored pixels, one ``empty``, two plain ones."""
    document = json.loads((data / "boxes.json").read_text())
    document["info"] = {"wsis": {}}
    for annotation in document["annotations"]:
        annotation.update(score=1.0, status="ok")
    first, second = document["annotations"][:2]
    first["ignore_segmentation"] = encode_box([0, 0, 6, 6], SIZE, SIZE)
    second.update(score=0.0, status="empty", ignore_segmentation=second["segmentation"])
    (data / "proxy.json").write_text(json.dumps(document))
    return data / "proxy.json"


STRONG = ("mask_rcnn_lite0_FPN_photos_lsj", "cascade_mask_rcnn_lite0_FPN_photos")
STRONG += ("point_rend_lite0_FPN_photos",)


@pytest.mark.parametrize("name", STRONG)
def test_a_few_steps_on_proxy_masks(tmp_path, proxy_file, run, name):
    entries = [["tiny", str(proxy_file), str(proxy_file.parent)]]
    opts = ["DATASETS.CUSTOM", entries, "DATASETS.TRAIN", "('tiny',)", "MODEL.WEIGHTS", ""]
    opts += ["SOLVER.MAX_ITER", 3, "SOLVER.IMS_PER_BATCH", 2, "INPUT.MIN_SIZE_TRAIN", f"({SIZE},)"]
    opts += ["DATALOADER.NUM_WORKERS", 0, "OUTPUT_DIR", tmp_path / "out"]
    opts += ["INPUT.SCALE_JITTER.SIZE", SIZE] if name.endswith("lsj") else []
    assert run("train_net", "--config-file", ROOT / f"photos/{name}.yaml", *opts) == (0, "")
    lines = (tmp_path / "out/metrics.json").read_text().splitlines()
    metrics = json.loads(lines[-1])
    losses = {key: value for key, value in metrics.items() if key.startswith("loss_")}
    assert losses["loss_mask"] > 0 and all(np.isfinite(list(losses.values())))
    assert ("loss_mask_point" in losses) == name.startswith("point")
    assert ("loss_cls_stage2" in losses) == name.startswith("cascade")


@pytest.fixture
def make_head(tmp_path):
    """``make_head(key=value, ...)``: PointRend's head with three classes, in training."""

    def make(**changes):
        keys = {f"MODEL__{head}__NUM_CLASSES": 3 for head in ("ROI_HEADS", "POINT_HEAD")}
        keys |= {"MODEL__ROI_MASK_HEAD__FC_DIM": 16, "MODEL__POINT_HEAD__FC_DIM": 16}
        keys |= {"MODEL__ROI_MASK_HEAD__POINT_HEAD_ON": True, "MODEL__ROI_MASK_HEAD__CONV_DIM": 8}
        keys |= {"MODEL__ROI_MASK_HEAD__POOLER_RESOLUTION": 14}
        cfg = load_cfg(write_config(tmp_path, tmp_path, **keys | changes))
        torch.manual_seed(1)
        return ProxyPointRendMaskHead(cfg, {"p2": ShapeSpec(channels=8, stride=4)}).train()

    return make


def losses(head, instances):
    features = {
        "p2": torch.randn(len(instances), 8, 10, 13, generator=torch.Generator().manual_seed(2))
    }
    torch.manual_seed(3)
    with EventStorage():
        return head(features, instances)


@pytest.mark.parametrize("agnostic", [False, True])
def test_on_true_masks_the_coarse_loss_is_mask_r_cnns(make_head, agnostic):
    head = make_head(MODEL__ROI_MASK_HEAD__CLS_AGNOSTIC_MASK=agnostic)
    instances = [proposals(3), proposals(2, masks=BitMasks)]
    seen = []
    head.coarse_head.register_forward_hook(lambda module, args, out: seen.append(out))
    found = losses(head, instances)
    assert seen[0].shape[1] == (1 if agnostic else 3)
    with EventStorage():
        assert found["loss_mask"] == mask_rcnn_loss(seen[0], instances)
    sum(found.values()).backward()
    assert all(p.grad is not None for p in head.parameters())
    assert head.point_head.predictor.weight.grad.any()


def test_ignored_pixels_and_masks_of_score_0_teach_nothing(make_head):
    head, ones = make_head(), torch.ones(3, 40, 50, dtype=torch.bool)
    ignored = proposals(3, gt_ignore_masks=RunMasks(ones))
    for images in ([ignored], [proposals(3, gt_scores=torch.zeros(3))], [proposals(2, masks=None)]):
        found = losses(head, images)
        assert {name: value.item() for name, value in found.items()} == {
            "loss_mask": 0,
            "loss_mask_point": 0,
        }
        sum(found.values()).backward()
        assert all(not p.grad.any() for p in head.parameters())
    plain = proposals(3)
    alone, beside = losses(head, [plain]), losses(head, [plain, proposals(2, masks=None)])
    assert alone["loss_mask"] > 0
    torch.testing.assert_close(alone["loss_mask"], beside["loss_mask"])


def test_images_without_proposals(make_head):
    head, empty = make_head(), proposals(0, masks=None)
    assert sum(losses(head, [empty]).values()) == 0
    assert losses(head, [proposals(2), empty])["loss_mask_point"] > 0


def test_the_value_at_a_point_is_that_of_its_pixel():
    masks = torch.zeros(2, 4, 6, dtype=torch.bool)
    masks[0, 1, 2] = masks[1, 3, 5] = True
    first = Instances((4, 6), gt_masks=RunMasks(masks)[torch.tensor([1, 0, 0])])
    points = torch.tensor([[5.0, 3.0], [5.9, 3.9], [2.0, 1.0]]).expand(3, 3, 2)
    points = torch.stack([*points, torch.tensor([[2.5, 1.5], [6.0, 1.0], [-0.1, 1.5]])])
    second = Instances((4, 6), gt_masks=BitMasks(masks[:1]))
    found = values_at([first, second], "gt_masks", points)
    expected = [
        [True, True, False],
        [False, False, True],
        [False, False, True],
        [True, False, False],
    ]
    assert found.tolist() == expected
    assert not values_at([first, second], "gt_ignore_masks", points).any()
    assert values_at([first[:0]], "gt_masks", points[:0]).shape == (0, 3)


def jittered(data, **changes):
    """The mapper of a student whose images pass through large-scale jitter, and its dicts."""
    keys = {"MODEL__MASK_ON": True, "WSIS__SUPERVISION": "mask", **changes}
    cfg = load_cfg(write_config(data, data, **keys))
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    return WsisDatasetMapper(cfg, is_train=True), training_dicts(cfg)


def test_large_scale_jitter_moves_images_boxes_and_masks_together(data):
    keys = {"INPUT__SCALE_JITTER__SIZE": 48, "INPUT__SCALE_JITTER__SCALE": [0.4, 2.5]}
    mapper, dicts = jittered(data, **keys)
    sizes, kept = [], 0
    for each in dicts * 10:
        made = mapper(each)
        instances = made["instances"]
        sizes.append(made["image"].shape[1:])
        assert instances.image_size == tuple(sizes[-1])
        for box, mask in zip(instances.gt_boxes.tensor, instances.gt_masks.tensor, strict=True):
            rows, columns = mask.nonzero().T
            kept += 1
            if len(rows):
                tight = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                assert (tight - box).abs().max() <= 1.5
    assert max(max(size) for size in sizes) == 48 and min(min(size) for size in sizes) < 36
    assert kept > 20
    plain, dicts = jittered(data)
    assert plain(dicts[0])["image"].shape[1:] == (SIZE, SIZE)


def test_a_range_that_falls_is_refused(data):
    with pytest.raises(
        ConfigError, match="INPUT.SCALE_JITTER.SCALE: found .2.0, 1.0., expected two"
    ):
        jittered(data, INPUT__SCALE_JITTER__SCALE=[2.0, 1.0])

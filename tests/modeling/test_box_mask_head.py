"""The mask head of box losses: its terms, their warm-up, and that no mask reaches it."""

import json

import pytest
import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage

from tests.modeling.heads import head, loss_of, proposals
from tests.models import losses_and_gradient
from tests.tiny import write_config, write_dataset
from wsis.config import load_cfg
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisTrainer
from wsis.errors import ConfigError
from wsis.layers.box_losses import affinity_loss, cielab, outside_loss, projection_loss
from wsis.modeling.box_mask_head import BoxLossParams, BoxMaskHead
from wsis.structures.shared_image import SharedImage

M = 6


def boxed(*boxes, gt=(4, 8, 24, 20), masks=None, **fields):
    """Proposals of an image of faint noise, 40 pixels high and 50 wide, of one object."""
    made = proposals(len(boxes), masks=masks, **fields)
    made.proposal_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    made.gt_boxes = Boxes(torch.tensor([gt], dtype=torch.float32).expand(len(boxes), 4))
    image = torch.randint(90, 110, (3, 40, 50), dtype=torch.uint8)
    made.gt_image = SharedImage(image, len(boxes))
    return made


def losses(model, features, instances, iteration=0):
    with EventStorage(iteration):
        return model(features, instances)


def expected_terms(model, features, instances):
    """Unweighted, of proposals whose cells lie in the object's box as ``inside`` says."""
    (image,) = instances
    logits = model.layers(features)[torch.arange(len(image)), image.gt_classes][:, None]
    colours = image.gt_image.colours(image.proposal_boxes.tensor, M)
    return logits, cielab(colours)


def test_its_terms_are_the_equations_in_the_proposals():
    params = BoxLossParams(2.0, 3.0, 10, outside_weight=0.5)
    model, features = head(BoxMaskHead, box=params), torch.randn(2, 4, 3, 3)
    torch.nn.init.normal_(model.predictor.weight)
    instances = [boxed((4, 8, 28, 20), (0, 8, 24, 26))]  # cells of 4 x 2 and of 4 x 3 pixels
    logits, colours = expected_terms(model, features, instances)
    inside = torch.zeros(2, 1, M, M)
    inside[0, :, :, :5] = inside[1, :, :4, 1:] = 1
    found = losses(model, features, instances, iteration=5)
    assert set(found) == {"loss_projection", "loss_affinity", "loss_outside"}
    projection = 2 * projection_loss(logits, inside).mean()
    affinity = 1.5 * affinity_loss(logits, colours, inside).mean()  # half of the warm-up
    torch.testing.assert_close(found["loss_projection"], projection)
    torch.testing.assert_close(found["loss_affinity"], affinity)
    outside = 0.5 * outside_loss(logits, inside).mean()
    torch.testing.assert_close(found["loss_outside"], outside)

    image = instances[0].gt_image
    bgr = head(BoxMaskHead, box=model.box, image_format="BGR")
    bgr.load_state_dict(model.state_dict())
    instances[0].gt_image = SharedImage(image.image.flip(0), 2)
    torch.testing.assert_close(losses(bgr, features, instances, 5), found)
    assert losses(model, features, instances, 5)["loss_affinity"] != found["loss_affinity"]


@pytest.mark.parametrize(
    ("warmup", "iteration", "expected"), [(10, 0, 0), (10, 5, 0.5), (10, 10, 1), (10, 99, 1), (0, 0, 0), (0, 1, 1)]
)  # fmt: skip
def test_warm_up(warmup, iteration, expected):
    assert BoxLossParams(1.0, 1.0, warmup).affinity_weight_at(iteration) == expected


def test_beside_masks_it_is_the_proxy_head_too():
    features, box = torch.randn(3, 4, 3, 3), BoxLossParams(mask_weight=0.5)
    instances = [proposals(3, gt_scores=torch.tensor([0.5, 1.0, 0.0]))]
    plain, both = head(), head(BoxMaskHead, box=box)
    both.load_state_dict(plain.state_dict())
    instances[0].gt_boxes = instances[0].proposal_boxes
    instances[0].gt_image = SharedImage(torch.zeros(3, 40, 50, dtype=torch.uint8), 3)
    found = losses(both, features, instances)
    assert found["loss_mask"] == 0.5 * loss_of(plain, features, instances)
    assert found["loss_projection"] > 0 and found["loss_affinity"] == 0


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_no_proposals_and_images_without_any(weight):
    box = BoxLossParams(projection_weight=weight, affinity_warmup=0, outside_weight=weight)
    model = head(BoxMaskHead, box=box)
    empty = Instances(
        (40, 50), proposal_boxes=Boxes(torch.zeros(0, 4)), gt_classes=torch.zeros(0).long()
    )
    nothing = losses(model, torch.zeros(0, 4, 3, 3), [empty], 1)
    others = {"loss_projection", "loss_outside"} if weight else set()
    assert set(nothing) == {"loss_affinity"} | others
    sum(nothing.values()).backward()
    assert all(not p.grad.any() for p in model.parameters())
    features, at = torch.randn(1, 4, 3, 3), boxed((4, 8, 28, 20))
    torch.testing.assert_close(
        losses(model, features, [empty, at], 1), losses(model, features, [at], 1)
    )


@pytest.mark.parametrize(("key", "value"), [("AFFINITY_THRESHOLD", 0.0), ("MASK_WEIGHT", -1.0)])
def test_values_out_of_range(make_student, key, value):
    with pytest.raises(ConfigError, match=f"MODEL.ROI_MASK_HEAD.BOX.{key}: found"):
        make_student(**{f"MODEL__ROI_MASK_HEAD__BOX__{key}": value})


@pytest.fixture
def make_student(tmp_path):
    """``make_student(key=value, ...)``: a tiny Mask R-CNN with box losses, and a batch of a file with masks."""
    document = write_dataset(tmp_path / "data")

    def make(plain=False, **changes):
        keys = {"MODEL__MASK_ON": True, "MODEL__ROI_MASK_HEAD__NAME": "BoxMaskHead"}
        keys |= {"MODEL__ROI_MASK_HEAD__BOX__AFFINITY_WARMUP": 0, "WSIS__SUPERVISION": "box"}
        path = tmp_path / "data/plain.json"
        if plain:
            bare = [
                {k: v for k, v in a.items() if k not in ("segmentation", "area")}
                for a in document["annotations"]
            ]
            path.write_text(json.dumps(document | {"annotations": bare}))
            keys["DATASETS__CUSTOM"] = [["tiny", str(path), str(tmp_path / "data")]]
        cfg = load_cfg(write_config(tmp_path, tmp_path / "data", **keys | changes))
        prepare_datasets(cfg, cfg.DATASETS.TRAIN)
        seed_all_rng(1)
        model = WsisTrainer.build_model(cfg)
        return model, next(iter(WsisTrainer.build_train_loader(cfg)))

    return make


def test_boxes_alone_train_it_and_no_mask_is_in_a_batch(make_student):
    totals = []
    for plain in (False, True):
        model, batch = make_student(plain)
        assert len(batch) == 4
        for each in batch:
            fields = set(each["instances"].get_fields())
            assert fields == {"gt_boxes", "gt_classes", "gt_ids", "gt_image"}
        totals.append(losses_and_gradient(model, batch))
    assert totals[0] == totals[1]
    assert "loss_mask" not in totals[0] and totals[0]["loss_projection"] > 0
    assert totals[0]["roi_heads.mask_head.predictor.weight"] > 0


@pytest.mark.parametrize("supervision", ["mask", "box"])
def test_masks_need_their_supervision(make_student, supervision):
    keys = {"MODEL__ROI_MASK_HEAD__BOX__MASK_WEIGHT": 1.0, "WSIS__SUPERVISION": supervision}
    if supervision == "box":
        with pytest.raises(ConfigError, match="MODEL.MASK_ON: masks are needed.*BoxMaskHead"):
            make_student(**keys)
        return
    model, batch = make_student(**keys)
    assert batch[0]["instances"].has("gt_masks")
    assert {"loss_mask", "loss_projection", "loss_affinity"} <= set(
        losses_and_gradient(model, batch)
    )

"""A mask head that sees more than the box."""

import pytest
import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.env import seed_all_rng

from tests.tiny import write_config, write_dataset
from wsis.config import load_cfg
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisTrainer
from wsis.errors import ConfigError
from wsis.modeling.context_roi_heads import cut_to_boxes, windows_around


@pytest.fixture
def make(tmp_path):
    """The model of RoI heads with one seed's weights."""
    write_dataset(tmp_path / "data")

    def make(**heads):
        path = write_config(tmp_path, tmp_path / "data", MODEL__MASK_ON=True, **heads)
        cfg = load_cfg(path)
        prepare_datasets(cfg, cfg.DATASETS.TRAIN)
        seed_all_rng(1)
        return WsisTrainer.build_model(cfg).eval()

    return make


CONTEXT = {"MODEL__ROI_HEADS__NAME": "ContextROIHeads"}


def given(*boxes):
    made = Instances((40, 60), pred_boxes=Boxes(torch.tensor(boxes).float().reshape(-1, 4)))
    made.pred_classes = torch.zeros(len(boxes), dtype=torch.int64)
    return made


def test_windows_keep_the_centre_and_end_at_the_image():
    boxes = torch.tensor([[20, 10, 40, 20], [0, 0, 60, 40], [50, 30, 58, 38]]).float()
    expected = torch.tensor([[10, 5, 50, 25], [0, 0, 60, 40], [46, 26, 60, 40]]).float()
    torch.testing.assert_close(windows_around(boxes, 2.0, (40, 60)), expected)


def test_a_box_has_its_part_of_the_window():
    """A ramp in pixels of the image is the same ramp at the centres of the box's cells."""
    windows = torch.tensor([[8.0, 0, 40, 16], [2, 4, 10, 12]])
    boxes = torch.tensor([[16.0, 4, 32, 12], [2, 4, 10, 12]])

    def ramps(places):
        centres = (torch.arange(16) + 0.5) / 16
        x = places[:, :1] + (places[:, 2:3] - places[:, :1]) * centres
        y = places[:, 1:2] + (places[:, 3:] - places[:, 1:2]) * centres
        return (x[:, None] + 2 * y[:, :, None])[:, None]

    torch.testing.assert_close(cut_to_boxes(ramps(windows), windows, boxes), ramps(boxes))
    assert cut_to_boxes(torch.zeros(0, 1, 4, 4), windows[:0], boxes[:0]).shape == (0, 1, 4, 4)


def test_masks_of_the_box_itself_are_mask_rcnns(make):
    plain, same, wide = make(), make(**CONTEXT), make(**CONTEXT, **WIDE)
    features = plain.backbone(torch.rand(1, 3, 64, 64))
    boxes = [[10, 10, 30, 34], [0, 0, 60, 40]]
    for model in (same, wide):
        assert model.state_dict().keys() == plain.state_dict().keys()
    found = [
        model.roi_heads.forward_with_given_boxes(features, [given(*boxes)])[0]
        for model in (plain, same, wide)
    ]
    torch.testing.assert_close(found[1].pred_masks, found[0].pred_masks)
    assert not torch.allclose(found[2].pred_masks[0], found[0].pred_masks[0])
    assert found[2].pred_boxes.tensor.tolist() == boxes
    empty = wide.roi_heads.forward_with_given_boxes(features, [given()])[0]
    assert len(empty.pred_masks) == 0


WIDE = {"MODEL__ROI_MASK_HEAD__POOLER_CONTEXT": 2.0}


def test_the_head_learns_the_window(make, monkeypatch):
    model, seen = make(**CONTEXT, **WIDE).train(), []
    monkeypatch.setattr(
        model.roi_heads.mask_head, "forward", lambda x, each: seen.extend(each) or {}
    )
    made = Instances((40, 60), proposal_boxes=Boxes(torch.tensor([[20.0, 10, 40, 20]] * 2)))
    made.gt_classes = torch.tensor([0, model.roi_heads.num_classes])  # the second is background
    made.gt_boxes = Boxes(torch.tensor([[22.0, 10, 38, 20]] * 2))
    model.roi_heads._forward_mask(model.backbone(torch.rand(1, 3, 64, 64)), [made])
    assert seen[0].proposal_boxes.tensor.tolist() == [[10, 5, 50, 25]]
    assert seen[0].gt_boxes.tensor.tolist() == [[22, 10, 38, 20]]
    assert made.proposal_boxes.tensor[0].tolist() == [20, 10, 40, 20]


def test_less_than_the_box_is_refused(make):
    with pytest.raises(ConfigError, match="POOLER_CONTEXT: found 0.5, expected at least 1"):
        make(**CONTEXT, MODEL__ROI_MASK_HEAD__POOLER_CONTEXT=0.5)

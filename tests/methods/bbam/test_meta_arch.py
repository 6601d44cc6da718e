"""BBAM as a teacher: it is its detector, and leaves it as it was."""

import copy
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from tests.masks import needs_crf, overlap
from tests.methods.bbam.tiny_detector import BOXES, KINDS, SIZE, make_bbam, make_cfg, make_inputs
from wsis.engine import WsisCheckpointer
from wsis.engine.provenance import result_config
from wsis.errors import ConfigError
from wsis.methods.bbam.meta_arch import frozen
from wsis.structures.boxes import box_to_slices

pytestmark = needs_crf

BBAM = ("MODEL.META_ARCHITECTURE", "BBAM")


def maps_of(model, inputs=None):
    """The attribution maps of one image, by annotation id."""
    with torch.no_grad():
        (seed,) = model.propose([inputs or make_inputs()])
    assert list(seed.maps) == [str(i) for i in range(len(seed))]
    return dict(zip(seed.annotation_ids, seed.maps.values(), strict=True))


def seeded(*keys):
    torch.manual_seed(0)
    return make_bbam(*keys)


def with_another_class():
    """Inputs whose second box is of a class that the detector does not see."""
    inputs = make_inputs()
    inputs["instances"].gt_classes[1] = 1
    return inputs


def assert_close(found, expected, atol=1e-6):
    for number, mask in found.items():
        assert np.allclose(mask, expected[number], atol=atol, rtol=0)


def differ(first, second, least):
    return any(np.abs(first[n] - mask).max() > least for n, mask in second.items())


class TestIsItsDetector:
    @pytest.mark.parametrize("kind", KINDS)
    def test_names_are_the_detectors(self, kind):
        plain, bbam = build_model(make_cfg(kind)), make_bbam(kind)
        assert list(bbam.state_dict()) == list(plain.state_dict())
        for name in ("named_parameters", "named_buffers", "named_children"):
            ours, theirs = (dict(getattr(m, name)()) for m in (bbam, plain))
            assert list(ours) == list(theirs)

    def test_checkpoints_go_both_ways(self, tmp_path):
        bbam, plain, other = (
            make_bbam(),
            build_model(make_cfg()),
            build_model(make_cfg("fpn", *BBAM)),
        )
        for source, target, name in ((bbam, plain, "bbam"), (plain, other, "plain")):
            WsisCheckpointer(source, str(tmp_path), save_to_disk=True).save(name)
            WsisCheckpointer(target, strict=True).load(str(tmp_path / f"{name}.pth"))
        for key, value in bbam.state_dict().items():
            assert torch.equal(plain.state_dict()[key], value)
            assert torch.equal(other.detector.state_dict()[key], value)

    @pytest.mark.parametrize("kind", ["fpn", "retina"])
    def test_it_trains_as_the_detector(self, kind):
        bbam, plain = make_bbam(kind).train(), build_model(make_cfg(kind)).train()
        plain.load_state_dict(bbam.state_dict())
        instances = Instances((SIZE, SIZE), gt_boxes=Boxes(BOXES))
        instances.gt_classes = torch.tensor([0, 1, 0, 1])
        batch, losses = [make_inputs() | {"instances": instances}], []
        for model in (bbam, plain):
            torch.manual_seed(3)
            with EventStorage():
                found = model(batch)
            sum(found.values()).backward()
            losses.append({name: value.item() for name, value in found.items()})
        assert losses[0] == losses[1] and len(losses[0]) >= 2
        assert bbam.backbone.stem.weight.grad.any()
        for (name, ours), theirs in zip(bbam.named_buffers(), plain.buffers(), strict=True):
            assert torch.equal(ours, theirs), name

    def test_modes_types_copies_and_children_stay_together(self):
        bbam = make_bbam()
        assert not bbam.detector.training
        bbam.train()
        assert bbam.detector.training and bbam.backbone.training
        bbam.double()
        assert bbam.detector.pixel_mean.dtype == torch.float64
        twin = copy.deepcopy(bbam)
        assert twin.detector.backbone is twin.backbone is not bbam.backbone
        assert twin.view.model is twin.detector
        twin.load_state_dict({k: torch.zeros_like(v) for k, v in twin.state_dict().items()})
        assert not twin.detector.roi_heads.box_predictor.cls_score.weight.any()
        assert bbam.detector.roi_heads.box_predictor.cls_score.weight.any()
        bbam.backbone = torch.nn.Identity()
        assert bbam.detector.backbone is bbam.backbone


class TestLeavesTheDetectorAsItWas:
    @pytest.mark.parametrize("kind", KINDS)
    def test_weights_statistics_gradients_and_modes(self, kind, monkeypatch):
        bbam = make_bbam(kind, "MODEL.BBAM.STEPS", 2).train()
        bbam.backbone.eval()
        next(bbam.parameters()).requires_grad_(False)
        if kind != "retina":
            monkeypatch.setattr(bbam.proposal_generator, "forward", None)

        def flags():
            modes = [module.training for module in (bbam.detector, *bbam.modules())]
            return modes, [parameter.requires_grad for parameter in bbam.parameters()]

        state, before, seen, forward = (
            copy.deepcopy(bbam.state_dict()),
            flags(),
            [],
            bbam.view.forward,
        )

        def watched(*given):
            seen.extend(any(each) for each in flags())
            return forward(*given)

        bbam.view.forward = watched
        assert all(m.any() for m in maps_of(bbam).values())
        assert seen and not any(seen)
        for key, value in bbam.state_dict().items():
            assert torch.equal(value, state[key]), key
        assert flags() == before and bbam.detector.training
        assert all(parameter.grad is None for parameter in bbam.parameters())

    def test_also_after_an_error(self):
        bbam = make_bbam().train()
        with pytest.raises(KeyError), frozen(bbam):
            assert not bbam.detector.training
            raise KeyError
        assert bbam.detector.training
        assert all(parameter.requires_grad for parameter in bbam.parameters())


class TestExplanation:
    @pytest.mark.parametrize("kind", ["fpn", "retina"])
    def test_boxes_together_and_one_by_one_are_the_same(self, kind):
        first, *others = (
            maps_of(seeded(kind, "MODEL.BBAM.BOXES_PER_BATCH", batch).double())
            for batch in (1, 3, 4)
        )
        for other in others:
            assert_close(first, other)
        assert differ(maps_of(make_bbam(kind, "MODEL.BBAM.STEPS", 1)), first, 0.1)

    def test_a_box_needs_neither_its_neighbours_nor_their_order(self):
        bbam, inputs = make_bbam().double(), make_inputs()
        expected = maps_of(bbam)
        inputs["instances"] = inputs["instances"][torch.tensor([2, 0, 3])]
        assert_close(maps_of(bbam, inputs), expected)

    def test_proposals_follow_from_seed_and_annotation_id(self):
        def masks(seed=0, first_id=10):
            bbam = seeded("fpn", "MODEL.BBAM.STEPS", 3, "MODEL.BBAM.SEED", seed)
            torch.manual_seed(seed + first_id)  # of no consequence
            maps = maps_of(bbam, make_inputs(first_id=first_id)).values()
            return np.concatenate([m.ravel() for m in maps])

        assert np.array_equal(masks(), masks())
        assert not np.array_equal(masks(), masks(seed=1))
        assert not np.array_equal(masks(), masks(first_id=99))

    @pytest.mark.parametrize("fill", ["blur", "blurrandom"])
    @pytest.mark.parametrize("outside", [False, True])
    def test_fills(self, fill, outside, tmp_path):
        inputs = make_inputs()
        bbam = seeded("fpn", "MODEL.BBAM.FILL", fill, "MODEL.BBAM.FILL_OUTSIDE_BOX", outside)
        made = maps_of(bbam, inputs)
        inputs["file_name"] = str(tmp_path / "image.png")
        cv2.imwrite(inputs["file_name"], inputs.pop("original_image")[:, :, ::-1])
        assert_close(maps_of(bbam, inputs), made, atol=0)
        assert differ(maps_of(seeded()), made, 0.01)

    def test_one_stage_needs_anchors_that_agree(self):
        maps = maps_of(make_bbam("retina"), with_another_class()).values()
        assert [bool(m.any()) for m in maps] == [True, False, True, True]


class TestProtocol:
    def test_masks_of_all_boxes_at_original_size(self):
        (result,) = make_bbam()([make_inputs()])
        proxy = result["proxy"]
        assert set(result) == {"proxy"}
        assert proxy.annotation_ids.tolist() == [10, 11, 12, 13]
        assert proxy.pred_masks.shape == (4, SIZE, SIZE)
        assert proxy.status == ["ok"] * 4
        assert not (proxy.pred_masks & proxy.ignore_masks).any()
        assert torch.equal(proxy.gt_boxes.tensor, BOXES)

    def test_a_box_that_the_detector_does_not_see_is_a_fallback_and_shifts_no_other(self):
        bbam = make_bbam()
        whole, proxy = (bbam([x])[0]["proxy"] for x in (make_inputs(), with_another_class()))
        assert proxy.status[1] in ("fallback", "empty")
        for i in (0, 2, 3):
            assert proxy.status[i] == "ok"
            assert overlap(whole.pred_masks[i], proxy.pred_masks[i]) > 0.9

    def test_the_refiner_travels_to_another_process(self):
        bbam, inputs = make_bbam(), make_inputs()
        pair = bbam.refiner(), bbam.propose([inputs])[0]
        here, there = (
            refine(seed, inputs["original_image"])
            for refine, seed in (pair, pickle.loads(pickle.dumps(pair)))
        )
        assert there.masks == here.masks

    def test_semantic_label_of_no_boxes_and_of_some(self):
        keys = ("PROXY.SEM_SEG", True, "MODEL.BBAM.TOP_CRF.MISSING_PRIORS", "[0.01]")
        bbam = make_bbam("fpn", *keys)
        nothing, result = (bbam([x])[0] for x in (make_inputs(BOXES[:0]), with_another_class()))
        assert len(nothing["proxy"]) == 0 and not nothing["sem_seg"]["bbam"].any()
        label, proxy = result["sem_seg"]["bbam"], result["proxy"]
        assert label.shape == (SIZE, SIZE) and label.dtype == np.uint8
        assert set(np.unique(label)) == {0, 1, 255}
        assert proxy.status == ["ok", "empty", "ok", "ok"]
        certain = torch.from_numpy(label == 1)
        assert not (certain & ~proxy.pred_masks[[0, 2, 3]].any(0)).any()
        unknown = label[box_to_slices(BOXES[1].numpy(), SIZE, SIZE)]
        assert (unknown != 0).all(), "nothing is known there"
        assert bbam.label_names == ("bbam",) and make_bbam().label_names == ()


class TestConfig:
    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("MODEL.BBAM.JITTER", 0.5, "JITTER: found 0.5, expected at least 0, below 0.5"),
            ("MODEL.BBAM.MIN_IOU", "[]", r"MIN_IOU: found \[\], expected one or more"),
            ("MODEL.BBAM.STRIDE_BASE", 0.0, "STRIDE_BASE: found 0.0, expected above 0"),
            ("MODEL.BBAM.FILL", "black", "found 'black', expected one of mean, blur, blurrandom"),
            ("MODEL.BBAM.STEPS", 0, "STEPS: found 0"),
            ("MODEL.BBAM.TOP_CRF.THRESHOLDS", "[0.5]", "THRESHOLDS: found .* expected two"),
            ("MODEL.BBAM.DETECTOR", "Nothing", "'Nothing', expected one of .*GeneralizedRCNN"),
            ("MODEL.BBAM.DETECTOR", "BBAM", "DETECTOR: found 'BBAM'"),
            ("MODEL.BBAM.DETECTOR", "SemanticSegmentor", "DETECTOR: found SemanticSegmentor"),
            ("MODEL.BBAM.USE_MCG", True, "MCG_FOLDERS: none of .* is there"),
            ("MODEL.ROI_HEADS.NUM_CLASSES", 255, "PROXY.SEM_SEG: found 255 classes"),  # of a byte
        ],
    )
    def test_bad_values_are_named(self, key, value, message, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        extra = ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3, "PROXY.SEM_SEG", True)
        with pytest.raises(ConfigError, match=message):
            make_bbam("fpn", key, value, *extra)

    def test_folders_leave_no_trace_in_the_result(self):
        cfg = make_cfg("fpn", *BBAM)
        keys = result_config(cfg, build_model(cfg))
        assert "MODEL.BBAM.USE_MCG" in keys and "PROXY.SEM_SEG" in keys
        assert "MODEL.BBAM.MCG_FOLDERS" not in keys
        assert not Path("datasets/MCG-Pascal-Main_trainvaltest_2012-proposals").is_dir()

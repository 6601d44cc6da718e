"""BoxCaseg as a teacher: its losses, its masks, its settings."""

import pickle

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from tests.methods.boxcaseg.tiny import (
    BACKBONE,
    BOXES,
    SIZE,
    make_batch,
    make_cfg,
    make_inputs,
    make_model,
)
from wsis.engine.provenance import result_config
from wsis.engine.solver import build_optimizer
from wsis.errors import ConfigError
from wsis.methods.boxcaseg.losses import saliency_loss, weak_losses
from wsis.methods.boxcaseg.network import FoldedNetwork
from wsis.methods.boxcaseg.refiner import BYTES, byte_maps
from wsis.methods.boxcaseg.transforms import MEAN, STD, prepare_crops
from wsis.structures.pseudo_labels import IGNORE

LOSSES = ["loss_mil", "loss_pairwise", "loss_saliency"]


class TestTraining:
    def test_losses_are_the_joint_objective(self):
        model, batch = make_model("MODEL.BOXCASEG.PAIRWISE_WEIGHT", 0.3), make_batch(1, 0, 1)
        torch.manual_seed(1)
        found = model.train()(batch)
        assert list(found) == LOSSES
        images, labels = (torch.stack([s[key] for s in batch]) for key in ("image", "label"))
        salient = torch.tensor([True, False, True])
        weak, full = model.network(images, salient)
        expected = (*weak_losses(weak, labels, 0.3), saliency_loss(full, labels[salient]))
        for name, value in zip(LOSSES, expected, strict=True):
            assert found[name].item() == pytest.approx(value.item(), rel=1e-5)

    @pytest.mark.parametrize("trunk", [(), BACKBONE])
    def test_without_a_salient_sample_every_parameter_has_a_gradient(self, trunk):
        model = make_model(*trunk).train()
        losses = model(make_batch(0, 0))
        assert losses["loss_saliency"].item() == 0
        sum(losses.values()).backward()
        full = {id(parameter) for parameter in model.network.full_parameters()}
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.any() == (id(parameter) not in full), name
        assert model.network.transfer_bn.num_batches_tracked == 0
        assert model.network.fcn[1].num_batches_tracked == 0

    def test_the_full_head_may_learn_from_boxes_too(self):
        """What it adds is what the weak head would have there."""
        keys = ("MODEL.BOXCASEG.OUTSIDE_WEIGHT", 1.0, "MODEL.BOXCASEG.DICE_WEIGHT", 1.0)
        batch, found = make_batch(1, 0, 0), {}
        for samples in ("salient", "all"):
            torch.manual_seed(2)
            model = make_model(*keys, "MODEL.BOXCASEG.FULL_SAMPLES", samples)
            torch.manual_seed(2)
            found[samples] = model.train()(batch)
        assert list(found["all"]) == [*LOSSES[:2], "loss_outside", LOSSES[2], "loss_dice"]
        images, labels = (torch.stack([s[key] for s in batch]) for key in ("image", "label"))
        _, full = model.network(images, torch.tensor([True] * 3))
        extra = weak_losses(full[1:], labels[1:])[0]
        more = found["all"]["loss_mil"] - found["salient"]["loss_mil"]
        assert more.item() == pytest.approx(extra.item(), rel=1e-3)
        sum(model(make_batch(0, 0)).values()).backward()
        assert all(p.grad.any() for p in model.network.full_parameters())

    def test_what_a_mask_does_not_know_changes_the_losses_of_the_full_head_alone(self):
        found = []
        for value in (1, IGNORE):
            torch.manual_seed(3)
            batch = make_batch(1, 0, 1)
            batch[0]["label"][:, :9] = value
            model = make_model("MODEL.BOXCASEG.DICE_WEIGHT", 1.0).train()
            found.append({name: loss.item() for name, loss in model(batch).items()})
        changed = {name for name in found[0] if found[0][name] != found[1][name]}
        assert changed == {"loss_saliency", "loss_dice"}
        assert all(0 < loss < 2 for loss in found[1].values())

    def test_half_precision_gives_finite_float_losses(self):
        model = make_model().train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = model(make_batch(1, 0))
        assert all(v.dtype == torch.float32 and v.isfinite() for v in losses.values())
        sum(losses.values()).backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())

    @pytest.mark.parametrize("trunk", [(), BACKBONE])
    def test_some_steps_lower_the_loss(self, trunk):
        keys = ("SOLVER.BASE_LR", 0.02, *trunk)
        model, batch = make_model(*keys).train(), make_batch(1, 0, 0, 1)
        optimizer = build_optimizer(make_cfg(*keys), model)
        values = []
        for _ in range(15):
            optimizer.zero_grad()
            loss = sum(model(batch).values())
            loss.backward()
            optimizer.step()
            values.append(loss.item())
        assert values[-1] < 0.9 * values[0]


def maps_of(model, inputs=None):
    with torch.no_grad():
        (seed,) = model.propose([inputs or make_inputs()])
    assert list(seed.maps) == [BYTES]
    return seed.maps[BYTES]


class TestMasks:
    @torch.no_grad()
    def test_maps_are_the_full_heads_whatever_the_mode_and_the_batch(self):
        model, inputs = make_model(), make_inputs()
        crops = prepare_crops(inputs["original_image"], BOXES.numpy(), 32, "unified")
        expected = byte_maps(torch.sigmoid(model.network.full(model.network.features(crops)))[:, 0])
        found = maps_of(model, inputs)
        assert found.shape == (3, 8, 8) and found.dtype == np.uint8
        assert found.min() == 0 and found.max() == 255
        assert np.abs(found.astype(int) - expected).max() <= 1
        for model.boxes_per_batch in (1, 2):
            assert np.abs(maps_of(model, inputs).astype(int) - found).max() <= 1
        model.boxes_per_batch = 64
        assert np.array_equal(maps_of(model.train(), inputs), found)

    @torch.no_grad()
    def test_the_folded_network_is_made_once_for_some_weights(self, monkeypatch):
        made, where = [], "wsis.methods.boxcaseg.meta_arch.FoldedNetwork"
        monkeypatch.setattr(where, lambda *args: made.append(args) or FoldedNetwork(*args))
        model = make_model()
        before, first = list(model.state_dict()), maps_of(model)
        maps_of(model)
        assert len(made) == 1
        model.network.last_layer[0].weight.normal_()
        assert not np.array_equal(first, maps_of(model)) and len(made) == 2
        model.network.bn1.running_mean.add_(1.0)
        maps_of(model)
        assert len(made) == 3
        assert list(model.state_dict()) == before, "it is no part of the checkpoint"

    def test_masks_of_all_boxes_in_their_boxes(self):
        (result,) = make_model()([make_inputs()])
        proxy = result["proxy"]
        assert proxy.annotation_ids.tolist() == [10, 11, 12]
        assert proxy.pred_masks.shape == (3, SIZE, SIZE)
        assert ((proxy.scores >= 0) & (proxy.scores <= 1)).all()
        assert proxy.pred_masks.sum(0).max() <= 1, "a pixel belongs to one box"
        assert set(proxy.status) <= {"ok", "empty"}
        for (x0, y0, x1, y1), mask in zip(BOXES.int().tolist(), proxy.pred_masks, strict=True):
            outside = mask.clone()
            outside[y0:y1, x0:x1] = False
            assert not outside.any()
        assert len(make_model()([make_inputs(BOXES[:0])])[0]["proxy"]) == 0

    @torch.no_grad()
    def test_the_mean_with_the_mirror_image(self):
        inputs = make_inputs(BOXES[:1])
        plain, both = (make_model("MODEL.BOXCASEG.TEST_FLIP", flip) for flip in (False, True))
        both.load_state_dict(plain.state_dict())
        crops = prepare_crops(inputs["original_image"], BOXES[:1].numpy(), 32, "unified")
        there, back = (
            torch.sigmoid(plain.network.full(plain.network.features(each)))[:, 0]
            for each in (crops, crops.flip(3))
        )
        expected = byte_maps((there + back.flip(2)) / 2).astype(int)
        assert np.abs(maps_of(both, inputs) - expected).max() <= 1
        assert np.abs(maps_of(plain, inputs) - expected).max() > 1

    def test_the_weak_head_on_request(self):
        maps = []
        for head in ("full", "weak"):
            torch.manual_seed(4)
            maps.append(maps_of(make_model("MODEL.BOXCASEG.TEST_HEAD", head)))
        assert not np.array_equal(*maps)

    @torch.no_grad()
    def test_the_refiner_travels_to_another_process(self):
        model, inputs = make_model(), make_inputs()
        pair = model.refiner(), model.propose([inputs])[0]
        here, there = (
            refine(seed, inputs["original_image"])
            for refine, seed in (pair, pickle.loads(pickle.dumps(pair)))
        )
        assert there.masks == here.masks


class TestBackbone:
    """A trunk from the registry."""

    def test_pretrained_and_new_layers_have_rates_of_their_own(self):
        cfg = make_cfg(*BACKBONE, "MODEL.BOXCASEG.LR_FACTORS", "(2.0, 5.0, 7.0)")
        model = build_model(cfg)
        rates = {group["lr"]: group["params"] for group in build_optimizer(cfg, model).param_groups}
        of_backbone = {id(parameter) for parameter in model.network.backbone.parameters()}
        base = cfg.SOLVER.BASE_LR
        assert sorted(rate / base for rate in rates) == pytest.approx([1, 2, 5, 7])
        found = {id(parameter) for parameter in rates[base] + rates[2 * base]}
        assert found == of_backbone

    @pytest.mark.parametrize(("order", "step"), [("RGB", 1), ("BGR", -1)])
    @torch.no_grad()
    def test_the_backbone_sees_the_pixels_that_its_weights_want(self, order, step, monkeypatch):
        """The samples have ImageNet's mean and deviation, whatever is wanted here."""
        keys = ("MODEL.PIXEL_MEAN", "(10.0, 20.0, 30.0)", "MODEL.PIXEL_STD", "(1.0, 2.0, 4.0)")
        network = build_model(make_cfg(*BACKBONE, *keys, "INPUT.FORMAT", order)).network.eval()
        seen, forward = [], network.backbone.forward
        monkeypatch.setattr(network.backbone, "forward", lambda x: seen.append(x) or forward(x))
        image = np.random.default_rng(0).random((32, 32, 3), dtype=np.float32)
        given = torch.from_numpy((image - MEAN) / STD).permute(2, 0, 1)
        network.features(given[None])
        expected = (255 * image[..., ::step] - (10, 20, 30)) / (1, 2, 4)
        np.testing.assert_allclose(seen[0][0].permute(1, 2, 0), expected, atol=1e-3)

    @pytest.mark.parametrize("head", ["full", "weak"])
    @torch.no_grad()
    def test_maps_have_its_stride_and_come_from_the_same_network(self, head):
        model, inputs = make_model(*BACKBONE, "MODEL.BOXCASEG.TEST_HEAD", head), make_inputs()
        found = maps_of(model, inputs)
        assert found.shape == (3, 16, 16) and model.network.stride == 2
        crops = prepare_crops(inputs["original_image"], BOXES.numpy(), 32, "unified")
        features = model.network.features(crops)
        logits = (
            model.network.full(features) if head == "full" else model.network.last_layer(features)
        )
        expected = byte_maps(torch.sigmoid(logits)[:, 0])
        assert np.abs(found.astype(int) - expected).max() <= 1 and expected.std() > 20

    def test_its_keys_bear_on_the_result(self):
        cfg = make_cfg(*BACKBONE)
        found = set(result_config(cfg, build_model(cfg)))
        assert {"MODEL.TIMM.NAME", "MODEL.PIXEL_MEAN", "INPUT.FORMAT"} <= found

    def test_samples_that_no_backbone_wants(self):
        text = (
            r"MODEL\.BOXCASEG\.NORMALISATION: found 'legacy', expected unified for TRUNK backbone"
        )
        with pytest.raises(ConfigError, match=text):
            build_model(make_cfg(*BACKBONE, "MODEL.BOXCASEG.NORMALISATION", "legacy"))


class TestConfig:
    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("WIDTH", 0, "WIDTH: found 0, expected at least 1"),
            ("NUM_MODULES", [1, 1], r"NUM_MODULES: found \[1, 1\], expected three numbers"),
            ("FCN_RATIO", 1.5, "FCN_RATIO: found 1.5, expected 0 to 1"),
            ("WEAK_SHARE", 1.0, "WEAK_SHARE: found 1.0, expected at least 0, below 1"),
            ("JITTER_SCALE", [1.5, 0.5], r"JITTER_SCALE: found .* expected two rising"),
            ("SALIENT_SIZE", 30, "SALIENT_SIZE: found 30, expected at least CROP_SIZE 32"),
            ("NORMALISATION", "old", "NORMALISATION: found 'old', expected legacy or unified"),
            ("CONFIDENCE", "iou", "CONFIDENCE: found 'iou', expected legacy or exact"),
            ("TRUNK", "vgg", "TRUNK: found 'vgg', expected hrnet or backbone"),
            ("TEST_HEAD", "both", "TEST_HEAD: found 'both', expected full or weak"),
        ],
    )
    def test_bad_values_are_named(self, key, value, message):
        with pytest.raises(ConfigError, match=rf"MODEL\.BOXCASEG\.{message}"):
            build_model(make_cfg(f"MODEL.BOXCASEG.{key}", value))

    def test_a_full_head_needs_salient_images(self):
        with pytest.raises(ConfigError, match="SALIENT_DATASETS: found nothing, expected"):
            type(make_model()).build_train_loader(make_cfg())

    def test_keys_that_bear_on_the_result(self):
        cfg = make_cfg()
        keys = result_config(cfg, build_model(cfg))
        assert {"MODEL.BOXCASEG.FCN_RATIO", "MODEL.BOXCASEG.CONFIDENCE"} <= set(keys)
        assert not any(key.startswith("MODEL.ROI_HEADS") for key in keys)

    def test_synchronised_norms_have_the_same_names_and_are_for_several_processes(
        self, monkeypatch
    ):
        def shared_norms(network):
            return sum(isinstance(m, torch.nn.SyncBatchNorm) for m in network.modules())

        plain = make_model()
        assert not shared_norms(plain)
        monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
        network = plain.from_config(make_cfg("MODEL.DEVICE", "cuda"))["network"]
        names = list(network.state_dict())
        assert shared_norms(network) == sum("running_mean" in name for name in names)
        assert names == list(plain.network.state_dict())
        assert not shared_norms(FoldedNetwork(network))

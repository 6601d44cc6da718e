"""BoxCaseg as a teacher: its losses, its masks, its settings."""

import pickle

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from tests.methods.boxcaseg.tiny import BOXES, SIZE, make_batch, make_cfg, make_inputs, make_model
from wsis.engine.provenance import result_config
from wsis.engine.solver import build_optimizer
from wsis.errors import ConfigError
from wsis.methods.boxcaseg.losses import saliency_loss, weak_losses
from wsis.methods.boxcaseg.network import FoldedNetwork
from wsis.methods.boxcaseg.refiner import BYTES, byte_maps
from wsis.methods.boxcaseg.transforms import prepare_crops

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

    def test_without_a_salient_sample_every_parameter_has_a_gradient(self):
        model = make_model().train()
        losses = model(make_batch(0, 0))
        assert losses["loss_saliency"].item() == 0
        sum(losses.values()).backward()
        full = {id(parameter) for parameter in model.network.full_parameters()}
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.any() == (id(parameter) not in full), name
        assert model.network.transfer_bn.num_batches_tracked == 0
        assert model.network.fcn[1].num_batches_tracked == 0

    def test_half_precision_gives_finite_float_losses(self):
        model = make_model().train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = model(make_batch(1, 0))
        assert all(v.dtype == torch.float32 and v.isfinite() for v in losses.values())
        sum(losses.values()).backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())

    def test_some_steps_lower_the_loss(self):
        model, batch = make_model("SOLVER.BASE_LR", 0.02).train(), make_batch(1, 0, 0, 1)
        optimizer = build_optimizer(make_cfg("SOLVER.BASE_LR", 0.02), model)
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

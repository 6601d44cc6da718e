"""Every model on a make-believe GPU: each tensor is where it belongs, and the answers are those of the CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from tests.fake_gpu import DEVICE, GpuTensor, fake_gpu
from tests.methods.bana import tiny_classifier, tiny_segmentor
from tests.methods.bbam import tiny_detector
from tests.methods.bbam.tiny_detector import needs_crf
from tests.methods.boxcaseg import tiny as tiny_boxcaseg
from tests.tiny import loggers_as_before, write_config, write_dataset
from wsis.config import load_cfg
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisTrainer
from wsis.engine.prediction import to_annotations
from wsis.modeling.teacher import Teacher

__all__ = ["loggers_as_before"]

Case = tuple[nn.Module, Any]


def losses_and_gradient(model: nn.Module, batch: Any) -> dict[str, float]:
    """The losses of a step, and the largest gradient of each module."""
    torch.manual_seed(7)
    with EventStorage():
        losses = model.train()(batch)
    sum(losses.values()).backward()
    found = {name: float(value.detach()) for name, value in losses.items()}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            found[name] = float(parameter.grad.abs().max())
    return found


def classifier() -> Case:
    samples = [([[4, 4, 30, 40]], [1]), ([[10, 4, 50, 40], [1, 1, 20, 20]], [0, 1])]
    model = tiny_classifier.make_classifier()
    return model, [tiny_classifier.make_sample(*sample) for sample in samples]


def segmentor(loss: str) -> Callable[[], Case]:
    def make() -> Case:
        cfg = tiny_segmentor.make_cfg(MODEL__BANA_SEG__LOSS=loss)
        return WsisTrainer.build_model(cfg), tiny_segmentor.samples(2)

    return make


def boxcaseg() -> Case:
    return tiny_boxcaseg.make_model(), tiny_boxcaseg.make_batch(True, False, True)


@pytest.mark.parametrize(
    "make",
    [classifier, segmentor("NAL"), segmentor("ER"), segmentor("BS"), boxcaseg],
    ids=["classifier", "NAL", "ER", "BS", "boxcaseg"],
)
def test_a_step_of_a_method(make):
    model, batch = make()
    expected = losses_and_gradient(copy.deepcopy(model), batch)
    with fake_gpu():
        assert losses_and_gradient(model.to(DEVICE), batch) == pytest.approx(expected, rel=1e-4)
        assert all(isinstance(p, GpuTensor) for p in model.parameters())


@pytest.mark.parametrize("head", ["ProxyMaskHead", "PairMaskHead"])
def test_a_step_of_a_student_and_what_it_finds(tmp_path, head):
    write_dataset(tmp_path / "data")
    keys = {"MODEL__MASK_ON": True, "MODEL__ROI_MASK_HEAD__NAME": head}
    config = write_config(tmp_path, tmp_path / "data", WSIS__SUPERVISION="mask", **keys)
    cfg = load_cfg(config)
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    torch.manual_seed(1)
    model = WsisTrainer.build_model(cfg)
    batch = next(iter(WsisTrainer.build_train_loader(cfg)))
    expected = losses_and_gradient(copy.deepcopy(model), batch)
    inputs = [{"image": batch[0]["image"], "height": 50, "width": 60}]
    categories = [{"id": 3, "name": "wide"}, {"id": 7, "name": "tall"}]

    def find() -> list[dict[str, Any]]:
        with torch.no_grad():
            instances = model.eval()(inputs)[0]["instances"]
        return to_annotations(instances, categories, 0.3)

    on_cpu = find()
    with fake_gpu():
        model.to(DEVICE)
        assert find() == on_cpu and on_cpu
        found = losses_and_gradient(model, batch)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)


def propose(model: Teacher, inputs: Any) -> list[Any]:
    torch.manual_seed(3)
    with torch.no_grad():
        return model.eval().propose([inputs])


@needs_crf
@pytest.mark.parametrize("kind", tiny_detector.KINDS)
def test_explanations(kind):
    model = tiny_detector.make_bbam(kind)
    check_seeds(model, tiny_detector.make_inputs())


def test_features_and_maps():
    model = tiny_classifier.make_classifier()
    check_seeds(model, tiny_classifier.make_inputs([[4, 4, 30, 36], [20, 2, 50, 30]], [0, 1]))
    check_seeds(tiny_boxcaseg.make_model(), tiny_boxcaseg.make_inputs())


def check_seeds(model: Teacher, inputs: Any) -> None:
    """Seeds are the CPU's, in numbers and in place."""
    (expected,) = propose(copy.deepcopy(model), inputs)
    with fake_gpu():
        (seed,) = propose(model.to(DEVICE), inputs)
        model.refiner()
    assert seed.maps.keys() == expected.maps.keys() and seed.maps
    for name, values in expected.maps.items():
        assert isinstance(seed.maps[name], np.ndarray)
        np.testing.assert_allclose(seed.maps[name], values, atol=1e-4)


@needs_crf
def test_label_maps_of_all_protocols():
    cfg = tiny_segmentor.make_cfg(
        MODEL__BANA_SEG__PROTOCOLS=["single", "single_crf", "multi", "multi_crf"]
    )
    model = WsisTrainer.build_model(cfg).eval()
    inputs = tiny_segmentor.images(1)

    def label() -> dict[str, np.ndarray]:
        labels = model(inputs)[0]["sem_seg_labels"]
        return {
            name: np.asarray(v.cpu() if isinstance(v, torch.Tensor) else v)
            for name, v in labels.items()
        }

    expected = label()
    with fake_gpu():
        model.to(DEVICE)
        found = label()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_it_tells_what_a_gpu_would():
    with fake_gpu():
        there = torch.zeros(3, device=DEVICE)
        for mistake in (
            lambda: there + torch.ones(3),
            lambda: torch.cat([there, torch.ones(3)]),
            lambda: torch.ones(3)[there.long()],
            lambda: there.numpy(),
        ):
            with pytest.raises((RuntimeError, TypeError)):
                mistake()
        assert (there + torch.tensor(1.0))[torch.tensor([0, 1])].cpu().tolist() == [1, 1]
        assert torch.tensor([4, 5], device=DEVICE).tolist() == [4, 5]
        assert there.new_tensor([6]).cpu().tolist() == [6.0]
        there[1:] = 2
        assert there.tolist() == [0, 2, 2] and int(there.argmax()) == 1

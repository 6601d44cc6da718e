"""The segmentor of parts: every head on every classifier, and a training on one label."""

from __future__ import annotations

import pytest
import torch

from tests.methods.bana.tiny_segmentor import custom, images, make_cfg, samples, write_label_pair
from wsis.config import load_cfg
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisTrainer
from wsis.errors import ConfigError
from wsis.layers.deeplab import LargeFOV
from wsis.layers.pixel_losses import mean_cross_entropy
from wsis.modeling.segmentor import Segmentor

KEYS = {"MODEL__META_ARCHITECTURE": "Segmentor", "MODEL__SEGMENTOR__LABELS": ["y_crf"]}


@pytest.mark.parametrize("classifier", ["cosine", "linear"])
@pytest.mark.parametrize("head", ["none", "largefov", "aspp"])
def test_parts_go_together(head: str, classifier: str) -> None:
    keys = {"HEAD": head, "CLASSIFIER": classifier, "HEAD_CHANNELS": 8, "TEMPERATURE": 2.0}
    cfg = make_cfg(**KEYS, **{f"MODEL__SEGMENTOR__{name}": value for name, value in keys.items()})
    model = WsisTrainer.build_model(cfg)
    groups = model.parameter_groups(cfg)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    batch = samples(2)
    losses = model.train()(batch)
    assert set(losses) == {"loss_ce"}
    losses["loss_ce"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    (found,) = model.eval()(images(1))
    assert found["sem_seg"].shape == (3, 40, 56)
    torch.testing.assert_close(found["sem_seg"].sum(0), torch.ones(40, 56))


def test_the_rate_of_largefov_is_the_second() -> None:
    cfg = make_cfg(**KEYS, MODEL__SEGMENTOR__HEAD="largefov", MODEL__SEGMENTOR__HEAD_CHANNELS=8)
    head = WsisTrainer.build_model(cfg).head
    assert isinstance(head, LargeFOV) and head[0].dilation == (12, 12)
    cfg.MODEL.SEGMENTOR.HEAD_RATES = [4]
    assert WsisTrainer.build_model(cfg).head[0].dilation == (4, 4)


def test_cross_entropy_leaves_void_out() -> None:
    scores = torch.tensor([[[[1.0, 5.0]], [[0.0, -5.0]]]], requires_grad=True)
    label = torch.tensor([[[0, 255]]], dtype=torch.uint8)
    loss = mean_cross_entropy(scores, label, 2.0)
    assert loss.item() == pytest.approx(float(torch.tensor(-2.0).exp().log1p()))
    nothing = mean_cross_entropy(scores, torch.full_like(label, 255))
    assert nothing.item() == 0
    nothing.backward()
    assert scores.grad.abs().max() == 0


def test_it_trains_on_one_label_folder(tmp_path) -> None:
    labels = write_label_pair(tmp_path)
    entry = custom("one_label", tmp_path, labels)
    cfg = make_cfg(**KEYS, DATASETS__CUSTOM_SEM_SEG=[entry], DATASETS__TRAIN=("one_label",))
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    Segmentor.check_training_data(cfg)
    batch = next(iter(WsisTrainer.build_train_loader(cfg)))
    assert {sample["labels"].shape for sample in batch} == {(1, 48, 48)}
    assert torch.isfinite(WsisTrainer.build_model(cfg).train()(batch)["loss_ce"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("MODEL.BANA_SEG.HEAD", "MODEL.SEGMENTOR.HEAD"),
        ("MODEL.BANA_SEG.ASPP_RATES", "MODEL.SEGMENTOR.HEAD_RATES"),
        ("MODEL.BANA_SEG.CRF.ITERATIONS", "MODEL.SEGMENTOR.CRF.ITERATIONS"),
        ("MODEL.BANA_SEG.CRF_MIN_PROBABILITY", "MODEL.SEGMENTOR.CRF_MIN_PROBABILITY"),
        ("MODEL.BANA.STRONG_DATASETS", "MODEL.SEGMENTOR.STRONG_DATASETS"),
        ("MODEL.BANA.CROP_SIZE", "INPUT.SCALED_CROP.SIZE"),
    ],
)
def test_old_names_of_keys_are_told_with_the_new_ones(old: str, new: str) -> None:
    with pytest.raises(ConfigError, match=f"no such key {old}: it is now {new}$"):
        load_cfg(None, [old, "1"])

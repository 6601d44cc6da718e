"""The segmentor of parts: every head on every classifier, and a training on one label."""

import pytest
import torch

from tests.methods.bana import tiny_segmentor as tiny
from wsis.config import load_cfg
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisTrainer
from wsis.errors import ConfigError
from wsis.layers.deeplab import LargeFOV
from wsis.layers.feature_similarity import feature_similarity_loss
from wsis.layers.pixel_losses import mean_cross_entropy
from wsis.modeling.segmentor import Segmentor

KEYS = {"META_ARCHITECTURE": "Segmentor", "SEGMENTOR.LABELS": ["y_crf"]}
KEYS |= {"SEGMENTOR.HEAD_CHANNELS": 8}


def make_cfg(**keys):
    return tiny.make_cfg(**{f"MODEL.{name}": value for name, value in (KEYS | keys).items()})


@pytest.mark.parametrize("classifier", ["cosine", "linear"])
@pytest.mark.parametrize("head", ["none", "largefov", "aspp"])
def test_parts_go_together(head, classifier):
    keys = {"HEAD": head, "CLASSIFIER": classifier, "TEMPERATURE": 2.0}
    cfg = make_cfg(**{f"SEGMENTOR.{name}": value for name, value in keys.items()})
    model = WsisTrainer.build_model(cfg)
    groups = model.parameter_groups(cfg)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    losses = model.train()(tiny.samples(2))
    assert set(losses) == {"loss_ce"}
    losses["loss_ce"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    inputs = tiny.images(2)
    inputs[1]["image"] = inputs[1]["image"][:, :32, :48]
    for found in model.eval()(inputs):
        assert found["sem_seg"].shape == (3, 40, 56) and not found["sem_seg"].requires_grad
        torch.testing.assert_close(found["sem_seg"].sum(0), torch.ones(40, 56))
        labels = found["sem_seg_labels"]["single"]
        assert torch.equal(labels, found["sem_seg"].argmax(0).to(torch.uint8))


@pytest.mark.parametrize(("rates", "used"), [([6, 12, 18, 24], 12), ([4], 4)])
def test_the_rate_of_largefov_is_the_second(rates, used):
    cfg = make_cfg(SEGMENTOR__HEAD="largefov", SEGMENTOR__HEAD_RATES=rates)
    head = WsisTrainer.build_model(cfg).head
    assert isinstance(head, LargeFOV) and head[0].dilation == (used, used)


def test_norms_of_the_head_take_the_place_of_biases():
    keys = {"HEAD": "largefov", "HEAD_NORM": "statistics", "HEAD_NORM_MOMENTUM": 0.25}
    model = WsisTrainer.build_model(make_cfg(**{f"SEGMENTOR.{k}": v for k, v in keys.items()}))
    trained = [name for name, value in model.head.named_parameters() if value.requires_grad]
    assert trained == ["0.weight", "3.weight"]
    model.train()(tiny.samples(2))
    assert model.head[1].momentum == 0.25 and model.head[4].running_mean.any()
    with pytest.raises(ConfigError, match=r'HEAD_NORM: found .BN., expected "" or one of stat'):
        WsisTrainer.build_model(make_cfg(SEGMENTOR__HEAD_NORM="BN"))


@pytest.mark.parametrize("kind", ["Segmentor", "BANASegmentor"])
def test_the_feature_similarity_loss_is_a_term_of_any_segmentor(kind):
    keys = {
        "META_ARCHITECTURE": kind,
        "SEGMENTOR.LABELS": ["y_crf", "y_ret"][: 1 + (kind[0] == "B")],
    }
    cfg = make_cfg(**keys, SEGMENTOR__SIMILARITY__WEIGHT=2.0, SEGMENTOR__SIMILARITY__SIGMA=1.5)
    model, samples = WsisTrainer.build_model(cfg).train(), tiny.samples(2)
    losses = model(samples)
    images = torch.stack([sample["image"] for sample in samples])
    y = (20 * model.scores(model.normalise(images))).softmax(dim=1)
    colours = torch.nn.functional.interpolate(
        images / 255, size=y.shape[2:], mode="bilinear", align_corners=True
    )
    expected = 2 * feature_similarity_loss(y, colours, 2.5, 1.5)
    torch.testing.assert_close(losses["loss_similarity"], expected)
    for sample in samples:
        sample["labels"] = torch.full_like(sample["labels"], 255)
    unlabelled = model(samples)
    assert unlabelled["loss_ce"] == 0 != unlabelled["loss_similarity"]
    sum(unlabelled.values()).backward()
    assert model.classifier.weight.grad.isfinite().all() and model.classifier.weight.grad.any()


def test_cross_entropy_leaves_void_out():
    scores = torch.tensor([[[[1.0, 5.0]], [[0.0, -5.0]]]], requires_grad=True)
    label = torch.tensor([[[0, 255]]], dtype=torch.uint8)
    loss = mean_cross_entropy(scores, label, 2.0)
    assert loss.item() == pytest.approx(float(torch.tensor(-2.0).exp().log1p()))
    nothing = mean_cross_entropy(scores, torch.full_like(label, 255))
    assert nothing.item() == 0
    nothing.backward()
    assert scores.grad.abs().max() == 0


def test_it_trains_on_one_label_folder(tmp_path):
    tiny.write_label_pair(tmp_path)
    cfg = make_cfg()
    cfg.DATASETS.CUSTOM_SEM_SEG = [tiny.label_entry("one_label", tmp_path)]
    cfg.DATASETS.TRAIN = ("one_label",)
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
def test_old_names_of_keys_are_told_with_the_new_ones(old, new):
    with pytest.raises(ConfigError, match=f"no such key {old}: it is now {new}$"):
        load_cfg(None, [old, "1"])

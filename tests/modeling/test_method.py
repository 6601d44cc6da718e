"""What a meta-architecture may tell the engine."""

from __future__ import annotations

import pytest
import torch

from tests.tiny import write_config, write_dataset
from wsis import get_cfg
from wsis.data.build import is_teacher
from wsis.engine import argument_parser, setup
from wsis.errors import ConfigError
from wsis.modeling.method import Method, StockDetector, StockSegmentor, method_of
from wsis.modeling.weight_names import with_our_names


def test_a_loader_without_its_check_is_refused():
    def loader(cls, cfg):
        return []

    with pytest.raises(TypeError, match="build_train_loader without check_training_data"):
        type("Careless", (Method,), {"build_train_loader": classmethod(loader)})


@pytest.mark.parametrize(
    ("name", "returns", "has_loader", "original"),
    [
        ("GeneralizedRCNN", "instances", False, False),
        ("CRFMaskRCNN", "instances", False, True),
        ("SemanticSegmentor", "sem_seg", False, False),
        ("GrabCut", "proxy", False, False),
        ("BBAM", "proxy", False, False),
        ("BoxCaseg", "proxy", True, True),
        ("BANAClassifier", "proxy", True, False),
        ("BANASegmentor", "sem_seg", True, True),
    ],
)
def test_what_each_says(name, returns, has_loader, original):
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = name
    method = method_of(cfg)
    assert (method.returns, method.has_loader()) == (returns, has_loader)
    assert method.needs_original_image == original
    assert is_teacher(cfg) == (returns == "proxy")


def test_an_unknown_one_is_named():
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "GrabCutt"
    with pytest.raises(ConfigError, match="found 'GrabCutt', expected one of BANAClassifier"):
        method_of(cfg)


def test_what_holds_if_a_method_says_nothing():
    assert StockSegmentor.build_train_loader(get_cfg()) is None
    model = StockDetector()
    assert model.parameter_groups(get_cfg()) is None
    assert model.device == torch.device("cpu")
    model.set_normalisation([1.0, 2.0], [2.0, 4.0])
    image = torch.tensor([[[3]], [[10]]], dtype=torch.uint8)
    assert model.normalise(image).flatten().tolist() == [1.0, 2.0]
    assert not model.state_dict()


def test_a_missing_salient_dataset_is_found_before_anything_is_written(tmp_path):
    write_dataset(tmp_path / "data")
    config = write_config(
        tmp_path, tmp_path / "data", MODEL__META_ARCHITECTURE="BoxCaseg", SOLVER__IMS_PER_BATCH=2
    )
    args = argument_parser().parse_args(["--config-file", str(config)])
    with pytest.raises(ConfigError, match="SALIENT_DATASETS: found nothing"):
        setup(args, "train")
    assert not (tmp_path / "out").exists()


def test_names_that_no_method_knows_stay():
    weights = {"backbone.conv.weight": torch.zeros(1)}
    assert with_our_names(weights) is weights

"""What a meta-architecture may tell the engine."""

import pytest
import torch

from tests.tiny import write_config, write_dataset
from wsis import get_cfg
from wsis.engine import argument_parser, setup
from wsis.errors import ConfigError
from wsis.modeling.method import Method, StockDetector, method_of
from wsis.modeling.teacher import is_teacher
from wsis.modeling.weight_names import with_our_names


def test_a_loader_without_its_check_is_refused():
    def loader(cls, cfg):
        return []

    with pytest.raises(TypeError, match="build_train_loader without check_training_data"):
        type("Careless", (Method,), {"build_train_loader": classmethod(loader)})


@pytest.mark.parametrize(
    ("name", "returns", "original"),
    [
        ("GeneralizedRCNN", "instances", False),
        ("CRFMaskRCNN", "instances", True),
        ("SemanticSegmentor", "sem_seg", False),
        ("GrabCut", "proxy", False),
        ("BBAM", "proxy", False),
        ("BoxCaseg", "proxy", True),
        ("BANAClassifier", "proxy", False),
        ("BANASegmentor", "sem_seg", True),
    ],
)
def test_what_each_says(name, returns, original):
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = name
    method = method_of(cfg)
    assert (method.returns, method.needs_original_image) == (returns, original)
    assert is_teacher(cfg) == (returns == "proxy")


def test_an_unknown_one_is_named():
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "GrabCutt"
    for ask in (method_of, is_teacher):
        with pytest.raises(ConfigError, match="ARCHITECTURE: found 'GrabCutt', expected .*GrabCut"):
            ask(cfg)


def test_what_holds_if_a_method_says_nothing():
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

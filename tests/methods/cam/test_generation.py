"""From a folder of images with tags to score maps and labels, by the tool's way."""

import json

import numpy as np
import pytest
import torch

from tests.generating import generate
from tests.modeling.test_tag_classifier import KEYS
from tests.tiny import SIZE, write_config, write_dataset, write_json
from wsis.config import load_cfg
from wsis.data.labels import read_label
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisTrainer
from wsis.structures.score_maps import read_score_maps


@pytest.fixture
def make(tmp_path):
    """``make(**keys)``: the config of CAM with random weights, on three images of which the last has no tag."""
    document = write_dataset(tmp_path / "data", number=3)
    for image, tags in zip(document["images"], ([3, 7], [7], []), strict=True):
        image["image_labels"] = tags
    for annotation in document["annotations"]:
        del annotation["bbox"], annotation["segmentation"]
    write_json(tmp_path / "data", document)

    def config(output, **keys):
        keys = {"MODEL__META_ARCHITECTURE": "CAM", "PROXY__NUM_WORKERS": 0} | keys
        keys |= {"MODEL__WEIGHTS": str(tmp_path / "weights.pth")}
        cfg = load_cfg(write_config(tmp_path / output, tmp_path / "data", **KEYS | keys))
        prepare_datasets(cfg, cfg.DATASETS.TRAIN)
        torch.manual_seed(1)
        torch.save({"model": WsisTrainer.build_model(cfg).state_dict()}, tmp_path / "weights.pth")
        return cfg

    return config


@pytest.mark.parametrize("tags", ["given", "predicted"])
def test_maps_and_labels_of_the_classes_of_each_image(make, tmp_path, tags):
    cfg = make(tags, MODEL__CAM__TAGS=tags, MODEL__CAM__STRIDE=8, PROXY__SEM_SEG=True)
    assert generate(cfg).exit_status == 0
    output = tmp_path / tags / "out"
    for name, classes in (("1", [1, 2]), ("2", [2]), ("3", [])):
        maps = read_score_maps(output / "score_maps" / "tiny" / "cam" / f"{name}.npz")
        if tags == "given":
            assert maps.classes.tolist() == classes
        else:
            assert len(maps.classes) > 0, "the best class at least"
        assert ((maps.scores.max(axis=(1, 2)) > 0.99) | (maps.scores.max(axis=(1, 2)) == 0)).all()
        if len(maps.classes):
            assert (maps.stride, maps.scores.shape[1:]) == (8, (SIZE // 8, SIZE // 8))
        label = read_label(output / "pseudo_labels" / "tiny" / "cam_labels" / f"{name}.png")
        assert set(np.unique(label)) <= {0, *maps.classes.tolist()}
    manifest = json.loads((output / "score_maps" / "tiny" / "manifest.json").read_text())
    assert manifest["wsis"]["config"]["MODEL.CAM.TAGS"] == tags


def test_labels_are_made_on_demand(make, tmp_path):
    generate(make("plain"))
    assert not (tmp_path / "plain" / "out" / "pseudo_labels").exists()

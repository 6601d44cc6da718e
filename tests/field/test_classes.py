"""Classes that have other ids, another order or another spelling than the weights remember: names decide."""

from __future__ import annotations

import json
import logging
from functools import partial

import numpy as np
import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY
from PIL import Image
from torch import nn

from tests.tiny import TinyTeacher, write_config, write_json
from wsis.config import load_cfg
from wsis.data.classes import same_names
from wsis.structures import ProxyMasks, ScoreMaps
from wsis.structures.rle import encode_box
from wsis.structures.score_maps import read_score_maps

LABEL = "label"


@META_ARCH_REGISTRY.register()
class ClassTeacher(TinyTeacher):
    """Scores, labels and score maps say which of its classes a box has, in tenths."""

    label_names = map_names = (LABEL,)

    def __init__(self, cfg) -> None:
        super().__init__(cfg)
        self.per_class = nn.Linear(1, cfg.MODEL.ROI_HEADS.NUM_CLASSES)

    def refiner(self):
        return partial(_as_class, len(self.per_class.weight))


def _as_class(number, seed, image):
    size = image.shape[:2]
    masks = [encode_box(box, *size) for box in seed.boxes]
    values = seed.classes + 1
    found, every = seed.image_id, np.arange(number + 1)
    return ProxyMasks(
        *size,
        *(seed.annotation_ids, seed.boxes, seed.classes, masks, [None] * len(masks)),
        *((values / 10).tolist(), ["ok"] * len(masks)),
        sem_seg={LABEL: np.full(size, number if found == 4 else values[0], dtype=np.uint8)},
        score_maps={LABEL: ScoreMaps(every, every[:, None, None] / 10, *size, 0)},
    )


@pytest.fixture
def generate(tmp_path, data, run):
    """``generate(categories, known)``: status, error and folder of a run on boxes of 3 and 7 by weights that know some
    names.
    """

    def generated(categories, known):
        document = json.loads((data / "boxes.json").read_text())
        document["categories"] = [{"id": i, "name": name} for i, name in categories.items()]
        write_json(data, document)
        weights = tmp_path / "weights.pth"
        keys = {"MODEL__META_ARCHITECTURE": "ClassTeacher", "PROXY__NUM_WORKERS": 0}
        keys |= {"MODEL__WEIGHTS": str(weights)}
        config = write_config(tmp_path, data, **keys)
        cfg = load_cfg(config, ["MODEL.ROI_HEADS.NUM_CLASSES", len(known)])
        trained = [{"id": i, "name": name} for i, name in enumerate(known, start=1)]
        torch.save({"model": ClassTeacher(cfg).state_dict(), "categories": trained}, weights)
        return run("generate_proxy_masks", "--config-file", config)

    return generated


FILE = {3: "wide", 7: "tall"}
KNOWN = {
    "the same": (FILE, ["wide", "tall"], {3: 0.1, 7: 0.2}),
    "another order": (FILE, ["tall", "wide"], {3: 0.2, 7: 0.1}),
    "more": (FILE, ["tall", "round", "wide"], {3: 0.3, 7: 0.1}),
    "other case": ({3: "Wide", 7: "Tall "}, ["tall", "wide"], {3: 0.2, 7: 0.1}),
}


@pytest.mark.parametrize(("categories", "known", "scores"), KNOWN.values(), ids=KNOWN)
def test_generation_finds_the_classes_of_the_weights(
    generate, tmp_path, caplog, categories, known, scores
):
    with caplog.at_level(logging.WARNING):
        assert generate(categories, known) == (0, "")
    assert ("are matched by name with those of the weights" in caplog.text) == (
        list(categories.values()) != known
    )
    made = json.loads((tmp_path / "out/proxy/tiny.json").read_text())
    assert {c["id"]: c["name"] for c in made["categories"]} == categories
    assert [(a["id"], a["category_id"]) for a in made["annotations"]] == [
        *((51, 7), (52, 3), (53, 7), (54, 3))
    ]
    assert {a["category_id"]: a["score"] for a in made["annotations"]} == scores
    folder = tmp_path / "out/pseudo_labels/tiny"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["classes"] == ["background", *categories.values()]
    values = [np.unique(np.asarray(Image.open(folder / LABEL / f"{i}.png"))) for i in (1, 2, 4)]
    last = {"wide": 1, "tall": 2}[known[-1]]
    assert [list(each) for each in values] == [[2], [1], [last]]
    maps = read_score_maps(tmp_path / "out/score_maps/tiny/label/1.npz")
    assert maps.classes.tolist() == [0, 1, 2]
    assert maps.scores[1:, 0, 0] == pytest.approx([scores[3], scores[7]], abs=0.01)


UNKNOWN = {
    "one": ({3: "wide", 7: "long"}, ["tall", "wide"]),
    "of two spellings": ({3: "tall", 7: "Tall"}, ["Tall", "wide"]),
}


@pytest.mark.parametrize(("categories", "known"), UNKNOWN.values(), ids=UNKNOWN)
def test_generation_refuses_classes_that_the_weights_do_not_know(
    generate, tmp_path, categories, known
):
    status, error = generate(categories, known)
    assert status == 2 and not (tmp_path / "out").exists()
    assert "was trained with the classes" in error and "give the data's categories" in error


NAMES = {
    "case and spaces": (["Cat ", "traffic_light"], ["cat", "traffic light"], [0, 1]),
    "two that are alike": (["cat"], ["Cat", "CAT"], [None]),
    "the same before the alike": (["cat"], ["Cat", "cat"], [1]),
    "two for one": (["cat", "Cat"], ["cat"], [0, None]),
    "two like one": (["CAT", "Cat"], ["cat"], [None, None]),
    "another form of letters": (["u\u0308ber"], ["\u00fcber"], [0]),
    "none": (["cat"], [], [None]),
}


@pytest.mark.parametrize(("found", "known", "expected"), NAMES.values(), ids=NAMES)
def test_names_that_mean_the_same(found, known, expected):
    pairs = same_names(found, known)
    assert [pairs.get(name) for name in found] == [i if i is None else known[i] for i in expected]

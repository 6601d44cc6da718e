"""From partial score maps to labels to IRNet to walked maps, with the real loops and a network of a few channels."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from detectron2.modeling import META_ARCH_REGISTRY
from PIL import Image

from tests.generating import generate, outputs
from tests.masks import needs_crf
from tests.methods.bana import tiny_segmentor as tiny
from tests.methods.irn.tiny import NETWORK
from tests.tiny import SIZE, write_dataset
from wsis.config import load_cfg
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisTrainer
from wsis.errors import ConfigError, DataError, WsisError
from wsis.methods.irn import IRN
from wsis.modeling.teacher import TagTeacher, seed_from_inputs
from wsis.structures import ImageMaps, ScoreMaps
from wsis.structures.score_maps import read_score_maps

pytestmark = needs_crf
BASE = {"INPUT.MIN_SIZE_TEST": 0, "PROXY.NUM_WORKERS": 0, "DATALOADER.NUM_WORKERS": 0, "SEED": 2}


@META_ARCH_REGISTRY.register()
class PartialMaps(TagTeacher):
    """High scores of the upper left part of each rectangle, low ones of the rest; nothing to learn."""

    map_names = ("cam",)
    needs_image = False
    result_keys = ()

    def __init__(self, cfg) -> None:
        super().__init__()

    def propose(self, batched_inputs):
        return [seed_from_inputs(inputs) for inputs in batched_inputs]

    def refiner(self):
        return partial_maps


def partial_maps(seed, image: np.ndarray) -> ImageMaps:
    bright = (cv2.blur(image, (3, 3)).mean(axis=2) > 110).astype(np.uint8)
    x, y, width, height = cv2.boundingRect(bright)
    scores = np.zeros(bright.shape, np.float32)
    scores[y : y + height, x : x + width] = 0.25
    scores[y : y + 2 * height // 3, x : x + 2 * width // 3] = 1
    classes = np.array(seed.tags) + 1
    maps = ScoreMaps(classes, np.repeat(scores[None], len(classes), axis=0), *bright.shape, 1)
    return ImageMaps(score_maps={"cam": maps})


class Chain:
    """The stages' configs, each in a folder of its own below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_dataset(folder / "data", number=8, empty=1)

    def cfg(self, stage: str, maps: dict[str, str] | None = None, **keys: Any):
        """Of a stage; maps: name of score maps to the stage that made them."""
        entries = [
            ["tags", name, str(self.out(made_by, "score_maps", name))]
            for name, made_by in (maps or {}).items()
        ]
        opts = BASE | {"DATASETS.CUSTOM": [tiny.data_entry("tags", self.folder)]}
        opts |= {"DATASETS.TRAIN": ("tags",), "DATASETS.CUSTOM_SCORE_MAPS": entries}
        opts |= {"MODEL.META_ARCHITECTURE": stage, "OUTPUT_DIR": str(self.folder / stage)}
        opts |= {name.replace("__", "."): value for name, value in keys.items()}
        cfg = load_cfg(None, [word for n, v in opts.items() for word in (n, repr(v))])
        prepare_datasets(cfg, cfg.DATASETS.TRAIN)
        return cfg

    def out(self, stage: str, kind: str, name: str) -> Path:
        return self.folder / stage / kind / "tags" / name

    def labels(self, stage: str, name: str) -> list[np.ndarray]:
        paths = sorted(self.out(stage, "pseudo_labels", name).glob("*.png"))
        return [np.asarray(Image.open(path)) for path in paths]

    def training_cfg(self, **keys: Any):
        folder = self.out("ConfidentSeeds", "pseudo_labels", "ir_label")
        entry = tiny.label_entry("labelled", self.folder, ir_label=folder)
        keys = {"DATASETS.CUSTOM_SEM_SEG": [entry], "DATASETS.TRAIN": ("labelled",)} | keys
        return self.cfg("IRN", **(NETWORK | keys))


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> Chain:
    chain = Chain(tmp_path_factory.mktemp("chain"))
    generate(chain.cfg("PartialMaps"))
    generate(chain.cfg("ConfidentSeeds", {"cam": "PartialMaps"}))
    cfg = chain.training_cfg()
    IRN.check_training_data(cfg)
    trainer = WsisTrainer(cfg)
    trainer.train()
    return chain


@pytest.fixture(scope="module")
def walked(chain) -> Chain:
    weights = str(chain.folder / "IRN" / "model_final.pth")
    cfg = chain.cfg("IRN", {"seed": "ConfidentSeeds"}, **(NETWORK | {"MODEL.WEIGHTS": weights}))
    generate(cfg)
    return chain


def test_confident_labels_have_objects_background_and_doubt(chain):
    labels = chain.labels("ConfidentSeeds", "ir_label")
    assert len(labels) == 8 and {label.shape for label in labels} == {(SIZE, SIZE)}
    assert {tuple(np.unique(label)) for label in labels[:-1]} <= {
        (0, 1),
        (0, 1, 255),
        (0, 2),
        (0, 2, 255),
    }
    assert any(255 in label for label in labels) and not labels[-1].any()
    maps = read_score_maps(chain.out("ConfidentSeeds", "score_maps", "seed") / "1.npz")
    assert maps.stride == 4 and maps.scores.shape == (1, 16, 16) and 0.9 < maps.scores.max() <= 1


def test_walked_maps_and_their_label(walked):
    labels = walked.labels("IRN", "irn")
    assert len(labels) == 8 and not labels[-1].any()
    for number, label in enumerate(labels[:-1], 1):
        maps = read_score_maps(walked.out("IRN", "score_maps", "irn") / f"{number}.npz")
        assert maps.stride == 4 and len(maps.classes) == 1
        assert set(np.unique(label)) <= {0, *maps.classes.tolist()} and label.any()
        scores = maps.enlarged()[0].numpy()
        assert scores.max() == pytest.approx(1, abs=1e-3)
        sure = np.abs(scores - 0.22) > 1e-3
        assert np.array_equal(label[sure] > 0, scores[sure] > 0.22)


def test_a_resumed_walk_is_done_and_other_maps_are_told(walked):
    weights = str(walked.folder / "IRN" / "model_final.pth")
    keys = NETWORK | {"MODEL.WEIGHTS": weights}
    before = outputs(walked.folder / "IRN")
    generate(walked.cfg("IRN", {"seed": "ConfidentSeeds"}, **keys), resume=True)
    assert before and outputs(walked.folder / "IRN") == before
    other = walked.cfg("IRN", {"cam": "PartialMaps"}, **keys, MODEL__IRN__MAPS=["cam"])
    with pytest.raises(WsisError, match="MODEL.IRN.MAPS"):
        generate(other, resume=True)


def test_joined_maps_of_two_methods(chain):
    folder = chain.folder / "joined"
    maps = {"cam": "PartialMaps", "seed": "ConfidentSeeds"}
    cfg = chain.cfg("ConfidentSeeds", maps, OUTPUT_DIR=str(folder))
    cfg.MODEL.CONFIDENT_SEEDS.MAPS = ["cam", "seed"]
    generate(cfg)
    made = folder / "score_maps" / "tags" / "seed"
    scores = [
        read_score_maps(path / "1.npz").scores
        for path in (made, chain.out("ConfidentSeeds", "score_maps", "seed"))
    ]
    # the seeds are the maps on a coarser grid, so that the sum is about the maps again
    assert scores[0].max() == pytest.approx(1, abs=1e-3)
    assert np.abs(scores[0] - scores[1] / scores[1].max()).max() < 0.2


def test_mistakes_are_told_before_any_work(chain):
    network = chain.training_cfg(MODEL__WEIGHTS="")
    model = WsisTrainer.build_model(network).eval()
    with pytest.raises(
        ConfigError, match=r"CUSTOM_SCORE_MAPS: found nothing, expected the score maps seed"
    ):
        model.refiner()
    with pytest.raises(ConfigError, match="has no score maps 'cam', found seed"):
        WsisTrainer.build_model(chain.cfg("ConfidentSeeds", {"seed": "ConfidentSeeds"}))
    two = chain.cfg("ConfidentSeeds", {"cam": "PartialMaps"})
    two.DATASETS.TRAIN = ("tags", "other")
    with pytest.raises(ConfigError, match="expected one dataset: score maps belong to one"):
        WsisTrainer.build_model(two)
    with pytest.raises(ConfigError, match=r"SEGMENTOR.LABELS: found .* expected 1 name"):
        IRN.check_training_data(chain.training_cfg(MODEL__SEGMENTOR__LABELS=["ir_label", "y"]))
    with pytest.raises(ConfigError, match="MODEL.IRN.WALK.RADIUS: found 1, expected at least 2"):
        WsisTrainer.build_model(chain.training_cfg(MODEL__IRN__WALK__RADIUS=1))


def test_a_map_that_is_gone_ends_the_walk_with_its_name(walked, tmp_path):
    gone = (
        shutil.copytree(walked.folder / "ConfidentSeeds", tmp_path / "seeds")
        / "score_maps/tags/seed/3.npz"
    )
    keys = NETWORK | {"MODEL.WEIGHTS": str(walked.folder / "IRN" / "model_final.pth")}
    cfg = walked.cfg("IRN", **keys, OUTPUT_DIR=str(tmp_path / "out"))
    cfg.DATASETS.CUSTOM_SCORE_MAPS = [["tags", "seed", str(gone.parent)]]
    gone.unlink()
    with pytest.raises(DataError, match=r"seed/3.npz: no such file of score maps"):
        generate(cfg)
    assert not (tmp_path / "out").exists()

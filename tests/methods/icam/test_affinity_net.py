"""AffinityNet: its samples and losses, and the walk from score maps to labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.generating import generate
from tests.masks import rectangle
from tests.methods.icam import tiny
from tests.tiny import SIZE
from wsis.data.build import dataset_source
from wsis.data.crop_transform import CropTransform, Draw
from wsis.data.labels import read_label
from wsis.data.tag_loader import tag_records
from wsis.engine import WsisTrainer
from wsis.errors import ConfigError, DataError
from wsis.layers.affinity import pair_offsets
from wsis.methods.icam import AffinityNet
from wsis.methods.icam.affinity_net import cell_scores
from wsis.structures import ScoreMaps
from wsis.structures.pseudo_labels import write_manifest
from wsis.structures.score_maps import (
    KIND,
    provenance_digest,
    read_header,
    read_score_maps,
    write_score_maps,
)

NAMES = ("crf_alpha2", "crf_alpha4", "icam")
OBJECT = rectangle((SIZE, SIZE), 16, 16, 40, 40)


def write_maps(folder: Path, cfg_source: str, low=0.2, high=0.6) -> list[list[str]]:
    """Score maps of the three images: an object of class 2, surely there or not, above a weak and strong background;
    the last image has none. Returns ``DATASETS.CUSTOM_SCORE_MAPS``.
    """
    provenance = {"source_sha256": cfg_source}
    made_with = provenance_digest(provenance)
    objects = np.where(OBJECT, 0.5, 0.0).astype(np.float32)
    for name, background in zip(NAMES, (low, high, None), strict=True):
        maps = ScoreMaps([2], objects[None], SIZE, SIZE)
        if background is not None:
            both = [np.full_like(objects, background), objects]
            maps = ScoreMaps([0, 2], np.stack(both), SIZE, SIZE)
        for image in ("1", "2", "3"):
            own = maps if image != "3" else ScoreMaps.of_nothing(SIZE, SIZE)
            write_score_maps(folder / name / f"{image}.npz", own, f"{image}.png", made_with)
    write_manifest(folder, provenance, NAMES, ["wide", "tall"], KIND)
    return [["tiny", name, str(folder / name)] for name in NAMES]


@pytest.fixture
def make(tmp_path):
    """``make(**keys)``: a config of AffinityNet with score maps; ``low`` and ``high`` are backgrounds."""
    tiny.write_tagged(tmp_path / "data")

    def config(low=0.2, high=0.6, **keys):
        cfg = tiny.make_cfg(tmp_path / "run", tmp_path / "data", tiny.AFFINITY, **keys)
        source = dataset_source(cfg, "tiny").sha256
        cfg.DATASETS.CUSTOM_SCORE_MAPS = write_maps(tmp_path / "maps", source, low, high)
        return cfg

    return config


def test_cells_have_the_class_that_both_maps_agree_on(make, monkeypatch):
    monkeypatch.setattr(
        "wsis.data.crop_loader.draw_sample", lambda params: Draw(1.0, 0.0, 0.0, False)
    )
    cfg = make()
    mapper = AffinityNet.training_parts(cfg)[1]
    mapper.check(cfg)
    sample = mapper(tag_records(cfg)[0])
    assert sample["image"].shape == (3, SIZE, SIZE)
    expected = np.zeros((8, 8))  # the strong background is stronger than the object
    np.testing.assert_array_equal(sample["cells"], expected)
    cfg = make(low=0.2, high=0.4)
    sample = AffinityNet.training_parts(cfg)[1](tag_records(cfg)[0])
    expected[2:5, 2:5] = 2
    np.testing.assert_array_equal(sample["cells"], expected)
    empty = {"file_name": str(Path(tag_records(cfg)[0]["file_name"]).with_name("3.png"))}
    sample = AffinityNet.training_parts(cfg)[1](empty | {"height": SIZE, "width": SIZE})
    assert not sample["cells"].any()


def test_maps_go_through_the_draw_of_their_image_and_end_where_it_ends():
    transform = CropTransform((8, 12), (16, 16), Draw(1.0, 0.5, 0.0, True))
    maps = np.arange(96, dtype=np.float32).reshape(1, 8, 12) + 1
    cut, label = transform.maps(maps)[0], transform.label(maps[0].astype(np.uint8), 0)
    np.testing.assert_allclose(cut, label)
    assert (cut == 0).sum() == 16 * 16 - 96


def test_the_losses_of_three_kinds_of_pairs(make):
    model = WsisTrainer.build_model(make()).train()
    batch = tiny.make_batch()
    losses = model(batch)
    assert set(losses) == {"loss_background", "loss_foreground", "loss_different"}
    sum(losses.values()).backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None]
    assert missing == []
    for sample in batch:
        sample["cells"] = torch.full_like(sample["cells"], 255)
    assert sum(model(batch).values()) == 0


def test_it_trains_on_score_maps(make):
    cfg = make(SOLVER__IMS_PER_BATCH=2)
    AffinityNet.check_training_data(cfg)
    batch = next(iter(WsisTrainer.build_train_loader(cfg)))
    assert {tuple(sample["cells"].shape) for sample in batch} == {(8, 8)}
    assert all(torch.isfinite(v) for v in WsisTrainer.build_model(cfg).train()(batch).values())


def test_scores_walk_and_give_labels(make, tmp_path):
    cfg = make(MODEL__AFFINITY_NET__ALPHA=2.0)
    tiny.save_weights(cfg, tmp_path / "weights.pth")
    assert generate(cfg).exit_status == 0
    output = tmp_path / "run" / "out"
    label = read_label(output / "pseudo_labels" / "tiny" / "rw" / "1.png")
    assert set(np.unique(label)) <= {0, 2}
    maps = read_score_maps(output / "score_maps" / "tiny" / "rw" / "1.npz")
    assert (maps.classes.tolist(), maps.stride, maps.scores.shape) == ([0, 2], 8, (2, 8, 8))
    assert not read_label(output / "pseudo_labels" / "tiny" / "rw" / "3.png").any()
    header = read_header(output / "score_maps" / "tiny" / "rw" / "1.npz")
    made_with = header.made_with
    for other in make(MODEL__AFFINITY_NET__ALPHA=2.0, low=0.1).DATASETS.CUSTOM_SCORE_MAPS:
        assert read_header(Path(other[2]) / "1.npz").made_with != made_with


@pytest.mark.parametrize("size", [(20, 30), (41, 57), (64, 64)])
def test_a_walk_without_steps_or_in_a_small_image_leaves_the_scores(make, size):
    steps = 0 if min(size) > 24 else 64
    model = WsisTrainer.build_model(make(MODEL__AFFINITY_NET__STEPS=steps)).eval()
    scores = np.zeros((1, *size), np.float32)
    scores[0, :16, :16] = 0.9
    maps = ScoreMaps([2], scores, *size)
    image = 255 * torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    inputs = {"image": image, "height": size[0], "width": size[1], "file_name": "a", "image_id": 1}
    pixels = np.zeros((*size, 3), np.uint8)
    (found,) = model([inputs | {"score_maps": {"icam": maps}, "original_image": pixels}])
    expected = cell_scores(maps, 6.0, 8)
    np.testing.assert_allclose(found["score_maps"]["rw"].scores, expected, atol=1e-6)
    assert (found["sem_seg"]["rw"][:12, :12] == 2).all() and found["sem_seg"]["rw"][-1, -1] == 0


def test_scores_of_cells_are_means_and_nothing_beyond_the_image():
    maps = ScoreMaps([0, 1], np.stack([np.full((10, 9), 0.7), np.full((10, 9), 0.5)]), 10, 9)
    scores = cell_scores(maps, 1.0, 8)
    assert scores.shape == (2, 2, 2)
    np.testing.assert_allclose(scores[:, 0, 0], [0.5, 0.5])
    np.testing.assert_allclose(scores[1], [[0.5, 0.5 / 8], [0.5 * 2 / 8, 0.5 * 2 / 64]])


def test_pairs_are_the_published_ones():
    assert len(pair_offsets(5)) == 34


def test_mistakes_are_one_line(make, tmp_path):
    cfg = make(INPUT__SCALED_CROP__SIZE=60)
    with pytest.raises(ConfigError, match="SIZE: found 60, expected a multiple of the 8 of MODEL"):
        AffinityNet.check_training_data(cfg)
    cfg = make()
    cfg.DATASETS.TRAIN = ("tiny", "tiny")
    with pytest.raises(ConfigError, match="expected one dataset: score maps belong to one"):
        AffinityNet.check_training_data(cfg)
    cfg = make(MODEL__AFFINITY_NET__HIGH="icam")
    with pytest.raises(DataError, match=r"1\.png: .* of the classes \[0, 2\] and \[2\], expected"):
        AffinityNet.training_parts(cfg)[1](tag_records(cfg)[0])
    (tmp_path / "maps" / "crf_alpha2" / "2.npz").unlink()
    with pytest.raises(DataError, match=r"2\.npz: no such file of score maps"):
        AffinityNet.check_training_data(cfg)
    cfg.DATASETS.CUSTOM_SCORE_MAPS = []
    with pytest.raises(ConfigError, match="has no score maps 'crf_alpha2', found none"):
        AffinityNet.check_training_data(cfg)

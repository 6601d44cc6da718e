"""AffinityNet with boxes: pairs that stay in a window, and masks of boxes after a walk."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.generating import by_id, generate
from tests.masks import rectangle
from tests.methods.icam import tiny
from tests.tiny import write_dataset
from wsis.data.crop_transform import CropTransform, Draw
from wsis.engine import WsisTrainer
from wsis.errors import DataError
from wsis.layers.affinity import feature_affinities, fitting_radius, pair_offsets
from wsis.layers.random_walk import random_walk
from wsis.methods.icam import AffinityNetBox
from wsis.methods.icam.affinity_loader import BoxAffinityMapper, scores_of_boxes
from wsis.methods.icam.box_walk import BoxWalkRefiner
from wsis.methods.icam.boxes import pairs_in_window
from wsis.methods.icam.config import AffinityNetParams
from wsis.structures import ScoreMaps, Seed
from wsis.structures.rle import decode_mask


def test_a_walk_in_a_window_is_that_of_a_grid_without_the_rest():
    generator = torch.Generator().manual_seed(0)
    radius, rows, columns = 4, slice(2, 9), slice(1, 12)
    affinity = torch.rand(len(pair_offsets(radius)), 12, 14, generator=generator)
    scores = torch.rand(2, 12, 14, generator=generator)
    inside = pairs_in_window(affinity, radius, rows, columns)
    places = torch.zeros(12, 14, dtype=torch.bool)
    places[rows, columns] = True
    kept = affinity.clone()
    for number, (dy, dx) in enumerate(pair_offsets(radius)):
        for y in range(12):
            for x in range(14):
                in_grid = y + dy < 12 and 0 <= x + dx < 14
                if not (places[y, x] and in_grid and places[y + dy, x + dx]):
                    kept[number, y, x] = 0
    whole = random_walk(scores.clone(), kept, radius, 2, 5)
    found = random_walk(scores[:, rows, columns].clone(), inside, radius, 2, 5)
    torch.testing.assert_close(found, whole[:, rows, columns])


def refined(affinity, steps):
    """Of a 64 x 64 image with a box of 32 x 48 whose left two thirds have a score."""
    scores = np.zeros((1, 64, 64), np.float32)
    scores[0, 8:40, 8:40] = 0.4
    seed = Seed(image_id=1, file_name="a", height=64, width=64)
    seed.boxes, seed.classes = np.array([[8, 8, 56, 40]], np.float32), np.array([2])
    seed.annotation_ids = (7,)
    seed.maps = {"icam": scores, "classes": np.array([3]), "stride": np.array(1)}
    seed.maps["affinity"] = affinity
    made = BoxWalkRefiner(AffinityNetParams(steps=steps))(seed, np.zeros((64, 64, 3), np.uint8))
    return decode_mask(made.masks[0]), made


def test_scores_walk_to_cells_that_belong_together():
    radius, features = fitting_radius(5, 8, 8), torch.zeros(1, 1, 8, 8)
    features[..., 1:5, 1:7] = 20
    affinity = feature_affinities(features, radius)[0]
    alone, _ = refined(torch.zeros_like(affinity).numpy(), 64)
    assert not (alone & ~rectangle((64, 64), 8, 8, 44, 40)).any()
    assert alone[12:36, 12:36].all()
    together, made = refined(affinity.numpy(), 64)
    box = rectangle((64, 64), 8, 8, 56, 40)
    assert together[12:36, 12:52].all() and not (together & ~box).any()
    assert made.status == ["ok"] and 0.5 < made.scores[0] <= 1


def test_cells_have_the_number_of_the_box_that_has_the_larger_score():
    """Two boxes of one class that overlap in the columns 24 to 32; the second one's score there is the larger one."""
    scores = np.full((1, 64, 64), 0.05, np.float32)
    scores[0, 8:40, :24], scores[0, 8:40, 32:56] = 0.8, 0.4
    scores[0, 8:40, 24:32] = 0.38
    boxes = [(np.array([0.0, 8, 32, 40]), 2), (np.array([24.0, 8, 64, 40]), 2)]
    maps = ScoreMaps(np.array([3]), scores, 64, 64)
    own = scores_of_boxes(maps, boxes)
    assert own.amax(dim=(1, 2)).tolist() == pytest.approx([1, 1], abs=1e-3)
    assert not own[0, :, 32:].any() and not own[1, :, :24].any()
    record = {"file_name": "a", "height": 64, "width": 64}
    record["annotations"] = [
        {"bbox": box, "category_id": kind, "iscrowd": 0} for box, kind in boxes
    ]
    mapper = BoxAffinityMapper(None, (lambda record: maps,), 8)
    whole = CropTransform((64, 64), (64, 64), Draw(1.0, 0.0, 0.0, False))
    cells = mapper.cells(record, whole).numpy()
    expected = np.zeros((8, 8), np.uint8)
    expected[1:5, :3], expected[1:5, 3:7] = 1, 2
    assert (cells == expected).all()
    scores[0, 8:40, 24:32] = 0.8  # each box's best is there: nobody's
    maps.scores = scores
    cells = mapper.cells(record, whole).numpy()
    assert (cells[1:5, 3] == 255).all() and (cells[1:5, :3] == 1).all()
    assert not mapper.cells(record | {"annotations": []}, whole).any()
    record["annotations"][0]["category_id"] = 0
    with pytest.raises(
        DataError, match=r"of the classes \[3\], expected those of all its boxes, \[1\]"
    ):
        mapper.cells(record, whole)


def test_maps_of_boxes_walk_by_the_weights_of_affinity_net(tmp_path):
    write_dataset(tmp_path / "data", number=3)
    cfg = tiny.make_cfg(tmp_path / "box", tmp_path / "data", tiny.BOX)
    tiny.save_weights(cfg, tmp_path / "box.pth")
    assert generate(cfg).exit_status == 0
    affinity = tiny.AFFINITY | {"WSIS__SUPERVISION": "box"}
    learnt = tiny.make_cfg(tmp_path / "learnt", tmp_path / "data", affinity)
    tiny.save_weights(learnt, tmp_path / "affinity.pth")
    more = {"MODEL__META_ARCHITECTURE": "AffinityNetBox"}
    cfg = tiny.make_cfg(tmp_path / "walk", tmp_path / "data", affinity | more)
    folder = tmp_path / "box" / "out" / "score_maps" / "tiny" / "icam"
    cfg.DATASETS.CUSTOM_SCORE_MAPS = [["tiny", "icam", str(folder)]]
    AffinityNetBox.check_training_data(cfg)
    batch = next(iter(WsisTrainer.build_train_loader(cfg)))
    assert {1, 0} <= set(torch.stack([each["cells"] for each in batch]).unique().tolist())
    losses = WsisTrainer.build_model(cfg).train()(batch)
    assert losses["loss_background"] > 0 and losses["loss_different"] > 0
    cfg.MODEL.WEIGHTS = str(tmp_path / "affinity.pth")
    result = generate(cfg)
    assert result.exit_status == 0
    assert len(by_id(result)) == 3
    for annotation in by_id(result).values():
        assert decode_mask(annotation["segmentation"]).any() and annotation["score"] > 0

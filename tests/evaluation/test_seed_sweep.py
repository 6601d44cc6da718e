from __future__ import annotations

import numpy as np
import pytest
import torch

from wsis.evaluation.seed_sweep import THRESHOLDS, SeedSweep, sweep_scores
from wsis.layers.seeds import label_map
from wsis.layers.seg_metrics import confusion_matrix

CLASSES = 6


def images(rng: np.random.Generator) -> list[tuple[np.ndarray, list[int], np.ndarray]]:
    """Maps with many ties, labels and targets, one image without a map."""
    made = []
    for labels in ([2, 5], [1], [], [4, 2, 3]):
        size = rng.integers(5, 30, size=2)
        maps = rng.integers(15, 50, size=(len(labels), *size)).astype(np.float32) / 100
        target = rng.choice([0, 1, 2, 4, 5, 255], size=size).astype(np.uint8)
        made.append((maps, labels, target))
    return made


def test_one_pass_counts_as_the_label_maps_of_all_constants_do() -> None:
    sweep, expected = SeedSweep(CLASSES), np.zeros((len(THRESHOLDS), CLASSES, CLASSES), np.int64)
    for maps, labels, target in images(np.random.default_rng(0)):
        sweep.add(maps, labels, target)
        for confusion, threshold in zip(expected, THRESHOLDS, strict=True):
            found = label_map(torch.from_numpy(maps), labels, threshold).numpy()
            confusion += confusion_matrix(found, target, CLASSES)
    assert np.array_equal(sweep.confusions(), expected)
    scores = sweep.scores()
    best = THRESHOLDS.index(scores.best)
    assert scores.mean_iou[best] == scores.mean_iou.max() == scores.scores.mean_iou
    assert scores.mean_iou.argmax() == best and scores.mean_iou.std() > 0
    assert np.isfinite(scores.scores.iou).all()


def test_void_and_absent_classes_do_not_count() -> None:
    sweep = SeedSweep(4, [0.5])
    maps, target = np.array([[[0.9, 0.1, 0.9]]], np.float32), np.array([[1, 0, -1]])
    sweep.add(maps, [1], target, ignore_label=-1)
    scores = sweep.scores()
    assert scores.scores.iou[:2].tolist() == [1, 1] and np.isnan(scores.scores.iou[2:]).all()
    assert scores.mean_iou.tolist() == [1]
    twice = sweep_scores(2 * sweep.confusions(), sweep.thresholds)
    assert twice.mean_iou == scores.mean_iou


@pytest.mark.parametrize(
    ("maps", "labels", "target", "message"),
    [
        (np.zeros((1, 2, 2)), [1, 2], np.zeros((2, 2)), "2 labels"),
        (np.zeros((1, 2, 2)), [1], np.zeros((2, 3)), r"target \(2, 3\)"),
        (np.zeros((1, 2, 2)), [6], np.zeros((2, 2)), "labels hold"),
        (np.zeros((1, 2, 2)), [1], np.full((2, 2), 6), "target hold"),
    ],
)
def test_what_does_not_fit_is_refused(maps, labels, target, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SeedSweep(CLASSES).add(maps, labels, target)


@pytest.mark.parametrize("thresholds", [[], [0.3, 0.2], [0.2, 0.2]])
def test_constants_rise(thresholds: list[float]) -> None:
    with pytest.raises(ValueError, match="expected one or more that rise"):
        SeedSweep(CLASSES, thresholds)

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from detectron2.utils import comm

from tests.tiny import SIZE, write_dataset, write_json
from wsis.data.labels import read_label, truth_reader
from wsis.data.registration import register_dataset
from wsis.errors import ConfigError, DataError
from wsis.evaluation import SemanticEvaluator

NAME = "semantic_evaluator_test"


@pytest.fixture
def images(tmp_path):
    document = write_dataset(tmp_path / "data", number=4)
    register_dataset(NAME, str(tmp_path / "data" / "boxes.json"), str(tmp_path / "data"))
    return document["images"]


class Lazy:
    """A label map that is made when it is asked for."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.values, dtype=dtype)


def one_hot(label):
    return torch.nn.functional.one_hot(torch.from_numpy(label).long(), 3).permute(2, 0, 1).float()


def feed(evaluator, images, make):
    truth = truth_reader(NAME)
    for image in images:
        evaluator.process([{"image_id": image["id"]}], [make(truth(image))])
    return evaluator


def test_scores_of_a_perfect_and_of_an_empty_map(images, tmp_path):
    perfect = SemanticEvaluator(NAME, str(tmp_path / "out"))
    results = feed(perfect, images, lambda t: {"sem_seg": one_hot(t)}).evaluate()
    assert set(results) == {"sem_seg"}
    assert results["sem_seg"]["mIoU"] == 100 and results["sem_seg"]["IoU-tall"] == 100
    assert results["sem_seg"]["contourF"] == results["sem_seg"]["contourF-wide"] == 100
    written = json.loads((tmp_path / "out" / "semantic_quality.json").read_text())
    assert written["sem_seg"]["strict"]["mIoU"] == 100
    perfect.reset()
    nothing = {"sem_seg": one_hot(np.zeros((SIZE, SIZE), np.uint8))}
    background = 1 - 14 * 30 / SIZE**2
    scores = feed(perfect, images, lambda t: nothing).evaluate()["sem_seg"]
    assert scores["mIoU"] == pytest.approx(100 * background / 3)
    assert scores["pACC"] == pytest.approx(100 * background)


@pytest.mark.parametrize("workers", [0, 1])
def test_named_maps_may_be_made_elsewhere(images, workers):
    def make(t):
        late = Lazy(np.where(t == 1, 255, t).astype(np.uint8))
        return {"sem_seg_labels": {"late": late, "plain": torch.from_numpy(t)}}

    evaluator = SemanticEvaluator(NAME, num_workers=workers)
    results = feed(evaluator, images, make).evaluate()
    assert list(results) == ["sem_seg_late", "sem_seg_plain"]
    assert results["sem_seg_plain"]["mIoU"] == 100
    late = results["sem_seg_late"]
    assert late["mIoU"] == pytest.approx(100 * 2 / 3) and late["IoU-wide"] == 0
    assert late["covered-mIoU"] == 100 and 90 < late["coverage"] < 100
    assert evaluator._pool is None


def test_counts_of_all_processes_are_added(images, monkeypatch):
    alone, *halves = (SemanticEvaluator(NAME) for _ in range(3))
    for half, part, factor in zip(halves, (images[:1], images[1:]), (1, 0), strict=True):
        for evaluator in (half, alone):
            feed(evaluator, part, lambda t, f=factor: {"sem_seg": one_hot(f * t)})
    expected = alone.evaluate()
    monkeypatch.setattr(comm, "gather", lambda data, dst: [half._counts for half in halves])
    assert halves[0].evaluate()["sem_seg"] == pytest.approx(expected["sem_seg"], nan_ok=True)
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert halves[1].evaluate() == {}


@pytest.mark.parametrize("save", [False, True])
def test_label_maps_are_written_on_demand(images, tmp_path, save):
    evaluator = SemanticEvaluator(NAME, str(tmp_path / "out"), save_labels=save)
    feed(evaluator, images, lambda t: {"sem_seg_labels": {"a": torch.from_numpy(t)}})
    paths = sorted((tmp_path / "out").rglob("*.png"))
    assert [p.name for p in paths] == (["1.png", "2.png", "3.png", "4.png"] if save else [])
    for path, image in zip(paths, images, strict=False):
        assert path.parent.name == "sem_seg_a"
        np.testing.assert_array_equal(read_label(path), truth_reader(NAME)(image))


def test_a_dataset_without_truth_has_its_labels_written_and_no_score(tmp_path):
    document = write_dataset(tmp_path / "data", number=1)
    del document["annotations"][0]["segmentation"]
    write_json(tmp_path / "data", document)
    name = f"{NAME}_untrue"
    register_dataset(name, str(tmp_path / "data" / "boxes.json"), str(tmp_path / "data"))
    with pytest.raises(ConfigError, match="expected true labels"):
        SemanticEvaluator(name, str(tmp_path / "out"))
    evaluator = SemanticEvaluator(name, str(tmp_path / "out"), save_labels=True)
    label = np.arange(SIZE * SIZE).reshape(SIZE, SIZE) % 3
    evaluator.process([{"image_id": 1}], [{"sem_seg": one_hot(label.astype(np.uint8))}])
    assert np.isnan(evaluator.evaluate()["sem_seg"]["mIoU"])
    np.testing.assert_array_equal(read_label(tmp_path / "out" / "sem_seg" / "1.png"), label)


def test_classes_may_be_one(images):
    evaluator = SemanticEvaluator(NAME, class_agnostic=True)
    feed(evaluator, images, lambda t: {"sem_seg_labels": {"a": torch.from_numpy(t).clamp(max=1)}})
    results = evaluator.evaluate()["sem_seg_a"]
    assert results["mIoU"] == 100 and "IoU-object" in results


def test_a_map_of_another_size_is_an_error(images):
    with pytest.raises(DataError, match=r"1\.png: prediction is \(3, 3\)"):
        feed(SemanticEvaluator(NAME), images, lambda t: {"sem_seg": torch.zeros(3, 3, 3)})

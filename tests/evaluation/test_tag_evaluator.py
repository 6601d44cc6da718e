"""Scores of image tags, of one process and of several."""

import uuid

import pytest
import torch
from detectron2.utils import comm

from tests.data.builders import coco, write_json
from wsis.data.registration import register_dataset
from wsis.errors import DataError
from wsis.evaluation import TagEvaluator

NAMES = {i: f"class{i}" for i in range(1, 8)}
TAGS = [[1], [2, 3], [3], [], [1, 3]]


@pytest.fixture
def dataset(tmp_path):
    """``dataset(tags)``: the name of images with these; ids of categories are 1 to 7, none has 4 to 7."""

    def make(tags=TAGS):
        document = coco(images=len(tags), categories=NAMES)
        for image, own in zip(document["images"], tags, strict=True):
            image["image_labels"] = own
        name = f"tags_{uuid.uuid4().hex}"
        register_dataset(name, write_json(tmp_path / "a.json", document), "")
        return name

    return make


def feed(evaluator, ids, score):
    inputs = [{"image_id": i} for i in ids]
    evaluator.process(inputs, [{"tags": score(TAGS[i - 1])} for i in ids])
    return evaluator


def right(tags):
    """Scores of a classifier that sees everything."""
    return torch.tensor([float(i in tags) - i / 100 for i in NAMES])


def first(_):
    """Of one that likes the classes in their order."""
    return -torch.arange(7.0)


def test_scores_of_a_perfect_and_of_a_blind_classifier(dataset, caplog):
    caplog.set_level("INFO")
    evaluator = TagEvaluator(dataset())
    found = feed(evaluator, range(1, 6), right).evaluate()["tags"]
    assert [found[key] for key in ("mAP", "top1", "top5", "AP-class3")] == [100, 100, 100, 100]
    assert found["AP-class5"] != found["AP-class5"], "not defined"
    text = "mAP is without 4 classes that no image has: class4, class5, class6, class7"
    assert text in caplog.text and "Tags of 5 images:" in caplog.text and "top5" in caplog.text
    evaluator.reset()
    found = feed(evaluator, range(1, 6), first).evaluate()["tags"]
    assert found["top1"] == 50 and found["top5"] == 100
    assert found["mAP"] == pytest.approx(100 * (2 / 5 + 1 / 5 + 3 / 5) / 3)


def test_scores_of_all_processes_are_gathered(dataset, monkeypatch):
    name = dataset()
    alone, *halves = (TagEvaluator(name) for _ in range(3))
    for half, ids, score in zip(halves, ((2, 4), (1, 3, 5)), (first, right), strict=True):
        feed(alone, ids, score)
        feed(half, ids, score)
    expected = alone.evaluate()["tags"]
    monkeypatch.setattr(comm, "gather", lambda data, dst: [half._scores for half in halves])
    assert halves[0].evaluate()["tags"] == pytest.approx(expected, nan_ok=True)
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert halves[1].evaluate() == {}


def test_few_classes_have_no_top5(dataset):
    evaluator = TagEvaluator(dataset(), class_agnostic=True)
    found = feed(evaluator, range(1, 6), lambda tags: torch.zeros(1)).evaluate()["tags"]
    assert set(found) == {"mAP", "top1", "AP-object"} and found["mAP"] == pytest.approx(80)


def test_nothing_to_score(dataset):
    assert TagEvaluator(dataset()).evaluate() == {}
    with pytest.raises(DataError, match=r"a\.json: found no image with a tag"):
        TagEvaluator(dataset([[], []]))

"""tools/check_dataset.py as a user calls it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import pytest

from tests.conftest import Ended
from tests.tiny import write_config, write_dataset, write_json


@pytest.fixture
def document(data):
    return json.loads((data / "boxes.json").read_text())


@pytest.fixture
def check(tool) -> Callable[..., Ended]:
    """``check(words...)``: how the tool ended."""
    return partial(tool, "check_dataset")


@pytest.fixture
def words(data):
    """The words that name the dataset."""
    return "--json", data / "boxes.json", "--images", data


def test_a_good_dataset(data, document, words, check, tmp_path):
    out = tmp_path / "report.json"
    status, text, errors = check(*words, "--json-output", out)
    assert (status, errors) == (0, "")
    found = " ".join(text.split())
    assert "images 4, 0 without a box" in found and "masks run-length codes: 4" in found
    assert "image files 4 read; RGB 4;" in found and "box width 14 14 22 30 30" in found
    assert "tall 2 2" in found and "0 problems, 0 unreadable images" in found
    report = json.loads(out.read_text())[str(data / "boxes.json")]
    assert report["facts"]["annotations"] == 4 and report["problems"] == []


def test_names_are_text_whatever_they_look_like(data, document, words, check, tmp_path):
    names = ["007", "1e5", "<b>Käse</b>", "nan"]
    document["categories"] += [{"id": 10**9 + i, "name": name} for i, name in enumerate(names)]
    write_json(data, document)
    status, text, errors = check(*words)
    assert (status, errors) == (0, "")
    lines = [line.split() for line in text.splitlines()]
    for name in names:
        assert [name, "0", "0"] in lines


def test_what_is_wrong_is_printed_and_written(data, document, words, check, tmp_path):
    for annotation in document["annotations"]:
        annotation["category_id"] = 1
    document["annotations"][0]["bbox"] = [0, 0, -1, 4]
    write_json(data, document)
    (data / "3.png").unlink()
    out = tmp_path / "report.json"
    status, text, errors = check(*words, "--json-output", out)
    assert status == 2
    assert [line.split(":")[0] for line in errors.splitlines()] == ["error"] * 2 + ["unreadable"]
    assert "2 problems, 1 unreadable image" in text
    assert len(json.loads(out.read_text())[str(data / "boxes.json")]["every_problem"]) == 5


def test_long_lists_are_cut_on_the_screen(data, document, words, check):
    first = document["annotations"][0]
    document["annotations"] = [{**first, "id": i, "category_id": 99} for i in range(60)]
    entry = document["images"][0]
    document["images"] += [{**entry, "id": f"x{i}", "file_name": f"x{i}"} for i in range(60)]
    write_json(data, document)
    _, text, errors = check(*words)
    first, *lines = errors.splitlines()
    assert first.startswith("error: ") and "(and 59 more like it); add the class" in first
    assert len(lines) == 51 and lines[-1] == "unreadable: 10 more; --json-output FILE has all"
    assert "1 problem, 60 unreadable images" in text


@pytest.mark.parametrize(
    ("box", "options", "status"),
    [
        ([0, 0, -1, 4], ["--no-images"], 2),
        ([0, 0, -1, 4], ["--no-images", "--bad-box", "skip"], 0),
        ([0, 0, -1, 4], ["--bad-box", "skip"], 3),  # an image is missing
        (None, ["--no-images"], 2),
        (None, ["--no-images", "--tags"], 0),
    ],
)
def test_options(data, document, words, check, box, options, status):
    (data / "3.png").unlink()
    document["annotations"][0].update(bbox=box)
    if box is None:
        del document["annotations"][0]["bbox"], document["annotations"][0]["segmentation"]
    write_json(data, document)
    assert check(*words, *options).status == status


def test_the_datasets_of_a_config(data, document, check, tmp_path):
    write_dataset(tmp_path / "more", number=2)
    folders = {"tiny": data, "more": tmp_path / "more"}
    entries = [[name, str(path / "boxes.json"), str(path)] for name, path in folders.items()]
    config = write_config(tmp_path / "run", data, DATASETS__CUSTOM=entries, DATASETS__TEST=["more"])
    check = partial(check, "--config-file", config)
    status, text, _ = check()
    assert status == 0
    assert "tiny: 0 problems" in text and "more: 0 problems" in text
    status, _, error = check("MODEL.ROI_HEADS.NUM_CLASSES", 5)
    assert status == 2
    text = "MODEL.ROI_HEADS.NUM_CLASSES: found 5, but dataset 'tiny' needs 2"
    assert text in error.splitlines()[0]
    document["annotations"][0]["bbox"] = [0, 0, -1, 4]
    write_json(data, document)
    assert check("--no-images").status == 2
    assert check("--no-images", "DATASETS.BAD_BOX", "skip").status == 0


def test_two_files_need_the_same_classes(data, document, words, check):
    (data / "val.json").write_text(json.dumps(document))
    status, text, _ = check(*words, "--val-json", data / "val.json")
    assert status == 0 and "boxes: 0 problems" in text and "val: 0 problems" in text
    document["categories"][0]["name"] = "narrow"
    (data / "other.json").write_text(json.dumps(document))
    status, _, error = check(*words, "--val-json", data / "other.json")
    assert status == 2 and "'other' has 2 classes (narrow, tall)" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "expected either --json or --config-file"),
        (("--json", "a", "--val-json", "v"), "--json a: expected --images with it"),
        (("--json", "a", "--images", "i", "--val-images", "w"), "expected --val-json with it"),
        (("--config-file", "b", "--val-json", "v"), "--val-json goes with --json"),
        (("--config-file", ""), "an empty name: no such config file"),
        (("--json", "a", "--config-file", "b"), "expected either --json or --config-file"),
        (("--json", "a", "SEED", "1"), "'SEED': config keys need --config-file"),
        (("DATASETS.TRAIN", "()"), "DATASETS.TRAIN: found nothing"),
        (("DATASETS.TRAIN", "('nope',)"), "'nope' is no dataset that has a COCO file"),
    ],
)
def test_mistakes_of_the_command(data, tmp_path, check, words, message):
    if words[:1] == ("DATASETS.TRAIN",):
        words = ("--config-file", write_config(tmp_path, data), *words)
    status, out, error = check(*words)
    assert (status, out) == (2, "") and error.startswith("error: ") and message in error

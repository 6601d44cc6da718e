"""``tools/evaluate_score_maps.py``: any folder of score maps against boxes and masks."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import write_dataset
from wsis.data.labels import instances_to_label
from wsis.data.source import load_source
from wsis.structures import ScoreMaps
from wsis.structures.pseudo_labels import write_manifest
from wsis.structures.score_maps import KIND, provenance_digest, write_score_maps

MADE = {"source_sha256": "another file of the same images"}


@pytest.fixture
def folder(tmp_path):
    """Maps that are the true masks in ``true``, and the same for everything in ``flat``."""
    write_dataset(tmp_path)
    source = load_source(tmp_path / "boxes.json", tmp_path)
    for image in source.images:
        label = instances_to_label(source, image)
        (value,) = set(np.unique(label)) - {0}
        size = label.shape
        for name, scores in (("true", label == value), ("flat", np.ones(size))):
            maps = ScoreMaps([value], scores[None], *size)
            path = tmp_path / "maps" / name / f"{Path(image['file_name']).stem}.npz"
            write_score_maps(path, maps, image["file_name"], provenance_digest(MADE))
    write_manifest(tmp_path / "maps", MADE, ["true", "flat"], source.class_names, KIND)
    return tmp_path


@pytest.fixture
def run(tool, folder, monkeypatch):
    monkeypatch.chdir(folder)
    return partial(tool, "evaluate_score_maps", "--gt", "boxes.json", "--maps")


def test_a_table_and_a_file(folder, run):
    found = run("maps/true", "maps/flat", "--output", "o.json", "--choose")
    status, text, error = found
    assert (status, error) == (0, "")
    assert "Localisation of 4 pairs of image and class, threshold 0.25" in text
    found = json.loads((folder / "o.json").read_text())
    assert list(found) == ["maps/true", "maps/flat"]
    true, flat = found.values()
    for name in (
        "GTknown",
        "MaxBoxAccV2",
        "PIoU",
        "seed mIoU",
        "seed recall",
        "seed contourF",
        "GTknown chosen here",
    ):
        assert true[name] == pytest.approx(100), name
    assert flat["GTknown"] == 0 and flat["seed mIoU"] < 20 and "Top1Loc" not in flat
    assert flat["background"] == 0.2 and flat["seed contourF"] < 50
    run("maps/flat", "--output", "o.json", "--backgrounds", "0.57", "0.9")
    assert json.loads((folder / "o.json").read_text())["maps/flat"]["background"] == 0.57
    status, _, error = run("maps/flat", "--backgrounds", "0.5", "0.4")
    assert status == 2 and "expected the smaller one first" in error
    document = json.loads((folder / "boxes.json").read_text())
    for annotation in document["annotations"]:
        del annotation["segmentation"]
    (folder / "boxes.json").write_text(json.dumps(document))
    _, text, _ = run("maps/true")
    assert "PxAP" not in text and "GTknown" in text


def copied(folder):
    shutil.copy(folder / "maps" / "true" / "1.npz", folder / "maps" / "true" / "2.npz")


@pytest.mark.parametrize(
    ("break_it", "line"),
    [
        (lambda folder: (folder / "maps" / "true" / "2.npz").unlink(), "2.npz: no such file of"),
        (
            lambda folder: (folder / "maps" / "manifest.json").unlink(),
            "maps/true: no manifest.json",
        ),
        (copied, "score maps of the image '1.png', expected those of '2.png'"),
    ],
    ids=["gone", "no manifest", "another image"],
)
def test_one_line_says_what_is_wrong(folder, run, break_it, line):
    break_it(folder)
    status, _, error = run("maps/true", "--output", "o.json")
    assert status == 2 and len(error.splitlines()) == 1
    assert line in error
    assert not (folder / "o.json").exists()


def test_a_threshold_out_of_range(run):
    status, _, error = run("maps/true", "--threshold", "1")
    assert status == 2 and "found 1, expected at least 0, below 1" in error

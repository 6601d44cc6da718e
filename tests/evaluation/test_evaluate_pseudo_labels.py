"""``tools/evaluate_pseudo_labels.py`` and what is under it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import SIZE, write_dataset
from wsis.data.labels import instances_to_label
from wsis.data.source import load_source
from wsis.errors import DataError
from wsis.evaluation.label_folders import label_folder_quality, truth_of_folder
from wsis.structures.pseudo_labels import write_label, write_manifest


@pytest.fixture
def run(tool):
    return partial(tool, "evaluate_pseudo_labels")


@pytest.fixture
def folder(tmp_path):
    """True labels in ``true``, all background in ``nothing``, true where it is foreground in ``part``."""
    write_dataset(tmp_path, number=2)
    source = load_source(tmp_path / "boxes.json", tmp_path)
    for image in source.images:
        label = instances_to_label(source, image)
        name = f"{Path(image['file_name']).stem}.png"
        write_label(tmp_path / "labels" / "true" / name, label)
        write_label(tmp_path / "labels" / "nothing" / name, 0 * label)
        write_label(tmp_path / "labels" / "part" / name, np.where(label == 0, 255, label))
    write_manifest(tmp_path / "labels", {}, ["true", "nothing", "part"], source.class_names)
    return tmp_path


@pytest.mark.parametrize("truth", [["--gt", "boxes.json"], ["--gt-labels", "labels/true"]])
def test_a_table_and_a_file_and_images_without_a_label(folder, run, truth, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    labels = [f"labels/{name}" for name in ("true", "nothing", "part")]
    status, text, error = run("--labels", *labels, *truth, "--output", "out.json")
    assert (status, error) == (0, "")
    found = json.loads((folder / "out.json").read_text())
    assert found["labels/true"]["strict"]["mIoU"] == 100 and found["labels/true"]["images"] == 2
    contours = [found[f"labels/{name}"]["contour"]["F"] for name in ("true", "nothing", "part")]
    assert contours == [100, 0, 100] and "contour F" in text
    background = 100 * (1 - 14 * 30 / SIZE**2)
    assert found["labels/nothing"]["strict"]["pACC"] == pytest.approx(background)
    part = found["labels/part"]
    assert part["coverage"] == pytest.approx(100 - background)
    assert part["covered"]["mIoU"] == 100
    assert part["strict"]["mIoU"] == pytest.approx(100 * 2 / 3)
    assert "labels/part strict" in text and "labels/part covered" in text and "tall" in text
    (folder / "labels" / "part" / "2.png").unlink()
    status, text, _ = run("--labels", *labels, *truth, "--output", "out.json")
    assert status == 0 and "\nlabels/part: 1 of 2 images have a label\n" in text
    assert "labels/nothing: " not in text
    found = json.loads((folder / "out.json").read_text())
    assert [found[name]["missing"] for name in labels] == [0, 0, 1]


@pytest.mark.parametrize(
    ("labels", "truth", "text"),
    [
        ("other", ["--gt", "boxes.json"], "found no PNG file"),
        ("other", ["--gt-labels", "other"], "no manifest.json"),
        ("labels/true", ["--gt-labels", "gone"], "no such folder"),
        ("labels", ["--gt", "boxes.json"], "no image of the label"),
        (
            "swapped/true",
            ["--gt", "boxes.json"],
            "manifest.json: key 'classes': found 3 (background, tall, wide)",
        ),
    ],
)
def test_mistakes_are_one_line(folder, run, monkeypatch, labels, truth, text) -> None:
    monkeypatch.chdir(folder)
    (folder / "other").mkdir()
    write_manifest(folder / "swapped", {}, ["true"], ["tall", "wide"])
    status, _, error = run("--labels", labels, *truth)
    assert status == 2 and text in error and error.count("\n") == 1


def test_a_label_that_does_not_fit_is_named(folder) -> None:
    truth, labels = truth_of_folder(folder / "labels" / "true"), folder / "labels" / "part"
    for label, text in (
        (np.full((SIZE, SIZE), 3, dtype=np.uint8), "found the value 3"),
        (np.zeros((SIZE, 3), dtype=np.uint8), r"prediction is \(64, 3\)"),
    ):
        write_label(labels / "1.png", label)
        with pytest.raises(DataError, match=rf"1\.png: {text}"):
            label_folder_quality(labels, truth, ["background", "wide", "tall"])

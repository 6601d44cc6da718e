"""The nuclei converter on a small tree of the Data Science Bowl's form."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsis.data.builtin_paths import BUILTIN
from wsis.data.nuclei import split
from wsis.data.source import load_source
from wsis.errors import ConfigError, DataError
from wsis.structures.rle import decode_mask

SCRIPT = Path(__file__).parents[2] / "datasets" / "prepare_nuclei.py"
NAMES = [letter * 64 for letter in "abcde"]  # ids are 64 hexadecimal digits
HEIGHT, WIDTH = 16, 24


def save_mask(folder: Path, name: str, rows: slice, columns: slice) -> None:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[rows, columns] = 255
    Image.fromarray(mask).save(folder / "masks" / f"{name}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A datasets root with five images, the last one larger than the others."""
    for k, name in enumerate(NAMES):
        folder = tmp_path / "nuclei" / "stage1_train" / name
        (folder / "images").mkdir(parents=True)
        (folder / "masks").mkdir()
        height, width = (HEIGHT, WIDTH) if k < 4 else (40, 50)
        pixels = np.full((height, width, 4), (10, 20, 30 + k, 255), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
        if k < 4:
            save_mask(folder, "1", slice(2, 6), slice(3, 9))
            save_mask(folder, "2", slice(4, 8), slice(8, 12))  # shares 2 pixels with the first
            save_mask(folder, "3", slice(0, 0), slice(0, 0))  # empty
    return tmp_path


def prepare(root: Path, *arguments: str) -> None:
    main = runpy.run_path(str(SCRIPT))["main"]
    main(["--root", str(root), "--workers", "1", *arguments])


def read(root: Path, name: str) -> dict[str, Any]:
    return json.loads((root / BUILTIN[name][0]).read_text())


def test_boxes_masks_and_images(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(root, "--val-fraction", "0", "--max-side", "24")
    assert "4 empty masks left out" in capsys.readouterr().out
    document = read(root, "nuclei_train")
    assert [i["file_name"] for i in document["images"]] == [f"{n}.png" for n in NAMES[:4]]
    first, second = document["annotations"][:2]
    assert first["bbox"] == [3, 2, 6, 4] and second["bbox"] == [8, 4, 4, 4]
    mask = decode_mask(first["segmentation"])
    assert mask[2:6, 3:9].all() and mask.sum() == first["area"] == 24
    assert decode_mask(second["segmentation"]).sum() == 16  # overlaps stay with both
    image = Image.open(root / BUILTIN["nuclei_train"][1] / f"{NAMES[1]}.png")
    assert image.mode == "RGB" and image.getpixel((0, 0)) == (10, 20, 31)
    assert read(root, "nuclei_val")["images"] == []


def test_splits_are_disjoint_and_share_ids(root: Path) -> None:
    prepare(root, "--val-fraction", "0.4")
    train, boxes, val = (read(root, f"nuclei_{s}") for s in ("train", "train_boxes", "val"))
    assert len(train["images"]) == 3 and len(val["images"]) == 2
    ids = [i["id"] for i in train["images"] + val["images"]]
    assert sorted(ids) == [1, 2, 3, 4, 5]
    annotation_ids = [a["id"] for a in train["annotations"] + val["annotations"]]
    assert sorted(annotation_ids) == list(range(1, 9))
    same = ("id", "image_id", "category_id", "bbox")
    for with_mask, without in zip(train["annotations"], boxes["annotations"], strict=True):
        assert all(with_mask[key] == without[key] for key in same)
        assert "segmentation" not in without
        assert without["area"] == without["bbox"][2] * without["bbox"][3]
    for name in ("nuclei_train", "nuclei_train_boxes", "nuclei_val"):
        load_source(root / BUILTIN[name][0], root / BUILTIN[name][1])


def test_split_depends_on_the_seed_only() -> None:
    names = [f"{k:03d}" for k in range(100)]
    first = split(names, 0.2, 0)
    assert len(first) == 20 and first == split(names[::-1], 0.2, 0)
    assert first != split(names, 0.2, 1)
    assert first < split(names, 0.3, 0)


def test_running_again_and_in_parallel_gives_the_same_bytes(root: Path) -> None:
    prepare(root)
    first = {p: p.read_bytes() for p in (root / "nuclei").rglob("*.*") if p.is_file()}
    prepare(root, "--workers", "2")
    second = {p: p.read_bytes() for p in (root / "nuclei").rglob("*.*") if p.is_file()}
    assert first == second


def first_image(root: Path) -> Path:
    return root / "nuclei" / "stage1_train" / NAMES[0]


def wrong_size(root: Path) -> None:
    Image.new("L", (5, 5), 255).save(first_image(root) / "masks" / "1.png")


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda r: (r / "nuclei").rename(r / "x"), "stage1_train: no such folder"),
    "no images": (
        lambda r: (first_image(r) / "images" / f"{NAMES[0]}.png").unlink(),
        "images: found 0 PNG files, expected one",
    ),
    "no masks folder": (
        lambda r: (first_image(r) / "masks").rename(r / "x"),
        "masks: no such folder, expected one PNG per nucleus",
    ),
    "mask of another size": (wrong_size, r"masks/1.png: .* 5x5 .* 24x16"),
    "damaged mask": (
        lambda r: (first_image(r) / "masks" / "1.png").write_bytes(b"PNG"),
        "masks/1.png: cannot be read as an image",
    ),
    "damaged image": (
        lambda r: (first_image(r) / "images" / f"{NAMES[0]}.png").write_bytes(b"PNG"),
        "png: not a readable image",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_is_one_line_and_writes_no_json(root: Path, fault: str) -> None:
    damage, message = FAULTS[fault]
    damage(root)
    with pytest.raises(DataError, match=message) as error:
        prepare(root)
    assert "\n" not in str(error.value)
    assert not (root / "nuclei" / "annotations").exists()


def test_options_are_checked(root: Path) -> None:
    with pytest.raises(ConfigError, match="--val-fraction: found 1.0"):
        prepare(root, "--val-fraction", "1")
    with pytest.raises(DataError, match="no image has sides of at most 10 pixels"):
        prepare(root, "--max-side", "10")

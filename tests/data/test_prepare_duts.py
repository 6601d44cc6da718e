"""The DUTS-TR converter on a small tree of the public form."""

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
from wsis.data.source import load_source
from wsis.errors import ConfigError, DataError
from wsis.structures.rle import decode_mask

SCRIPT = Path(__file__).parents[2] / "datasets" / "prepare_duts.py"
SIZE = (20, 30)
BLOBS = {
    "one": [(slice(4, 12), slice(5, 15))],
    "one_and_a_speck": [(slice(4, 14), slice(5, 15)), (slice(18, 19), slice(1, 3))],
    "two": [(slice(4, 12), slice(5, 15)), (slice(4, 12), slice(18, 25))],
    "touching_at_a_corner": [(slice(2, 6), slice(2, 6)), (slice(6, 9), slice(6, 9))],
    "none": [],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("Image", "Mask"):
        (tmp_path / "DUTS-TR" / f"DUTS-TR-{name}").mkdir(parents=True)
    for k, (name, blobs) in enumerate(BLOBS.items()):
        mask = np.zeros(SIZE, dtype=np.uint8)
        for blob in blobs:
            mask[blob] = 255
        mask[0, 0] = 90  # a soft border
        stored = mask if k % 2 else np.repeat(mask[..., None], 3, axis=2)
        Image.fromarray(stored).save(tmp_path / "DUTS-TR" / "DUTS-TR-Mask" / f"{name}.png")
        pixels = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "DUTS-TR" / "DUTS-TR-Image" / f"{name}.jpg")
    return tmp_path


def prepare(root: Path, *arguments: str) -> dict[str, Any]:
    main = runpy.run_path(str(SCRIPT))["main"]
    main(["--root", str(root), "--workers", "1", *arguments])
    return json.loads((root / BUILTIN["duts_tr_single"][0]).read_text())


def test_images_of_a_single_object(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = prepare(root)
    names = [image["file_name"] for image in document["images"]]
    assert names == ["one.jpg", "one_and_a_speck.jpg", "touching_at_a_corner.jpg"]
    assert "3 of 5 images" in capsys.readouterr().out
    assert [a["image_id"] for a in document["annotations"]] == [1, 2, 3]
    first = document["annotations"][0]
    assert first["bbox"] == [5, 4, 10, 8] and first["area"] == 80
    expected = np.zeros(SIZE, dtype=bool)
    expected[BLOBS["one"][0]] = True
    np.testing.assert_array_equal(decode_mask(first["segmentation"]), expected)
    speck = decode_mask(document["annotations"][1]["segmentation"])
    assert speck.sum() == 102  # it stays in the mask


def test_file_is_a_dataset_and_the_same_again(root: Path) -> None:
    prepare(root)
    json_file, images = (root / part for part in BUILTIN["duts_tr_single"])
    source = load_source(json_file, images)
    assert source.has_masks and source.class_names == ["object"]
    content = json_file.read_bytes()
    prepare(root)
    assert json_file.read_bytes() == content


def test_every_image_with_a_mask(root: Path) -> None:
    assert len(prepare(root, "--min-share", "0")["images"]) == 4


def remove_masks(root: Path) -> None:
    (root / "DUTS-TR" / "DUTS-TR-Mask").rename(root / "elsewhere")


def remove_mask(root: Path) -> None:
    (root / "DUTS-TR" / "DUTS-TR-Mask" / "two.png").unlink()


def remove_images(root: Path) -> None:
    for path in (root / "DUTS-TR" / "DUTS-TR-Image").iterdir():
        path.unlink()


def shrink_mask(root: Path) -> None:
    small = Image.fromarray(np.zeros((5, 5), dtype=np.uint8))
    small.save(root / "DUTS-TR" / "DUTS-TR-Mask" / "two.png")


def damage_image(root: Path) -> None:
    (root / "DUTS-TR" / "DUTS-TR-Image" / "two.jpg").write_bytes(b"no image")


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "masks missing": (remove_masks, "DUTS-TR-Mask: no such folder, expected DUTS-TR-Mask"),
    "one mask missing": (remove_mask, "two.png: no such mask"),
    "no images": (remove_images, r"found no \*.jpg"),
    "mask of another size": (shrink_mask, "two.png: the image is 5x5"),
    "damaged image": (damage_image, "two.jpg: not a readable image"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_is_one_line_and_writes_nothing(root: Path, fault: str) -> None:
    damage, message = FAULTS[fault]
    damage(root)
    with pytest.raises(DataError, match=message) as error:
        prepare(root)
    assert "\n" not in str(error.value)
    assert not (root / "duts").exists()


def test_share_is_checked_and_something_must_be_left(root: Path) -> None:
    with pytest.raises(ConfigError, match="--min-share: found 2.0"):
        prepare(root, "--min-share", "2")
    for name in set(BLOBS) - {"two"}:
        (root / "DUTS-TR" / "DUTS-TR-Image" / f"{name}.jpg").unlink()
    with pytest.raises(DataError, match="none of 1 images shows a single object"):
        prepare(root)

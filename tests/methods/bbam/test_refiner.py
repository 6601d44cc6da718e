"""From maps to masks: the union rule, MCG files, what becomes of a box without a mask."""

from functools import partial

import numpy as np
import pytest
import scipy.io

from tests import masks as drawing
from tests.masks import needs_crf, overlap
from wsis.errors import DataError
from wsis.layers.dense_crf import DenseCRFParams
from wsis.methods.bbam import refiner as module
from wsis.methods.bbam.refiner import BBAMRefiner, find_mcg
from wsis.methods.bbam.top_crf import BoxMasks, TopCRFParams
from wsis.structures import Seed
from wsis.structures.rle import decode_mask

pytestmark = needs_crf

H, W = 50, 60
PARAMS = TopCRFParams(crf=DenseCRFParams(3, 1, 4, 20, 3, 5), blur_base=1, blur_slope=2)
OBJECT = (15, 10, 45, 40)
rectangle = partial(drawing.rectangle, (H, W))


def refine(boxes, maps=None, **options):
    """The masks of an image with a bright object."""
    image = np.where(rectangle(*OBJECT)[..., None], 200, 40).repeat(3, axis=2).astype(np.uint8)
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    n = len(boxes)
    maps = np.zeros((n, 5, 6), np.float32) if maps is None else maps
    named = {str(i): values for i, values in enumerate(maps)}
    ids = tuple(range(7, 7 + n))
    seed = Seed(1, "x/2007_000032.jpg", H, W, boxes, np.arange(n), ids, named)
    return BBAMRefiner(PARAMS, **options)(seed, image)


@pytest.fixture
def fixed(monkeypatch):
    """Replaces the CRF's part by given masks, pairs and their status."""

    def use(*masks):
        made = [BoxMasks(*each) for each in masks]
        monkeypatch.setattr(module, "top_crf", lambda *_: iter(made))

    return use


def test_the_region_of_doubt_is_the_larger_mask_without_the_smaller(fixed):
    inner, outer = rectangle(20, 15, 40, 35), rectangle(25, 10, 50, 40)  # the outer lacks a part
    fixed((inner, outer, "ok"))
    masks = refine([[10, 5, 50, 45]])
    assert np.array_equal(decode_mask(masks.masks[0]), inner)
    assert np.array_equal(decode_mask(masks.ignore_masks[0]), outer & ~inner)
    assert masks.status == ["ok"] and masks.scores == [1.0] and masks.sem_seg == {}


def test_each_box_has_its_own_mask_whatever_the_others_have(fixed):
    some, none, other = rectangle(20, 15, 40, 35), rectangle(0, 0, 0, 0), rectangle(0, 0, 9, 9)
    fixed((some, some, "ok"), (none, none, "empty"), (other, other, "fallback"))
    masks = refine([[10, 5, 50, 45], [5, 5, 20, 20], [0, 0, 10, 10]], sem_seg=True)
    assert masks.status == ["ok", "empty", "fallback"]
    box = rectangle(5, 5, 20, 20)
    for code, expected in zip(masks.masks, (some, box, other), strict=True):
        assert np.array_equal(decode_mask(code), expected)
    assert masks.ignore_masks[0] is masks.ignore_masks[2] is None
    label = masks.sem_seg["bbam"]
    assert (label[some] == 1).all() and (label[other] == 3).all()
    assert (label[box & ~some & ~other] == 255).all() and label[48, 58] == 0


def test_maps_lead_to_the_object():
    values = drawing.rectangle((5, 6), 2, 1, 4, 4).astype(np.float32)
    masks = refine([[10, 5, 50, 45]] * 2, [values, 0 * values])
    assert masks.status[0] == "ok" and masks.status[1] in ("fallback", "empty")
    assert overlap(decode_mask(masks.masks[0]), rectangle(*OBJECT)) > 0.8
    nothing = refine([], sem_seg=True)
    assert len(nothing) == 0 and not nothing.sem_seg["bbam"].any()


def write_mcg(folder, name, shape=(H, W)):
    """Superpixels of 10 x 10 pixels; one proposal per pair of rows, and the object."""
    columns = shape[1] // 10
    grid = np.arange(shape[0] // 10)[:, None] * columns + np.arange(columns) + 1
    superpixels = np.kron(grid, np.ones((10, 10), dtype=np.int64)).astype(np.uint16)
    lists = np.empty((2, 1), dtype=object)
    lists[:, 0] = [grid[1:4, 1:4].ravel(), grid[:2].ravel()]
    folder.mkdir(exist_ok=True)
    scipy.io.savemat(folder / f"{name}.mat", {"superpixels": superpixels, "labels": lists})


def test_mcg_proposals_replace_masks(fixed, tmp_path):
    write_mcg(tmp_path / "old", "000032")
    inner, outer, none = (rectangle(k, k, 50 - k, 50 - k) for k in (14, 12, 25))
    fixed((inner, outer, "ok"), (none, none, "empty"))
    folders = str(tmp_path / "none"), str(tmp_path / "old")
    masks = refine([[5, 5, 50, 45], [0, 0, 40, 40]], mcg_folders=folders)
    assert np.array_equal(decode_mask(masks.masks[0]), rectangle(10, 10, 40, 40))
    assert masks.ignore_masks[0] is None
    assert masks.status == ["ok", "empty"]


def test_mcg_files_are_found_by_name(tmp_path):
    folders = str(tmp_path / "a"), str(tmp_path / "b")
    assert find_mcg((), "2007_1.jpg", (H, W)) is None
    write_mcg(tmp_path / "b", "1")
    found = find_mcg(folders, "images/2007_1.jpg", (H, W))
    assert found is not None and found.members.shape == (2, 31)
    assert find_mcg(folders, "images/2008_1.jpg", (H, W)) is None
    write_mcg(tmp_path / "a", "2008_1", (20, W))
    with pytest.raises(DataError, match=r"2008_1\.mat: superpixels of an image of \(20, 60\)"):
        find_mcg(folders, "images/2008_1.jpg", (H, W))

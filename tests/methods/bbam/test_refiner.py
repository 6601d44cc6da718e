"""From maps to masks: the union rule, MCG files, what becomes of a box without a mask."""

import numpy as np
import pytest
import scipy.io

from tests.methods.bbam.tiny_detector import needs_crf
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


def make_seed(boxes, maps=None, name="x/2007_000032.jpg"):
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    n = len(boxes)
    if maps is None:
        maps = {str(i): np.zeros((5, 6), np.float32) for i in range(n)}
    return Seed(1, name, H, W, boxes, np.arange(n), tuple(range(7, 7 + n)), maps)


def rectangle(x0, y0, x1, y1):
    mask = np.zeros((H, W), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.fixture
def image():
    image = np.full((H, W, 3), 40, dtype=np.uint8)
    image[10:40, 15:45] = 200
    return image


@pytest.fixture
def fixed(monkeypatch):
    """Replaces the CRF's part by given masks."""

    def use(*masks):
        monkeypatch.setattr(module, "top_crf", lambda *_: iter(masks))

    return use


def test_the_region_of_doubt_is_the_larger_mask_without_the_smaller(fixed, image):
    inner, outer = rectangle(20, 15, 40, 35), rectangle(25, 10, 50, 40)  # the outer lacks a part
    fixed(BoxMasks(inner, outer, "ok"))
    masks = BBAMRefiner(PARAMS)(make_seed([[10, 5, 50, 45]]), image)
    assert np.array_equal(decode_mask(masks.masks[0]), inner)
    assert np.array_equal(decode_mask(masks.ignore_masks[0]), outer & ~inner)
    assert masks.status == ["ok"] and masks.scores == [1.0] and masks.sem_seg == {}


def test_each_box_has_its_own_mask_whatever_the_others_have(fixed, image):
    some, none = rectangle(20, 15, 40, 35), np.zeros((H, W), bool)
    other = rectangle(0, 0, 9, 9)
    fixed(
        BoxMasks(some, some, "ok"),
        BoxMasks(none, none, "empty"),
        BoxMasks(other, other, "fallback"),
    )
    boxes = [[10, 5, 50, 45], [5, 5, 20, 20], [0, 0, 10, 10]]
    masks = BBAMRefiner(PARAMS, sem_seg=True)(make_seed(boxes), image)
    assert masks.status == ["ok", "empty", "fallback"]
    assert np.array_equal(decode_mask(masks.masks[0]), some)
    assert np.array_equal(decode_mask(masks.masks[1]), rectangle(5, 5, 20, 20))
    assert np.array_equal(decode_mask(masks.masks[2]), other)
    assert masks.ignore_masks[0] is masks.ignore_masks[2] is None
    label = masks.sem_seg["bbam"]
    assert (label[some] == 1).all() and (label[other] == 3).all()
    assert (label[rectangle(5, 5, 20, 20) & ~some & ~other] == 255).all()
    assert label[48, 58] == 0


def test_maps_lead_to_the_object(image):
    values = np.zeros((5, 6), np.float32)
    values[1:4, 2:4] = 1
    seed = make_seed([[10, 5, 50, 45], [10, 5, 50, 45]], {"0": values, "1": 0 * values})
    masks = BBAMRefiner(PARAMS)(seed, image)
    truth = rectangle(15, 10, 45, 40)
    assert masks.status[0] == "ok" and masks.status[1] in ("fallback", "empty")
    found = decode_mask(masks.masks[0])
    assert (found & truth).sum() > 0.8 * (found | truth).sum()


def write_mcg(folder, name, shape=(H, W)):
    """Superpixels of 10 x 10 pixels; one proposal per pair of rows, and the object."""
    columns = shape[1] // 10
    grid = np.arange(shape[0] // 10)[:, None] * columns + np.arange(columns) + 1
    superpixels = np.kron(grid, np.ones((10, 10), dtype=np.int64)).astype(np.uint16)
    lists = np.empty((2, 1), dtype=object)
    lists[0, 0] = grid[1:4, 1:4].ravel()
    lists[1, 0] = grid[:2].ravel()
    folder.mkdir(exist_ok=True)
    scipy.io.savemat(folder / f"{name}.mat", {"superpixels": superpixels, "labels": lists})


def test_mcg_proposals_replace_masks(fixed, image, tmp_path):
    write_mcg(tmp_path / "old", "000032")
    inner, outer = rectangle(14, 14, 36, 36), rectangle(12, 12, 38, 38)
    fixed(BoxMasks(inner, outer, "ok"), BoxMasks(inner & False, inner & False, "empty"))
    refine = BBAMRefiner(PARAMS, (str(tmp_path / "none"), str(tmp_path / "old")))
    masks = refine(make_seed([[5, 5, 50, 45], [0, 0, 40, 40]]), image)
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


def test_no_boxes(image):
    masks = BBAMRefiner(PARAMS, sem_seg=True)(make_seed([]), image)
    assert len(masks) == 0 and not masks.sem_seg["bbam"].any()

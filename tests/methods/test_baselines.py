"""The baseline teachers: closed forms, edges, and the teacher protocol."""

import pickle
import sys

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from tests.masks import needs_crf, overlap
from wsis.config import get_cfg
from wsis.errors import ConfigError
from wsis.layers import box_window
from wsis.layers.box_shapes import filled_box, inscribed_ellipse
from wsis.layers.paste import place_crop
from wsis.structures import Seed
from wsis.structures.boxes import window_around
from wsis.structures.rle import decode_mask

CRF = pytest.param("BoxCRF", marks=needs_crf)
ARCHITECTURES = ["FilledBox", "InscribedEllipse", "GrabCut", CRF]
NODES = [("GrabCut", "GRABCUT"), pytest.param("BoxCRF", "BOX_CRF", marks=needs_crf)]
BOX = np.array([16, 16, 48, 48.0])


@pytest.fixture
def disc():
    """A bright disc in the middle of a dark noisy image, and its mask."""
    y, x = np.mgrid[:64, :64] + 0.5
    mask = (y - 32) ** 2 + (x - 32) ** 2 <= 16**2
    noise = np.random.default_rng(0).normal(0, 6, (64, 64, 3))
    image = np.where(mask[:, :, None], (200, 120, 60), (40, 60, 90)) + noise
    return image.clip(0, 255).astype(np.uint8), mask


def build(name, *opts):
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.META_ARCHITECTURE", name, "MODEL.DEVICE", "cpu", *opts])
    return build_model(cfg).eval()


def refine(name, image, boxes, *opts):
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    n = len(boxes)
    seed = Seed(1, "", *image.shape[:2], boxes, np.zeros(n, dtype=np.int64), tuple(range(n)))
    return pickle.loads(pickle.dumps(build(name, *opts).refiner()))(seed, image)


def test_filled_box_is_the_box():
    assert place_crop(*filled_box(np.array([2, 3, 5, 7.0]), 10, 12), 10, 12).sum() == 12


def test_ellipse_has_the_area_and_symmetry_of_an_ellipse():
    mask = place_crop(*inscribed_ellipse(np.array([10, 20, 110, 80.0]), 120, 130), 120, 130)
    assert mask.sum() == pytest.approx(np.pi * 50 * 30, rel=0.005)
    assert np.array_equal(mask[20:80, 10:110], mask[20:80, 10:110][::-1, ::-1])
    assert mask[:, 10].any() and not mask[:, 9].any(), "it touches the side"
    assert not mask[21, 11]


@pytest.mark.parametrize("box", [(4, 4, 5, 5), (4.2, 4.2, 4.4, 4.4), (0, 0, 1, 9), (3, 3, 5, 5)])
def test_no_box_is_too_small_for_an_ellipse(box):
    assert inscribed_ellipse(np.array(box, dtype=float), 10, 10)[0].any()


@pytest.mark.parametrize(
    ("box", "window"),
    [((40, 40, 60, 50), (35, 55, 30, 70)), ((0, 90, 20, 100), (85, 100, 0, 30))],
)
def test_window_has_the_centre_of_its_box_and_stays_in_the_image(box, window):
    rows, columns = window_around(np.array(box, dtype=float), 2.0, 100, 100)
    assert (rows.start, rows.stop, columns.start, columns.stop) == window


@pytest.mark.parametrize("name", ["GrabCut", CRF])
def test_finds_the_disc_twice_the_same(name, disc):
    first, second = (
        refine(name, disc[0], [BOX], "MODEL.BOX_CRF.BILATERAL_RGB_STD", 20.0) for _ in range(2)
    )
    assert first.status == ["ok"] and first.masks == second.masks
    assert overlap(decode_mask(first.masks[0]), disc[1]) > 0.95


@pytest.mark.parametrize("name", ["GrabCut", CRF])
def test_the_mask_never_leaves_the_box(name, disc):
    boxes = [[10, 10, 40, 40], [0, 30, 33, 64], [50.5, 50.5, 60, 60]]
    masks = refine(name, disc[0], boxes)
    for code, (x0, y0, x1, y1) in zip(masks.masks, boxes, strict=True):
        mask = decode_mask(code)
        mask[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = False
        assert not mask.any()


@pytest.mark.parametrize(("name", "node"), NODES)
@pytest.mark.parametrize("scale", [0.25, 1, 3])
def test_a_box_is_seen_at_one_size_whatever_its_own(name, node, scale, disc, monkeypatch):
    image, truth = (
        cv2.resize(a.astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        for a in disc
    )
    seen, resized = [], box_window.resized
    monkeypatch.setattr(
        box_window, "resized", lambda v, size: (seen.append((v.ndim, *size)), resized(v, size))[1]
    )
    seed = refine(
        name, image, [BOX * scale], f"MODEL.{node}.WINDOW", 1.5, f"MODEL.{node}.BOX_SIDE", 40.0
    )
    assert seed.status == ["ok"] and (3, 60, 60) in seen
    assert overlap(decode_mask(seed.masks[0]), truth.astype(bool)) > 0.85
    seen.clear()
    refine(name, image, [BOX * scale], f"MODEL.{node}.WINDOW", 1.5, f"MODEL.{node}.BOX_SIDE", 0.0)
    assert (3, 48 * scale, 48 * scale) in seen, "the image's own pixels"


@pytest.mark.parametrize(("name", "node"), NODES)
@pytest.mark.parametrize(("share", "status"), [(0.6, "ok"), (0.9, "fallback")])
def test_a_mask_that_covers_too_little_of_its_box_is_a_failure(name, node, share, status, disc):
    masks = refine(name, disc[0], [BOX], f"MODEL.{node}.MIN_COVERAGE", share)  # the disc has 0.79
    assert masks.status == [status]
    assert status == "ok" or masks.masks == refine("InscribedEllipse", disc[0], [BOX]).masks


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("value", [0, 255])
def test_edges_one_pixel_full_image_border_overlap_and_no_boxes(name, value):
    image = np.full((20, 24, 3), value, dtype=np.uint8)
    boxes = [[5, 5, 6, 6], [0, 0, 24, 20], [20, 10, 24, 20], [4, 4, 12, 12], [4, 4, 12, 12]]
    masks = refine(name, image, boxes)
    assert len(masks) == 5 and set(masks.status) <= {"ok", "fallback"}
    assert all(decode_mask(code).any() for code in masks.masks)
    assert masks.masks[3] == masks.masks[4]
    assert len(refine(name, image, [])) == 0


def test_where_grabcut_finds_nothing_the_ellipse_stands_in(disc):
    whole = disc[0], [[0, 0, 64, 64]]  # no background left to learn from
    masks = refine("GrabCut", *whole)
    assert masks.status == ["fallback"]
    assert masks.masks == refine("InscribedEllipse", *whole).masks


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_teacher_protocol(name, disc):
    instances = Instances(
        (32, 32),  # network size: half of the original
        gt_boxes=Boxes(torch.tensor([[8, 8, 24, 24.0], [0, 0, 4, 4]])),
        original_boxes=torch.tensor([[16, 16, 48, 48.0], [0, 0, 8, 8]]),
        gt_classes=torch.tensor([1, 0]),
        annotation_ids=torch.tensor([70, 30]),
    )
    inputs = {"height": 64, "width": 64, "file_name": "", "image_id": 5}
    inputs |= {"instances": instances, "original_image": disc[0]}
    model = build(name)
    assert not model.needs_image
    proxy = model([inputs])[0]["proxy"]
    assert proxy.image_size == (64, 64)
    assert proxy.annotation_ids.tolist() == [70, 30] and proxy.gt_classes.tolist() == [1, 0]
    assert proxy.pred_masks.shape == (2, 64, 64) and proxy.pred_masks.dtype == torch.bool
    assert torch.equal(proxy.gt_boxes.tensor, instances.original_boxes)
    assert proxy.scores.tolist() == [1, 1]
    with pytest.raises(ConfigError, match=f"{name} has nothing to train"):
        model.train()([inputs])


def test_a_missing_crf_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(ConfigError, match="needs pydensecrf"):
        build("BoxCRF")


@needs_crf
def test_centre_weight_decides_where_the_pixels_say_nothing():
    flat = np.full((64, 64, 3), 90, dtype=np.uint8)
    opts = ["MODEL.BOX_CRF.PRIOR", 0.5, "MODEL.BOX_CRF.BILATERAL_WEIGHT", 0.0]
    made = refine("BoxCRF", flat, [BOX], *opts, "MODEL.BOX_CRF.CENTRE_WEIGHT", 40.0)
    y, x = (np.mgrid[:64, :64] + 0.5 - 32) / 16
    assert overlap(decode_mask(made.masks[0]), y**2 + x**2 <= 2 / 3) > 0.95


@pytest.mark.parametrize(
    ("name", "key", "value", "expected"),
    [
        ("GrabCut", "GRABCUT.ITERATIONS", -1, "at least 1"),
        ("GrabCut", "GRABCUT.WINDOW", 1.0, "above 1"),
        ("GrabCut", "GRABCUT.BOX_SIDE", -1.0, "in .0, 1024"),
        ("GrabCut", "GRABCUT.MIN_COVERAGE", 1.0, "below 1"),
        pytest.param("BoxCRF", "BOX_CRF.PRIOR", 1.0, "below 1", marks=needs_crf),
        pytest.param("BoxCRF", "BOX_CRF.CENTRE_WEIGHT", -0.5, "in .0, 100", marks=needs_crf),
        pytest.param("BoxCRF", "BOX_CRF.THRESHOLD", 1.0, "below 1", marks=needs_crf),
        pytest.param("BoxCRF", "BOX_CRF.WINDOW", 0.5, "above 1", marks=needs_crf),
    ],
)
def test_a_value_out_of_its_range_is_named(name, key, value, expected):
    with pytest.raises(ConfigError, match=f"MODEL.{key}: found {value}, expected .*{expected}"):
        build(name, f"MODEL.{key}", value)

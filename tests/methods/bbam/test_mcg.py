import numpy as np
import pytest
import scipy.io

from tests.golden.reference import refine_single
from wsis.errors import DataError
from wsis.methods.bbam.mcg import (
    SegmentProposals,
    keep_touching,
    load_mcg,
    refine_box,
    refine_pair,
    score_proposals,
)
from wsis.methods.bbam.top_crf import cut_to

SHAPE = (60, 80)
BOX = (slice(10, 50), slice(10, 60))
ROWS, COLUMNS = np.indices(SHAPE) // 10
TILES = ROWS * 8 + COLUMNS + 1
"""Square superpixels, 8 to a row, labels from 1."""


def proposals(*members):
    return SegmentProposals.from_lists(TILES, [np.array(m, dtype=np.uint16) for m in members])


def union(*labels):
    return np.isin(TILES, labels)


def test_a_proposal_with_a_superpixel_outside_the_box_is_dropped():
    given = proposals([10, 11], [10, 9], [22], [9, 10, 11, 12], [46], [])
    assert keep_touching(given, BOX).tolist() == [True, False, True, False, False, True]
    one_pixel = (slice(10, 50), slice(9, 60))
    assert keep_touching(given, one_pixel).tolist() == [True, True, True, True, False, True]


def test_scores_count_pixels():
    mask = union(10, 11, 12, 18) & (np.indices(SHAPE)[0] < 25)  # 350 pixels
    scores = score_proposals(proposals([10, 11], [10, 9], []), mask, BOX)
    np.testing.assert_allclose(scores.iou, [200 / 350, 100 / 450, 0])
    assert scores.in_box.tolist() == scores.in_mask.tolist() == [True, False, False]


@pytest.mark.parametrize(("missing", "inside"), [(5, False), (4, True)])
def test_inside_means_more_than_95_percent(missing, inside):
    mask = union(10)
    mask[10, 10 : 10 + missing] = False
    assert score_proposals(proposals([10]), mask, BOX).in_mask.tolist() == [inside]


def test_best_proposal_and_all_inside_the_mask():
    given = proposals([19, 28], [20], [19, 20, 21], [21], [27], [9, 10])
    first, second = refine_pair(given, union(19, 20), union(19, 20, 21, 27), BOX)
    # of the foreground: best [19, 20, 21] with IoU 2/3, inside [20]
    np.testing.assert_array_equal(first, union(19, 20, 21))
    np.testing.assert_array_equal(second, union(19, 20, 21, 27))
    np.testing.assert_array_equal(refine_single(given, union(20), BOX), union(20))
    # the first of equally good ones
    equal = proposals([19, 20], [20, 21])
    np.testing.assert_array_equal(refine_single(equal, union(20), BOX), union(19, 20))


@pytest.mark.parametrize("members", [[], [[9]], [[46]]])
def test_without_a_proposal_the_masks_stay(members):
    masks, given = (union(19), union(19, 20)), proposals(*members)
    found = refine_pair(given, *masks, BOX)
    assert found[0] is masks[0] and found[1] is masks[1]
    assert refine_single(given, masks[0], BOX) is masks[0]


def test_a_refined_region_takes_in_an_unchanged_foreground():
    given = union(36)
    first, second = refine_pair(proposals([20]), given, union(20), BOX)
    assert first is given
    np.testing.assert_array_equal(second, union(20, 36))


def test_foreground_in_region_in_box_wherever_both_changed():
    rng, changed = np.random.default_rng(0), 0
    for _ in range(60):
        given = proposals(*(rng.choice(np.arange(1, 49), rng.integers(1, 6)) for _ in range(30)))
        corner = rng.integers(0, 20, 2)
        box = (slice(corner[0], corner[0] + 36), slice(corner[1], corner[1] + 44))
        masks = rng.random((2, *SHAPE)) < 0.5
        first, second = refine_pair(given, *masks, box)
        if np.array_equal(first, masks[0]) or np.array_equal(second, masks[1]):
            continue
        changed += 1
        assert not (first & ~second).any() and not (second & ~cut_to(second, box)).any()
    assert changed > 10


def test_small_boxes_keep_their_masks():
    masks, given = (union(19), union(19, 20)), proposals([20, 21])
    found = refine_box(given, *masks, (slice(10, 42), slice(20, 51)))
    assert found[0] is masks[0] and found[1] is masks[1]
    assert refine_box(given, *masks, (slice(10, 42), slice(20, 52)))[1] is not masks[1]


def save_mat(path, superpixels, members=(), **options):
    """As MCG writes them: a cell array with one (1, n) array in a (1, 1) cell per proposal."""
    labels = np.empty((len(members), 1), dtype=object)
    for i, member in enumerate(members):
        labels[i, 0] = np.array([member], np.uint16)
    scipy.io.savemat(path, {"superpixels": superpixels, "labels": labels}, **options)
    return path


def test_files_are_read(tmp_path):
    found = load_mcg(save_mat(tmp_path / "a.mat", TILES.astype(np.uint16), [[3, 4], [48]]))
    np.testing.assert_array_equal(found.superpixels, TILES)
    assert [row.nonzero()[0].tolist() for row in found.members] == [[3, 4], [48]]


def test_bad_and_damaged_files_are_named(tmp_path):
    scipy.io.savemat(tmp_path / "other.mat", {"x": 1})
    (tmp_path / "text.mat").write_text("hello")
    save_mat(tmp_path / "beyond.mat", TILES, [[49]])
    save_mat(tmp_path / "huge.mat", TILES * 10**6)
    save_mat(tmp_path / "negative.mat", -TILES)
    for name in ("other", "text", "beyond", "huge", "negative", "none"):
        with pytest.raises(DataError, match=f"{name}.mat"):
            load_mcg(tmp_path / f"{name}.mat")
    path = save_mat(tmp_path / "a.mat", TILES, do_compression=True)
    whole = path.read_bytes()
    garbled = whole[:150] + bytes(10) + whole[160:]
    for damaged in (b"", whole[:100], whole[: len(whole) // 2], garbled):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="a.mat: cannot be read, expected an MCG file"):
            load_mcg(path)

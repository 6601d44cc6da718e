import numpy as np
import pytest
import scipy.io

from wsis.errors import DataError
from wsis.methods.bbam.mcg import (
    SegmentProposals,
    keep_touching,
    load_mcg,
    refine_box,
    refine_pair,
    refine_single,
    score_proposals,
)

SHAPE = (60, 80)
BOX = (slice(10, 50), slice(10, 60))


def tiles(size=10):
    """Square superpixels, 8 to a row, labels from 1."""
    rows, columns = np.indices(SHAPE) // size
    return rows * (SHAPE[1] // size) + columns + 1


def proposals(*members):
    return SegmentProposals.from_lists(tiles(), [np.array(m, dtype=np.uint16) for m in members])


def union(*labels):
    return np.isin(tiles(), labels)


def test_a_proposal_with_a_superpixel_outside_the_box_is_dropped():
    given = proposals([10, 11], [10, 9], [22], [9, 10, 11, 12], [46], [])
    assert keep_touching(given, BOX).tolist() == [True, False, True, False, False, True]
    one_pixel = (slice(10, 50), slice(9, 60))
    assert keep_touching(given, one_pixel).tolist() == [True, True, True, True, False, True]


def test_scores_count_pixels():
    given = proposals([10, 11], [10, 9], [])
    mask = union(10, 11, 12, 18) & (np.indices(SHAPE)[0] < 25)  # 350 pixels
    scores = score_proposals(given, mask, BOX)
    np.testing.assert_allclose(scores.iou, [200 / 350, 100 / 450, 0])
    assert scores.in_box.tolist() == [True, False, False]
    assert scores.in_mask.tolist() == [True, False, False]


@pytest.mark.parametrize(("missing", "inside"), [(5, False), (4, True)])
def test_inside_means_more_than_95_percent(missing, inside):
    mask = union(10)
    mask[10, 10 : 10 + missing] = False
    assert score_proposals(proposals([10]), mask, BOX).in_mask.tolist() == [inside]


def test_best_proposal_and_all_inside_the_mask():
    foreground, region = union(19, 20), union(19, 20, 21, 27)
    given = proposals([19, 28], [20], [19, 20, 21], [21], [27], [9, 10])
    first, second = refine_pair(given, foreground, region, BOX)
    # of the foreground: best [19, 20, 21] with IoU 2/3, inside [20]
    np.testing.assert_array_equal(first.mask, union(19, 20, 21))
    np.testing.assert_array_equal(second.mask, union(19, 20, 21, 27))
    assert not first.unchanged and not second.unchanged
    alone = refine_single(given, union(20), BOX)
    np.testing.assert_array_equal(alone.mask, union(20))


def test_the_first_of_equally_good_proposals_wins():
    given = proposals([19, 20], [20, 21])
    np.testing.assert_array_equal(refine_single(given, union(20), BOX).mask, union(19, 20))


def test_without_a_proposal_the_masks_stay():
    foreground, region = union(19), union(19, 20)
    for given in (proposals(), proposals([9]), proposals([46])):
        pair = refine_pair(given, foreground, region, BOX)
        assert all(refined.unchanged for refined in pair)
        assert refine_single(given, foreground, BOX).unchanged
        np.testing.assert_array_equal(pair[0].mask, foreground)
        np.testing.assert_array_equal(pair[1].mask, region)


def test_a_refined_region_takes_in_an_unchanged_foreground():
    first, second = refine_pair(proposals([20]), union(36), union(20), BOX)
    assert first.unchanged and not second.unchanged
    np.testing.assert_array_equal(second.mask, union(20, 36))


def test_foreground_in_region_in_box_wherever_both_changed():
    rng = np.random.default_rng(0)
    changed = 0
    for _ in range(60):
        members = [rng.choice(np.arange(1, 49), rng.integers(1, 6)) for _ in range(30)]
        given = SegmentProposals.from_lists(tiles(), members)
        corner = rng.integers(0, 20, 2)
        box = (slice(corner[0], corner[0] + 36), slice(corner[1], corner[1] + 44))
        masks = rng.random((2, *SHAPE)) < 0.5
        first, second = refine_pair(given, *masks, box)
        if first.unchanged or second.unchanged:
            continue
        changed += 1
        outside = np.ones(SHAPE, dtype=bool)
        outside[box] = False
        assert not (first.mask & ~second.mask).any() and not (second.mask & outside).any()
    assert changed > 10


def test_small_boxes_keep_their_masks():
    masks = union(19), union(19, 20)
    given = proposals([20, 21])
    small = (slice(10, 42), slice(20, 51))
    for found, mask in zip(refine_box(given, *masks, small), masks, strict=True):
        assert found is mask
    larger = (slice(10, 42), slice(20, 52))
    assert refine_box(given, *masks, larger)[1] is not masks[1]


def save_mat(path, superpixels, members):
    """As MCG writes them: a cell array with one (1, n) array in a (1, 1) cell per proposal."""
    labels = np.empty((len(members), 1), dtype=object)
    for i, member in enumerate(members):
        labels[i, 0] = member.reshape(1, -1)
    scipy.io.savemat(path, {"superpixels": superpixels, "labels": labels})
    return path


def test_files_are_read(tmp_path):
    members = [np.array([3, 4], np.uint16), np.array([48], np.uint16)]
    found = load_mcg(save_mat(tmp_path / "a.mat", tiles().astype(np.uint16), members))
    np.testing.assert_array_equal(found.superpixels, tiles())
    assert [row.nonzero()[0].tolist() for row in found.members] == [[3, 4], [48]]


def test_bad_files_are_named(tmp_path):
    other = tmp_path / "other.mat"
    scipy.io.savemat(other, {"x": 1})
    text = tmp_path / "text.mat"
    text.write_text("hello")
    beyond = save_mat(tmp_path / "beyond.mat", tiles(), [np.array([49])])
    huge = save_mat(tmp_path / "huge.mat", tiles() * 10**6, [])
    negative = save_mat(tmp_path / "negative.mat", -tiles(), [])
    for path in (other, text, beyond, huge, negative, tmp_path / "none.mat"):
        with pytest.raises(DataError, match=path.name):
            load_mcg(path)


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "a.mat"
    content = {"superpixels": tiles(), "labels": np.empty((0, 1), dtype=object)}
    scipy.io.savemat(path, content, do_compression=True)
    whole = path.read_bytes()
    garbled = bytearray(whole)
    garbled[150:160] = bytes(10)
    for damaged in (b"", whole[:100], whole[: len(whole) // 2], bytes(garbled)):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="a.mat: cannot be read, expected an MCG file"):
            load_mcg(path)

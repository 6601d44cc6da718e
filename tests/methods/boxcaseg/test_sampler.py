import itertools

import numpy as np
import pytest

from wsis.errors import ConfigError
from wsis.methods.boxcaseg.sampler import WINDOW, EpochSampler, grouped_order, overlapping


def ratio(**changes):
    """1200 boxes, three an image, and 95 salient images."""
    keys = {"images": np.repeat(np.arange(400), 3), "num_salient": 95, "batch_size": 32}
    return EpochSampler(**keys | {"weak_share": 0.6875} | changes)


# a fixed share


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_every_global_batch_holds_ten_salient_images(processes):
    batches = ratio(processes=processes).epoch(0)
    assert batches.shape == (9, 32)  # 95 // 10 batches: one pass over the salient images
    assert ((batches >= 1200).sum(axis=1) == 10).all()
    assert len(np.unique(batches)) == batches.size
    assert batches.min() >= 0 and batches.max() < 1295
    # disjoint processes share both kinds: 10 of 32 for four processes of 8
    counts = {int(n) for r in range(processes) for n in (batches[:, r::processes] >= 1200).sum(1)}
    assert counts == {1: {10}, 2: {5}, 4: {2, 3}}[processes]


def test_same_epoch_again_and_another_one():
    first, again, later, other = (
        ratio(seed=seed).epoch(number) for seed, number in ((3, 5), (3, 5), (3, 6), (4, 5))
    )
    np.testing.assert_array_equal(first, again)
    assert (first != later).any() and (first != other).any()


def test_kinds_are_mixed_inside_a_batch():
    batches = ratio(processes=2, num_salient=950).epoch(0) >= 1200
    assert (batches.mean(axis=0) > 0).all() and (batches.mean(axis=0) < 1).all()


@pytest.mark.parametrize("boxes", [1, 7, 60])
def test_few_boxes_start_again(boxes):
    batches = ratio(images=np.zeros(boxes, dtype=np.int64)).epoch(0)
    weak = batches[batches < boxes]
    assert ((batches >= boxes).sum(axis=1) == 10).all()
    counts = np.bincount(weak, minlength=boxes)
    assert len(weak) == 9 * 22 and counts.max() - counts.min() <= 1


@pytest.mark.parametrize(
    ("changes", "batches", "salient"),
    [
        ({"num_salient": 3}, 1, 10),  # few salient images still make a batch
        ({"num_salient": 0}, 37, 0),  # without any the share means nothing
    ],
)
def test_few_salient_images(changes, batches, salient):
    found = ratio(**changes).epoch(0)
    assert found.shape == (batches, 32) and (found >= 1200).sum() == salient


def test_over_the_epochs_every_box_comes_equally_often():
    sampler = ratio(num_salient=300)
    counts = sum(np.bincount(sampler.epoch(e).ravel(), minlength=1500) for e in range(60))
    # 660 of 1200 boxes an epoch: 33 times of 60 on average, deviation 3.9 for whole images
    assert abs(counts[:1200].mean() - 33) < 0.1
    assert counts[:1200].min() > 10 and counts[:1200].max() < 55
    assert (counts[1200:] == 60).all()
    # a share is rounded down, but not by float noise, 28.999999999999996
    weak = [
        ratio(batch_size=n, weak_share=share).weak_per_batch
        for n, share in ((32, 0.6875), (100, 0.29))
    ]
    assert weak == [22, 29]


# no fixed share


@pytest.mark.parametrize("processes", [1, 2])
def test_everything_once_but_for_a_rest_and_too_few_again(processes):
    batches = ratio(weak_share=0.0, processes=processes).epoch(2)
    assert batches.shape == (1295 // 32, 32)
    assert len(np.unique(batches)) == batches.size
    share = (batches >= 1200).mean(axis=1)
    assert share.std() > 0.02 and abs(share.mean() - 95 / 1295) < 0.02
    batches = ratio(images=np.arange(3), num_salient=2, weak_share=0.0).epoch(0)
    counts = np.bincount(batches.ravel())
    assert batches.shape == (1, 32) and len(counts) == 5 and set(counts) == {6, 7}


def test_overlapped_boxes_are_dropped_anew_in_each_epoch():
    keys = {"weak_share": 0.0, "num_salient": 0, "drop": 0.75, "batch_size": 1}
    sampler = ratio(overlapped=np.arange(1200) % 2 == 0, **keys)
    epochs = [np.bincount(sampler.epoch(e).ravel(), minlength=1200) for e in range(8)]
    for counts in epochs:
        assert counts[1::2].min() == 1 and abs(counts[0::2].mean() - 0.25) < 0.08
    assert (np.sum(epochs, axis=0)[0::2] > 0).mean() > 0.8
    everything = ratio(overlapped=np.ones(1200, dtype=bool), drop=1.0).epoch(0)
    assert (everything < 1200).any()


# order


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_order_is_a_permutation_that_keeps_images_together(processes):
    groups = np.repeat(np.arange(1000), np.arange(1000) % 5)
    order = grouped_order(groups, np.random.default_rng(0), processes)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(groups)))
    places = [np.flatnonzero(groups[order] == group) for group in range(1000)]
    split = sum(len(set(place % processes)) > 1 for place in places)
    far = sum(len(set(place // (processes * WINDOW))) > 1 for place in places)
    # only at the edges of windows and parts
    assert split <= processes * (len(groups) / WINDOW / processes + 1)
    assert far <= len(groups) / WINDOW / processes + 1


def test_order_is_mixed():
    groups = np.repeat(np.arange(500), 4)
    order = grouped_order(groups, np.random.default_rng(0))
    assert (groups[order][1:] == groups[order][:-1]).mean() < 3 / WINDOW * 2
    assert abs(np.corrcoef(order, np.arange(2000))[0, 1]) < 0.15


MIXED = {"weak_share": 0.0, "overlapped": np.ones(1200, dtype=bool), "drop": 0.5}


@pytest.mark.parametrize(
    ("changes", "start"),
    [*(({}, start) for start in (0, 4, 9, 13, 18)), (MIXED, 30)],
)
def test_epochs_go_on_where_they_are_told_to(changes, start):
    sampler = ratio(**changes)
    whole = np.concatenate([sampler.epoch(number) for number in range(3)])
    parts = itertools.takewhile(lambda part: part[0] < 3, sampler.epochs(start))
    np.testing.assert_array_equal(np.concatenate([p[2] for p in parts]), whole[start:])


def test_epochs_that_are_left_out_are_not_drawn(monkeypatch):
    number, first, _ = next(ratio().epochs(13))
    assert (number, first) == (1, 4)
    drawn, real = [], EpochSampler.epoch
    monkeypatch.setattr(EpochSampler, "epoch", lambda s, n: drawn.append(n) or real(s, n))
    next(ratio().epochs(9 * 150 + 2))
    assert drawn == [150]


# input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"processes": 3}, "found 32, expected a multiple of the 3 processes"),
        ({"batch_size": 1}, "found 1, expected more: .*WEAK_SHARE 0.6875"),
    ],
)
def test_batch_that_cannot_be_dealt(changes, message):
    with pytest.raises(ConfigError, match=message):
        ratio(**changes)
    ratio(batch_size=1, num_salient=0)


def test_overlap_is_strict_and_truncates():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 20.9], [50.9, 50, 60, 60], [50, 50, 60.2, 60]])
    np.testing.assert_array_equal(overlapping(boxes, 0.5), [False, False, True, True])
    np.testing.assert_array_equal(overlapping(boxes, 0.49), [True] * 4)
    assert overlapping(boxes[:1], 0.0).tolist() == [False]

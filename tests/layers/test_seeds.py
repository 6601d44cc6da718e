from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.masks import needs_crf
from wsis.layers.seeds import (
    ConfidentParams,
    affinity_labels,
    confident_labels,
    full_sum,
    fused,
    label_map,
    normalised,
    power_background,
    strided_sum,
)
from wsis.structures.pseudo_labels import IGNORE


def test_a_map_of_zeros_stays_one() -> None:
    maps = torch.tensor([[[0.0, 0], [0, 0]], [[2, 4], [0, 1]]])
    assert normalised(maps)[0].eq(0).all()
    torch.testing.assert_close(normalised(maps)[1], maps[1] / 4, atol=1e-5, rtol=0)
    torch.testing.assert_close(fused(maps, 7 * maps), normalised(maps), atol=1e-4, rtol=0)
    assert torch.equal(fused(maps), normalised(maps))


@pytest.mark.parametrize(("height", "width"), [(70, 93), (16, 16), (1, 1), (33, 7)])
def test_grids_are_rounded_up_and_cut(height: int, width: int) -> None:
    maps = [torch.ones(3, 5, 6), torch.ones(3, 2, 3)]
    full, strided = full_sum(maps, height, width), strided_sum(maps, height, width)
    assert full.shape[1:] == (height, width)
    assert strided.shape[1:] == (-(-height // 4), -(-width // 4))
    for values in (full, strided):
        torch.testing.assert_close(values, torch.full_like(values, 2))


def test_background_wins_its_ties_and_the_earlier_map_the_others() -> None:
    maps = torch.tensor([[[0.2, 0.3, 0.6, 0.1]], [[0.1, 0.3, 0.6, 0.7]]])
    assert label_map(maps, [3, 9], 0.3).tolist() == [[0, 0, 3, 9]]
    assert label_map(maps, [3, 9], torch.tensor([[[0.1, 0.4, 0.0, 0.7]]])).tolist() == [
        [3, 0, 3, 0]
    ]
    assert label_map(torch.zeros(0, 2, 3), [], 0.3).tolist() == [[0] * 3] * 2
    torch.testing.assert_close(
        power_background(maps, 2.0)[0, 0], torch.tensor([0.64, 0.49, 0.16, 0.09])
    )


@needs_crf
def test_sure_labels_of_a_square() -> None:
    image = np.full((40, 40, 3), 30, dtype=np.uint8)
    image[10:30, 10:30] = 220
    maps = torch.full((1, 40, 40), 0.05)
    maps[0, 10:30, 10:30], maps[0, 12:28, 2:9] = 0.9, 0.22
    label = confident_labels(image, maps, [4], ConfidentParams())
    assert set(np.unique(label)) <= {0, 4, IGNORE}
    assert (label[11:29, 11:29] == 4).all() and (label[:8] == 0).all()
    doubt = confident_labels(image, maps, [4], ConfidentParams(foreground=0.95))
    assert (doubt[11:29, 11:29] == IGNORE).all()
    assert not confident_labels(image, maps[:0], [], ConfidentParams()).any()


def test_a_strong_background_has_the_last_word_and_padding_none() -> None:
    low = torch.tensor([[[0.2, 0.6, 0.2, 0.2, 0]], [[0.8, 0.4, 0.8, 0.1, 0]], [[0, 0, 0, 0.7, 0]]])
    high = torch.tensor([[[0.3, 0.9, 0.6, 0.4, 0]], [[0.7, 0.1, 0.4, 0, 0]], [[0, 0, 0, 0.6, 0]]])
    assert affinity_labels(low, high, [3, 8]).tolist() == [[3, 0, 0, 8, IGNORE]]
    unsure = torch.tensor([[[0.6]], [[0.4]]]), torch.tensor([[[0.4]], [[0.6]]])
    assert affinity_labels(*unsure, [1]).tolist() == [[IGNORE]]

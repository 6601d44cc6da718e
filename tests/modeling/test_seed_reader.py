"""Score maps of several methods, on the grid that a stage wants."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wsis.modeling.seed_reader import SeedReader
from wsis.structures import ScoreMaps, Seed

HEIGHT, WIDTH = 22, 30
SEED = Seed(image_id=1, file_name="a.png", height=HEIGHT, width=WIDTH)


def reader(*maps: ScoreMaps) -> SeedReader:
    def read(found: ScoreMaps):
        def of_record(record):
            assert record == {"file_name": "a.png", "height": HEIGHT, "width": WIDTH}
            return found

        return of_record

    return SeedReader(tuple(read(each) for each in maps))


def maps(classes: list[int], grid: tuple[int, int], stride: int, seed: int = 0) -> ScoreMaps:
    scores = np.random.default_rng(seed).random((len(classes), *grid), dtype=np.float32)
    return ScoreMaps(np.array(classes), scores, HEIGHT, WIDTH, stride)


@pytest.mark.parametrize(("grid", "stride"), [((HEIGHT, WIDTH), 1), ((6, 8), 4), ((5, 9), 0)])
def test_maps_come_on_any_grid(grid: tuple[int, int], stride: int) -> None:
    made = maps([2, 3], grid, stride)
    labels, pixels = reader(made)(SEED, 1)
    assert labels == [2, 3] and pixels.shape == (2, HEIGHT, WIDTH)
    largest = made.enlarged().amax(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(pixels, made.enlarged() / largest, atol=1e-4, rtol=0)
    labels, cells = reader(made)(SEED, 4)
    assert labels == [2, 3] and cells.shape == (2, 6, 8)
    if stride == 4:
        expected = torch.from_numpy(made.scores)
    else:  # the last row of cells has two rows of pixels, the last column two columns
        expected = torch.zeros(2, 6, 8)
        for y in range(6):
            for x in range(8):
                own = made.enlarged()[:, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
                expected[:, y, x] = own.mean(dim=(1, 2))
    expected = expected / expected.amax(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(cells, expected, atol=1e-4, rtol=0)


def test_classes_of_all_maps_count_and_background_does_not() -> None:
    first, second = maps([0, 2, 5], (6, 8), 4), maps([5, 9], (6, 8), 4, seed=1)
    labels, cells = reader(first, second)(SEED, 4)
    assert labels == [2, 5, 9]
    for row, alone in ((0, first.scores[1]), (2, second.scores[1])):
        expected = torch.from_numpy(alone / alone.max())
        torch.testing.assert_close(cells[row], expected, atol=1e-4, rtol=0)
    both = torch.from_numpy(first.scores[2] / first.scores[2].max())
    both = both + torch.from_numpy(second.scores[0] / second.scores[0].max())
    torch.testing.assert_close(cells[1], both / both.max(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("stride", [1, 4])
def test_an_image_without_a_class(stride: int) -> None:
    labels, cells = reader(ScoreMaps.of_nothing(HEIGHT, WIDTH))(SEED, stride)
    assert labels == [] and cells.shape == (0, -(-HEIGHT // stride), -(-WIDTH // stride))

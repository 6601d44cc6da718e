from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from wsis.methods.bbam.pictures import (
    BOX_COLOURS,
    CLEAN,
    MAP_COLOURS,
    PERTURBED,
    PROPOSAL,
    attribution_overlay,
    draw_box,
    progress_frame,
    write_gif,
    write_picture,
)

IMAGE = np.full((40, 60, 3), 100, dtype=np.uint8)


def test_overlay_of_nothing_is_the_image_and_its_faded_grey():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    picture = attribution_overlay(image, [], [])
    assert picture.shape == (20, 60, 3) and picture.dtype == np.uint8
    assert np.array_equal(picture[:, :30], image)
    grey = picture[:, 30:]
    assert (grey == grey[:, :, :1]).all()
    assert grey.min() >= 0.8 * 255 - 1
    light = image.astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(grey[:, :, 0] - (0.2 * light + 0.8 * 255)).max() <= 0.5


@pytest.mark.parametrize(("value", "opacity"), [(0.0, 0.0), (0.25, 0.35), (0.5, 0.7), (1.0, 1.0)])
def test_opacity_and_colour_follow_the_map(value, opacity):
    ground = 0.2 * 100 + 0.8 * 255
    values = np.full((4, 6), value)
    values[0, 0] = 2.0  # the maximum, which becomes 1
    values[2:, 3:] = 2 * value
    right = attribution_overlay(IMAGE, [], [values])[:, 60:]
    colour = 255 + value * (MAP_COLOURS[0] - 255)
    expected = ground * (1 - opacity) + colour * opacity
    assert np.abs(right[-1, -1] - expected).max() <= 1
    assert np.abs(right[0, 0] - MAP_COLOURS[0]).max() <= 1


def test_outermost_cells_lie_on_outermost_pixels():
    values = np.zeros((3, 3))
    values[2, 2] = 1
    right = attribution_overlay(IMAGE, [], [values])[:, 60:].astype(int)
    distance = np.abs(right - MAP_COLOURS[0]).sum(2)
    assert np.unravel_index(distance.argmin(), distance.shape) == (39, 59)
    assert distance.min() <= 2


def test_a_map_of_zeros_shows_nothing():
    assert np.array_equal(
        attribution_overlay(IMAGE, [], [np.zeros((3, 3))]), attribution_overlay(IMAGE, [], [])
    )


def test_instances_take_turns_with_nine_colours():
    boxes = [[5, 5, 20, 20], [30, 10, 50, 30]]
    left = attribution_overlay(IMAGE, boxes, [], line_width=1)[:, :60]
    assert np.abs(left[5, 5] - BOX_COLOURS[0]).max() <= 0.5
    assert np.abs(left[29, 49] - BOX_COLOURS[1]).max() <= 0.5
    assert (left[12, 12] == 100).all() and (left[20, 20] == 100).all()
    assert len(MAP_COLOURS) == len(BOX_COLOURS) == 9
    last = [np.zeros((2, 2))] * 9 + [np.ones((2, 2))]
    tenth = attribution_overlay(IMAGE, [], last)[:, 60:]
    assert np.abs(tenth - MAP_COLOURS[0]).max() <= 1


def test_a_box_outside_of_the_image_is_drawn_at_its_edge():
    image = IMAGE.copy()
    draw_box(image, [-5, 3, 80, 70], (255, 0, 0))
    assert (image[3, :] == (255, 0, 0)).all() and (image[39, :] == (255, 0, 0)).all()


def test_progress_frame():
    frame = progress_frame(IMAGE, [1, 1, 9, 9], [20, 20, 30, 30], [40, 5, 55, 25])
    assert frame.shape == IMAGE.shape
    for (y, x), colour in (((1, 1), PROPOSAL), ((20, 20), CLEAN), ((5, 40), PERTURBED)):
        assert tuple(frame[y, x]) == colour
    small = progress_frame(IMAGE, [1, 1, 9, 9], [20, 20, 30, 30], [40, 5, 55, 25], longest=30)
    assert small.shape == (20, 30, 3)
    assert tuple(small[10, 10]) == CLEAN
    assert (IMAGE == 100).all()


def test_files(tmp_path):
    write_picture(tmp_path / "new" / "a.png", IMAGE)
    with Image.open(tmp_path / "new" / "a.png") as image:
        assert np.array_equal(np.asarray(image), IMAGE)
    frames = [np.full((8, 9, 3), v, dtype=np.uint8) for v in (0, 120, 255)]
    write_gif(tmp_path / "a.gif", frames, seconds=0.2)
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.size, gif.info["loop"]) == (3, (9, 8), 0)
        durations = []
        for i, frame in enumerate(frames):
            gif.seek(i)
            durations.append(gif.info["duration"])
            assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - frame).max() < 8
    assert durations == [200, 200, 2000]
    write_gif(tmp_path / "one.gif", frames[:1])
    assert (tmp_path / "one.gif").exists()

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.report.pages import SIZE, write_files
from wsis.data.source import load_source
from wsis.errors import DataError
from wsis.report.strip import (
    LONGEST,
    TITLES,
    StripMaker,
    difference_picture,
    heat_picture,
    label_picture,
    strip_columns,
    write_strips,
)
from wsis.structures import ScoreMaps
from wsis.structures.pseudo_labels import write_label

GREY = np.full((12, 16, 3), 100, dtype=np.uint8)


def test_labels_have_vocs_colours_and_255_is_hatched() -> None:
    label = np.zeros((12, 16), dtype=np.uint8)
    label[:6, :8] = 1
    label[6:, 8:] = 255
    out = label_picture(GREY, label, opacity=1.0)
    assert (out[:6, :8] == (128, 0, 0)).all()
    assert (out[label == 0] == 100).all()
    hatched = (out[label == 255] == 255).all(axis=1)
    assert 0.2 < hatched.mean() < 0.5
    assert (out[label == 255][~hatched] == 100).all()


def test_only_what_differs_is_coloured() -> None:
    first, second = np.zeros((2, 12, 16), dtype=np.uint8)
    first[:4], second[2:8] = 2, 2
    out = difference_picture(GREY, first, second)
    assert (out[:2] == (0, 128, 0)).all() and (out[4:8] == 255).all()
    assert (out[2:4] == 128 + 25).all() and (out[8:] == 128 + 25).all()


def test_heat_rises_from_blue_to_yellow() -> None:
    low, high = heat_picture(np.array([[0.0, 1.0]]))[0].astype(int)
    assert low[2] > low[1] and high[0] > 200 and high[1] > 200 and high[2] < 100
    assert (heat_picture(np.array([[2.0]])) == heat_picture(np.array([[1.0]]))).all()


def test_a_strip_has_a_column_for_everything() -> None:
    labels = {name: np.full((12, 16), i, np.uint8) for i, name in enumerate(("a", "b", "c"))}
    maps = {"attention": np.ones((12, 16))}
    columns = strip_columns(GREY, [(1, 2, 9, 8)], labels, maps, height=24)
    assert list(columns) == ["image", "boxes", "attention", "a", "b", "disagreement", "c"]
    assert {picture.shape for picture in columns.values()} == {(24, 32, 3)}
    alone = strip_columns(GREY, [], {"a": labels["a"]}, height=5)
    assert [picture.shape for picture in alone.values()] == [(12, 16, 3)] * 3


def test_a_strip_of_classes_names_them_and_has_neither_boxes_nor_differences() -> None:
    grey, label = np.full((24, 40, 3), 100, np.uint8), np.full((24, 40), 255, np.uint8)
    label[:, 30:] = 2
    maps = {"cam": ScoreMaps([2], np.ones((1, 3, 5)), 24, 40, 8), "edges": np.zeros((24, 40))}
    labels = {"irn": label, "prediction": np.zeros((24, 40), np.uint8)}
    columns = strip_columns(grey, None, labels, maps, height=24, class_names=["cat", "dog"])
    assert list(columns) == ["image", "cam", "edges", "irn", "prediction"]
    chip = columns["cam"][1, 1]  # on the class's colour
    assert (chip == (51, 255, 51)).all() and (columns["irn"][1, 1] == chip).all()
    assert (columns["prediction"] == 100).all() and (columns["image"] == 100).all()


def test_a_large_image_is_made_smaller_with_all_that_belongs_to_it() -> None:
    image = np.full((1000, 4 * LONGEST, 3), 100, dtype=np.uint8)
    label = np.zeros((1000, 4 * LONGEST), dtype=np.uint8)
    label[:, LONGEST:] = 1
    columns = strip_columns(image, [(LONGEST, 0, 4 * LONGEST, 1000)], {"a": label}, {"m": label})
    assert {picture.shape for picture in columns.values()} == {(250, LONGEST, 3)}
    edge = LONGEST // 4
    assert (columns["a"][:, :edge] == 100).all() and (columns["a"][:, edge:] != 100).any(2).all()
    row = columns["boxes"][100]
    assert (row[:edge] == 100).all() and (row[edge] != 100).any()
    assert columns["m"][0, 0, 2] > columns["m"][0, -1, 2]  # blue, yellow


@pytest.fixture
def source(tmp_path):
    """Four images, each with a label in ``labels``."""
    write_files(tmp_path)
    for number in range(1, 5):
        write_label(tmp_path / "labels" / f"{number}.png", np.full((SIZE, SIZE), number, np.uint8))
    return load_source(tmp_path / "proxy.json", tmp_path)


def test_strips_of_some_images_or_all(source, tmp_path) -> None:
    folders = {"label": tmp_path / "labels"}
    some = write_strips(StripMaker(source, folders, {}), tmp_path / "some", 2)
    assert [path.name for path in some.paths] == ["1.png", "4.png"] and some.unreadable == []
    everything = write_strips(StripMaker(source, folders, {}), tmp_path / "all").paths
    assert [path.stem for path in everything] == ["1", "2", "3", "4"]
    with Image.open(everything[2]) as strip:
        assert strip.info[TITLES] == "image, boxes, label"


def test_an_unreadable_image_is_named_and_the_others_get_theirs(source, tmp_path) -> None:
    (tmp_path / "2.png").write_bytes(b"no image")
    written = write_strips(StripMaker(source, {"label": tmp_path / "labels"}, {}), tmp_path / "out")
    assert [path.stem for path in written.paths] == ["1", "3", "4"]
    assert len(written.unreadable) == 1 and "2.png: cannot be read" in written.unreadable[0]


def test_nothing_given_is_written_over(source, tmp_path) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    for output in (tmp_path, tmp_path / "labels"):
        with pytest.raises(DataError, match="1.png: the strip of image '1.png' would take"):
            write_strips(StripMaker(source, {"label": tmp_path / "labels"}, {}), output)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before


def test_what_is_wrong_is_found_before_the_first_strip(source, tmp_path) -> None:
    (tmp_path / "labels/4.png").unlink()
    with pytest.raises(DataError, match=r"4.png: cannot be read as a label map"):
        write_strips(StripMaker(source, {"label": tmp_path / "labels"}, {}), tmp_path / "out")
    with pytest.raises(DataError, match="gone: no such folder of label maps"):
        write_strips(StripMaker(source, {"label": tmp_path / "gone"}, {}), tmp_path / "out")
    source.images[1]["file_name"] = "1.jpg"
    with pytest.raises(DataError, match="images '1.png' and '1.jpg' would have the same strip"):
        write_strips(StripMaker(source, {}, {}), tmp_path / "out")
    assert not (tmp_path / "out").exists()

"""Class names on pictures in any script."""

import numpy as np
import pytest

from wsis.report import fonts
from wsis.report.overlay import overlay


def drawn(label):
    """What a label adds to a black picture."""
    black = np.zeros((40, 120, 3), dtype=np.uint8)
    return overlay(black, boxes=[[2, 20, 110, 38]], labels=[label])[:20]


@pytest.mark.parametrize("pair", ["äo", "бв", "عغ", "éñ", "αβ"])
def test_letters_can_be_told_apart(pair):
    first, second = (drawn(letter * 4) for letter in pair)
    assert (first != second).any()
    assert fonts.drawable_names([{"id": 7, "name": pair}]) == {7: pair}


def test_accents_in_two_code_points_are_drawn_as_one_letter():
    assert (drawn("Ku\u0308he") == drawn("K\u00fche")).all()


def test_a_number_stands_for_letters_that_no_font_has(monkeypatch):
    monkeypatch.setattr(fonts, "_letters_of", lambda path: frozenset(range(0x250)))
    fonts.font_for.cache_clear()
    categories = [{"id": 3, "name": "猫"}, {"id": 4, "name": "Kühe"}]
    assert fonts.drawable_names(categories) == {3: "#3", 4: "Kühe"}
    assert (drawn("猫") == drawn("?")).all()
    fonts.font_for.cache_clear()


def test_any_font_of_the_machine_may_have_the_letters(monkeypatch):
    dejavu = next(fonts._fonts())
    monkeypatch.setattr(fonts, "_fonts", lambda: iter(["no font", dejavu]))
    fonts.font_for.cache_clear()
    assert fonts.font_for("ж", 11).path == dejavu
    fonts.font_for.cache_clear()

"""The converter of boxes, run on a folder of images."""

import json

import pytest

from tests.data import formats_trees as trees
from tests.data.converters import SCRIPTS


@pytest.fixture
def root(tmp_path):
    trees.write_images(tmp_path / "images")
    return tmp_path


@pytest.fixture
def convert(root, tool):
    """``convert(form, input, words...)``: status, document or None, standard output, errors."""

    def run(form, source, *words, images=True):
        target = root / "out/boxes.json"
        target.unlink(missing_ok=True)
        given = ("--images", root / "images") if images else ()
        words = ("--from", form, "--input", source, *given, "--output", target, *words)
        status, out, err = tool(SCRIPTS / "prepare_boxes.py", *words)
        document = json.loads(target.read_text()) if target.exists() else None
        assert (status == 2) == (document is None)
        if status == 2:
            assert out == "" and len(err.splitlines()) == 1
            assert not (root / "out").exists() or not list((root / "out").iterdir())
        return status, document, out, err

    return run

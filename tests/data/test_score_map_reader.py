"""Score maps that one stage made, read by the next."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest

from tests.generating import edited, generate
from tests.noise import SIZE, make_cfg, write_data
from wsis.data.dicts import to_dicts
from wsis.data.registration import get_source, score_map_folders
from wsis.data.score_maps import open_score_maps, score_map_reader
from wsis.errors import ConfigError, DataError
from wsis.structures import ScoreMaps
from wsis.structures.score_maps import provenance_digest, write_score_maps

TAGS = {"MODEL__META_ARCHITECTURE": "NoiseTagTeacher"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Five images in ``data``, and ``out`` with their maps."""
    folder = tmp_path_factory.mktemp("finished")
    write_data(folder / "data", images=5)
    generate(make_cfg(folder / "data", folder / "out", **TAGS))
    return folder


@pytest.fixture
def place(finished, tmp_path):
    """Copies of both that a test may change."""
    return shutil.copytree(finished, tmp_path / "copy")


@pytest.fixture
def maps(place):
    return place / "out/score_maps/noise/m"


@pytest.fixture
def later(place, maps):
    """``later(**keys)``: the config of a later stage, which calls the maps ``cam``."""

    def make(**keys):
        entries = [["noise", "cam", str(maps)]]
        keys = {"DATASETS__CUSTOM_SCORE_MAPS": entries, **keys}
        return make_cfg(place / "data", place / "later", **keys)

    return make


def test_every_image_gets_its_maps(later, maps):
    cfg = later()
    assert score_map_folders(cfg, "noise") == {"cam": str(maps)}
    assert score_map_folders(cfg, "other") == {}
    read = pickle.loads(pickle.dumps(score_map_reader(cfg, "noise", "cam")))
    manifest = json.loads((maps.parent / "manifest.json").read_text())
    assert read.made_with == provenance_digest(manifest["wsis"])
    for record in to_dicts(get_source("noise", bad_box="skip"), "image"):
        found = read(record)
        assert found.classes.tolist() == [1 + tag for tag in record["image_labels"]]
        assert found.enlarged().shape == (len(found.classes), *SIZE)
        with np.load(maps / f"{record['image_id']}.npz") as file:
            np.testing.assert_array_equal(file["classes"], found.classes)


def rewrite(maps, *, size=SIZE, made_with=None):
    """Replaces the maps of image 3."""
    manifest = json.loads((maps.parent / "manifest.json").read_text())
    digest = made_with or provenance_digest(manifest["wsis"])
    write_score_maps(maps / "3.npz", ScoreMaps.of_nothing(*size), "3.png", digest)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda maps: (maps / "3.npz").unlink(), r"3\.npz: no such file of score maps"),
        (lambda maps: (maps / "3.npz").write_bytes(b"PK\3\4"), r"3\.npz: cannot be read as score"),
        (
            lambda maps: shutil.copy(maps / "2.npz", maps / "3.npz"),
            r"3\.npz: .* image '2\.png', exp",
        ),
        (lambda maps: rewrite(maps, size=(9, 9)), r"3\.npz: .* an image of 9x9 .* is 32x24"),
        (lambda maps: rewrite(maps, made_with="0" * 16), r"3\.npz: .*other weights"),
    ],
)
def test_a_file_that_does_not_belong_is_found_at_once_and_when_it_is_read(
    later, maps, spoil, message
):
    cfg = later()
    read, source = score_map_reader(cfg, "noise", "cam"), get_source("noise", bad_box="skip")
    read.check(source)
    spoil(maps)
    with pytest.raises(DataError, match=message):
        read.check(source)
    records = to_dicts(source, "image")
    with pytest.raises(DataError, match=message):
        [read(record) for record in records]


def test_maps_of_another_data_set_or_other_classes_are_found(place, later, maps):
    source = get_source("noise", bad_box="skip")
    with edited(place / "data") as document:
        document["annotations"][0]["bbox"][0] += 1
    other = shutil.copytree(place / "data", place / "other")
    entries = [["noise", str(other / "boxes.json"), str(other)]]
    cfg = later(DATASETS__CUSTOM=entries)
    with pytest.raises(
        DataError, match=r"manifest\.json: key 'source_sha256': .* another data set"
    ):
        score_map_reader(cfg, "noise", "cam")
    changed = get_source("noise", bad_box="skip")
    assert changed is not source
    names = changed.class_names
    open_score_maps(changed, maps, names, same_source=False).check(changed)
    with pytest.raises(DataError, match=r"key 'classes': found 3 \(background, a, b\), expected 2"):
        open_score_maps(changed, maps, ["a"], same_source=False)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], r"'noise' has no score maps 'cam', found none; add \['noise', 'cam', FOLDER\]"),
        ([["noise", "bas", "x"]], "has no score maps 'cam', found bas"),
        ([["noise", "cam", "nowhere"]], "nowhere: no such folder of score maps"),
        ([["noise", "cam", "."]], r"no manifest\.json beside this folder names it"),
        ([["noise", "cam"]], r"found \['noise', 'cam'\], expected \[dataset, map name, folder"),
        ([["noise", "cam", "a"], ["noise", "cam", "b"]], "'cam' stands for two folders of 'noise'"),
    ],
)
def test_a_wrong_key_is_told(later, entries, message):
    with pytest.raises(ConfigError, match=message):
        score_map_reader(later(DATASETS__CUSTOM_SCORE_MAPS=entries), "noise", "cam")


def test_a_folder_whose_run_is_unfinished_is_told(later, maps):
    (maps.parent / "manifest.json").unlink()
    with pytest.raises(ConfigError, match=r"one that tools/generate_proxy_masks\.py has finished"):
        score_map_reader(later(), "noise", "cam")

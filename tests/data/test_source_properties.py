"""Whatever stands in a JSON file, reading it ends in success or in one clear line."""

import copy
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.builders import coco
from wsis.data.dicts import to_dicts
from wsis.data.source import load_source
from wsis.engine.proxy_job import ProxyJob
from wsis.errors import WsisError
from wsis.evaluation.proxy_pairs import pair_masks
from wsis.structures.proxy_file import read_proxy_file

QUICK = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
ANY_TEXT = st.text(st.characters(), max_size=12)  # lone surrogates too
NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([0, -1, 10**19, 10**400, -(10**400), 1e308, math.nan, -math.inf, True])
)
SCALARS = st.none() | st.booleans() | NUMBERS | ANY_TEXT
KEYS = st.sampled_from(
    ["id", "image_id", "category_id", "bbox", "name", "file_name", "height", "segmentation"]
)
ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)
LISTS = ("images", "annotations", "categories")


def valid() -> dict[str, Any]:
    """A document with everything that the readers look at."""
    box = {"bbox": [1.5, 2, 3, 4], "iscrowd": 0}
    code = {"size": [8, 9], "counts": [10, 5, 57]}
    size = {"height": 8, "width": 9}
    return coco(
        {"id": 7, **box, "area": 12, "segmentation": code, "score": 0.5, "status": "ok"},
        {"id": 8, **box, "segmentation": [[1, 2, 3, 2, 3, 4]], "ignore_segmentation": code},
        images=[
            {"id": 1, "file_name": "a/1.png", **size, "image_labels": [9]},
            {"id": "b", "file_name": "2.png", **size},
        ],
        info={"wsis": {"version": "1", "method": "x", "config": {}}},
    )


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything inside a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, each in inner:
        found.append((*path, key))
        if isinstance(each, dict | list):
            found += places(each, (*path, key))
    return found


@st.composite
def spoilt(draw: Callable[..., Any]) -> dict[str, Any]:
    """A valid document with one to three things dropped, doubled, replaced or wrapped."""
    document = valid()
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(places(document)))
        node = document
        for key in path:
            node = node[key]
        how = draw(st.sampled_from(["drop", "double", "replace", "number", "wrap"]))
        if how == "drop":
            del node[last]
        elif how == "double" and isinstance(node, list):
            node.append(copy.deepcopy(node[last]))
        elif how == "wrap":
            node[last] = draw(st.sampled_from([[node[last]], {"id": node[last]}]))
        else:
            node[last] = draw(NUMBERS if how == "number" else ANY_JSON)
        if not places(document):
            break
    return document


def check(read: Callable[[], Any], path: Path) -> bool:
    """Reads; an error must be wsis's own, one line, not long, and name the file. Returns whether it was read."""
    try:
        read()
    except WsisError as error:
        text = str(error)
        assert "\n" not in text
        assert str(path) in text
        assert len(text) < 400 + len(str(path))
        return False
    return True


def true_masks(path: Path) -> None:
    """Reads the masks that generation would copy."""
    source = load_source(path, bad_box="skip")
    job = ProxyJob("a", source, path.parent, class_agnostic=False, keep_true_masks=True)
    job.check()
    for image in source.images:
        job.void(image["id"])


def read_all(path: Path, content: Any) -> bool:
    """Writes bytes, a text or a document, and reads it in every way."""
    if not isinstance(content, bytes):
        content = (content if isinstance(content, str) else json.dumps(content)).encode()
    path.write_bytes(content)
    reads = (
        lambda: to_dicts(load_source(path, bad_box="skip"), "image"),
        lambda: to_dicts(load_source(path, path.parent), "mask"),
        lambda: load_source(path, need_boxes=False),
        lambda: pair_masks(load_source(path, bad_box="skip")),
        lambda: true_masks(path),
        lambda: read_proxy_file(path),
    )
    done = [check(read, path) for read in reads]  # all of them, whatever the first ones say
    return all(done)


@pytest.fixture
def read(tmp_path):
    return partial(read_all, tmp_path / "a.json")


@QUICK
@given(document=ANY_JSON | st.fixed_dictionaries(dict.fromkeys(LISTS, st.lists(ANY_JSON))))
def test_any_json(read, document):
    read(json.dumps(document))


@QUICK
@given(document=spoilt())
def test_a_document_with_something_spoilt(read, document):
    read(document)


@QUICK
@given(content=st.binary() | st.text().map(str.encode))
def test_any_bytes(read, content):
    read(content)


@QUICK
@given(cut=st.integers(0, 700), byte=st.integers(0, 255))
def test_a_file_cut_and_changed(read, cut, byte):
    content = bytearray(json.dumps(valid()).encode())
    content[cut % len(content)] = byte
    read(bytes(content))
    assert not read(bytes(content[:cut])) or cut >= len(content)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"images":' * 100_000, "1" * 10_000])
def test_deep_and_long_documents(read, text):
    assert not read(text)


def test_what_is_spoilt_was_good(read):
    assert read(valid())

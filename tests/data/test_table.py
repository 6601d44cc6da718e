"""Annotations as columns are those of the file, and the rules that look at columns say what the others say."""

import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.builders import coco
from tests.data.test_source_properties import QUICK, read_all, spoilt, valid
from wsis.data import json_objects, table, table_builder
from wsis.data.source import load_source
from wsis.data.source_checks import document_problems
from wsis.data.table import AnnotationTable
from wsis.data.table_builder import TableBuilder, table_of
from wsis.data.tidy import tidy
from wsis.errors import DataError

PLAIN = {"id": 1, "image_id": 1, "category_id": 9, "bbox": [1, 2, 3.5, 4.0], "area": 14}
FORMS = [
    PLAIN,
    {**PLAIN, "bbox": [1.0, 2, 3, 4.25], "area": 14.0, "iscrowd": 0},
    {**PLAIN, "bbox": [-0.0, 1e-300, 1e300, 2**53 - 1], "iscrowd": 1},
    {"id": -(2**63), "image_id": "two", "category_id": 2**63 - 1},
    {**PLAIN, "segmentation": [[1, 2.5, 3, 4, 5, 6]], "score": 1, "status": "ok"},
    {
        **PLAIN,
        "segmentation": {"size": [2, 3], "counts": "06"},
        "score": 0.25,
        "deep": [{"a": None}],
    },
    *({**PLAIN, "id": value} for value in (1.0, True, "1", None, 2**63)),
    *({**PLAIN, "image_id": value} for value in (3, 1.0, True, None, [1])),
    *({**PLAIN, "bbox": value} for value in (None, [1, 2, 3], [1, 2, 3, True], [1, 2, 3, 10**400])),
    *({**PLAIN, "bbox": [1, 2, 3, value]} for value in (2**53 + 1, "4", math.inf)),
    *({**PLAIN, "area": value} for value in (None, "14", math.inf, False)),
    *({**PLAIN, "iscrowd": value} for value in (-1, 7, None, 0.0, True)),
    {"note": "nothing else"},
    {},
]


@pytest.fixture(params=[2, 4096])
def chunk(request, monkeypatch):
    """How many annotations are looked at together."""
    for module in (table, table_builder):
        monkeypatch.setattr(module, "CHUNK", request.param)


def text(annotations):
    """With types and the order of keys."""
    return json.dumps(list(annotations))


def made(annotations=FORMS):
    return table_of(annotations, [1, "two"])


@pytest.mark.usefixtures("chunk")
def test_whatever_form_an_annotation_has_it_comes_back():
    found = made()
    assert text(found) == text(FORMS) and found == FORMS and found != FORMS[:-1]
    assert len(found) == len(FORMS)
    assert text([found[1], found[-2], *found[2:9:3]]) == text([FORMS[1], FORMS[-2], *FORMS[2:9:3]])
    with pytest.raises(IndexError):
        found[len(FORMS)]
    regular = [FORMS[i] for i in np.flatnonzero(~found.is_odd)]
    assert [*FORMS[:6]] == regular[:6] and [a.get("iscrowd") for a in regular[6:]] == [
        None,
        None,
        -1,
        7,
    ]
    assert list(made([])) == []


def test_parts_of_a_table():
    found = made(FORMS[:6])
    assert text(found.of_image(1)) == text([a for a in FORMS[:6] if a["image_id"] == 1])
    assert text(found.of_image("two")) == text([FORMS[3]])
    with pytest.raises(KeyError):
        found.of_image(2)
    assert found.crowds.tolist() == [False, False, True, False, False, False]
    assert found.has("segmentation").tolist() == [False] * 4 + [True] * 2
    keep = np.array([True, False, False, True, False, True])
    rest = [FORMS[i] for i in (0, 3, 5)]
    assert text(found.take(keep)) == text(found.where(keep)) == text(rest)
    assert text(found.without_images({1})) == text([FORMS[3]])
    assert text(pickle.loads(pickle.dumps(found))) == text(FORMS[:6])


def test_ids_of_their_own():
    for ids, unique in (
        ([3, 5, 9], True),
        ([9, 3, 5], True),
        ([3, 5, 3], False),
        ([3, "5"], False),
    ):
        assert made([{**PLAIN, "id": each} for each in ids]).has_unique_ids == unique


@pytest.mark.usefixtures("chunk")
def test_a_builder_makes_room():
    builder = TableBuilder([1])
    builder.add([PLAIN, {**PLAIN, "iscrowd": 1}])
    builder.add([{}])
    assert text(builder.table()) == text([PLAIN, {**PLAIN, "iscrowd": 1}, {}])


def test_few_bytes_for_a_box():
    boxes = np.random.default_rng(0).uniform(1, 300, (5000, 4)).tolist()
    annotations = [
        {"id": 10**9 + i, "image_id": 1, "category_id": 9, "bbox": box, "area": 7.5, "iscrowd": 0}
        for i, box in enumerate(boxes)
    ]
    found = made(annotations)
    assert found == annotations
    assert found.nbytes < 60 * len(found)


def problems(document, annotations):
    listed = document_problems({**document, "annotations": annotations}, "a.json", "")
    return [(each.text, each.cause, each.where, each.bad_box, each.no_box) for each in listed]


@given(spoilt())
@QUICK
def test_the_rules_on_columns_say_what_the_rules_on_dictionaries_say(document):
    document, _ = tidy(document, "")
    found = document.get("annotations") if isinstance(document, dict) else None
    if isinstance(found, AnnotationTable):
        assert problems(document, found) == problems(document, list(found))


EDGES = [-12, -11.5, -3, 0, 9, 10, 11.5, 12, 1e308, math.inf]


@given(st.lists(st.tuples(*[st.sampled_from(EDGES)] * 4), min_size=1, max_size=6))
@QUICK
def test_a_box_is_vouched_for_if_and_only_if_nothing_is_wrong_with_it(boxes):
    document = coco(*({"bbox": list(box), "score": i / 4} for i, box in enumerate(boxes)))
    found, _ = tidy(document, "")
    wrong = {each[2][1] for each in problems(found, list(found["annotations"]))}
    vouched = found["annotations"].columns.vouched
    assert {i for i, each in enumerate(vouched) if not each} == wrong


def outcome(path):
    try:
        source = load_source(path, bad_box="skip")
    except DataError as error:
        return str(error)
    return text(source.annotations), text(source.images), source.sha256, source.remarks


TEXTS = {
    "not a number": '"score": NaN',
    "infinite": '"area": 1e999',
    "large": '"area": 123456789012345678901234567890',
    "a key twice": '"id": 5, "id": 6',
    "half a character": '"note": "\\ud800"',
    "no UTF-8": b'"note": "\xff"',
    "deep": '"deep": ' + "[" * 3000 + "]" * 3000,
    "many digits": '"area": ' + "1" * 5000,
    "a comma too many": '"area": 1,',
    "cut short": '"area": 1}',
    "an exponent": '"area": 1E1',
    "other kinds": '"bbox": [-0, -0.0, 1e0, 5]',
    "objects in an object": '"deep": [{"a": 1} , {"b": [{}, {}]}], "note": "}, {"',
    "a quote in a text": '"note": "},{\\"},{"',
    "two lists": '"a": 1}], "annotations": [{"deep": [{}, {}]',
}


@pytest.mark.parametrize("more", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("piece", [1, 200, 1 << 17])
def test_one_parser_reads_what_the_other_reads(tmp_path, monkeypatch, more, start, piece):
    monkeypatch.setattr(json_objects, "PIECE", piece)
    more = more if isinstance(more, bytes) else more.encode()
    whole = json.dumps(valid()).encode().replace(b'"score": 0.5', more)
    (tmp_path / "a.json").write_bytes(start + whole)
    with_msgspec = outcome(tmp_path / "a.json")
    monkeypatch.setattr(json_objects, "msgspec", None)
    assert with_msgspec == outcome(tmp_path / "a.json")


@given(spoilt())
@QUICK
def test_both_parsers_come_to_the_same_end(tmp_path, document):
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_objects, "PIECE", 40)
        found = outcome(tmp_path / "a.json")
        patch.setattr(json_objects, "msgspec", None)
        assert found == outcome(tmp_path / "a.json")


def test_without_msgspec_every_way_of_reading_works(tmp_path, monkeypatch):
    monkeypatch.setattr(json_objects, "msgspec", None)
    assert read_all(tmp_path / "a.json", valid())

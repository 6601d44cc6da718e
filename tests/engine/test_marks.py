"""A person's marks on a proxy-mask file: the file that comes of them, and marks that do not fit."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Callable

import numpy as np
import pytest

from tests.conftest import Ended
from tests.report.pages import SIZE, write_files
from wsis.data.dicts import to_dicts
from wsis.data.source import load_source
from wsis.structures.rle import decode_mask, encode_box, encode_mask, rle_area

NEW = np.zeros((SIZE, SIZE), dtype=bool)
NEW[20:30, 20:40] = True
OK, FALLBACK, EMPTY, CROWD, FAILED = 100, 102, 103, 104, 105
"""Annotation ids by their status in ``proxy.json``; 106 and 108 are ok, too."""


@pytest.fixture
def files(tmp_path):
    """``proxy.json``, whose content it is; in ``second.json`` all masks are :data:`NEW`, but 106 and 110 have none."""
    proxy = write_files(tmp_path)
    of = {a["id"]: a for a in proxy["annotations"]}
    of[CROWD].update(iscrowd=1, status="crowd")
    of[FAILED].update(status="failed", score=0)
    second = copy.deepcopy(proxy)
    second["info"] = {"wsis": {"method": "Other", "version": "2.0"}}
    for annotation in second["annotations"]:
        annotation.pop("ignore_segmentation", None)
        annotation.update(segmentation=encode_mask(NEW), score=0.25, status="fallback")
        if annotation["id"] == OK:
            annotation["ignore_segmentation"] = encode_mask(~NEW)
        if annotation["id"] in (106, 110):
            annotation["status"] = "empty"
    for name, document in (("proxy", proxy), ("second", second)):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    return proxy


@pytest.fixture
def apply(tmp_path, files, tool) -> Callable[..., Ended]:
    """``apply(words..., accepted=[...])``: how the tool ended with these marks; it writes ``new/marked.json``."""

    def run(*words, accepted=(), rejected=(), **more):
        digest = hashlib.sha256((tmp_path / "proxy.json").read_bytes()).hexdigest()
        marks = {"proxy_sha256": digest, "accepted": [*accepted], "rejected": [*rejected]} | more
        (tmp_path / "marks.json").write_text(json.dumps(marks))
        given = ["--proxy", tmp_path / "proxy.json", "--marks", tmp_path / "marks.json"]
        return tool("apply_marks", *given, "--output", tmp_path / "new/marked.json", *words)

    return run


def written(tmp_path):
    """``info.wsis`` of the new file, and its annotations by id."""
    document = json.loads((tmp_path / "new/marked.json").read_text())
    return document["info"]["wsis"], {a["id"]: a for a in document["annotations"]}


def test_accepted_score_1_and_rejected_are_empty(apply, files, tmp_path) -> None:
    before = {a["id"]: a for a in files["annotations"]}
    status, out, error = apply(accepted=[FALLBACK, EMPTY], rejected=[OK, 108, FAILED])
    assert (status, error) == (0, "")
    assert "11 masks: 1 accepted, 2 emptied, 2 marked that had no mask" in out
    provenance, after = written(tmp_path)
    assert after[FALLBACK] == before[FALLBACK] | {"score": 1.0, "mark": "accepted"}
    assert after[EMPTY] == before[EMPTY] | {"mark": "accepted"}
    assert after[FAILED] == before[FAILED] | {"mark": "rejected"}
    x, y, width, height = before[OK]["bbox"]
    box = encode_box([x, y, x + width, y + height], SIZE, SIZE)
    assert after[OK]["segmentation"] == after[OK]["ignore_segmentation"] == box
    expected = {"status": "empty", "score": 0.0, "mark": "rejected", "area": rle_area(box)}
    assert expected.items() <= after[OK].items()
    untouched = before.keys() - {FALLBACK, EMPTY, OK, 108, FAILED}
    assert {i: after[i] for i in untouched} == {i: before[i] for i in untouched}
    (marks,) = provenance["marks"]
    assert provenance["method"] == "Shorten" and (marks["accepted"], marks["rejected"]) == (2, 3)
    for key, name in (("proxy_sha256", "proxy"), ("marks_sha256", "marks")):
        assert marks[key] == hashlib.sha256((tmp_path / f"{name}.json").read_bytes()).hexdigest()


def test_a_student_reads_the_new_file(apply, tmp_path) -> None:
    assert apply(accepted=[101], rejected=[OK]).status == 0
    source = load_source(tmp_path / "new/marked.json", tmp_path)
    records = {a["id"]: a for r in to_dicts(source, "proxy") for a in r["annotations"]}
    assert records[101]["score"] == 1 and records[OK]["score"] == 0


def test_rejected_masks_become_those_of_a_second_file(apply, files, tmp_path) -> None:
    status, out, _ = apply(
        "--fallback", tmp_path / "second.json", accepted=[101], rejected=[OK, EMPTY, 106, 110]
    )
    assert status == 0
    assert "1 accepted, 2 replaced, 2 emptied, 0 marked that had no mask" in out
    provenance, after = written(tmp_path)
    for i in (OK, EMPTY):
        assert np.array_equal(decode_mask(after[i]["segmentation"]), NEW)
        assert (after[i]["score"], after[i]["status"], after[i]["area"]) == (0.25, "fallback", 200)
    assert np.array_equal(decode_mask(after[OK]["ignore_segmentation"]), ~NEW)
    assert "ignore_segmentation" not in after[EMPTY]
    assert [after[i]["status"] for i in (106, 110)] == ["empty", "empty"]
    assert provenance["marks"][0]["fallback"]["wsis"] == {"method": "Other", "version": "2.0"}


def test_marks_of_the_new_file_come_after_the_earlier_ones(apply, tmp_path) -> None:
    assert apply(accepted=[101]).status == 0
    first = (tmp_path / "new/marked.json").read_bytes()
    (tmp_path / "proxy.json").write_bytes(first)
    assert apply(rejected=[101]).status == 0
    provenance, after = written(tmp_path)
    assert [entry["accepted"] for entry in provenance["marks"]] == [1, 0]
    assert provenance["marks"][1]["proxy_sha256"] == hashlib.sha256(first).hexdigest()
    assert (after[101]["mark"], after[101]["status"]) == ("rejected", "empty")


def test_masks_that_are_no_teachers_do_not_become_so(apply, files, tmp_path) -> None:
    del files["info"]
    (tmp_path / "proxy.json").write_text(json.dumps(files))
    assert apply(accepted=[101]).status == 0
    info = json.loads((tmp_path / "new/marked.json").read_text())["info"]
    assert "wsis" not in info and info["marks"][0]["accepted"] == 1


@pytest.mark.parametrize(
    ("words", "marks", "message"),
    [
        ((), {"proxy_sha256": "ab"}, "'proxy_sha256': found ab, but .*of another file"),
        ((), {"proxy_sha256": None}, "'proxy_sha256': found None, expected the SHA-256"),
        ((), {"rejected": [7, 100, 999]}, r"2 marked ids \(first: 7\) not among the 11 masks"),
        ((), {"accepted": [CROWD]}, r"1 marked id \(first: 104\) not among"),
        ((), {"accepted": [101], "rejected": [101]}, "annotation 101 is accepted and rejected"),
        ((), {"accepted": {"101": 1}}, "'accepted': found .*expected a list of annotation ids"),
        ((), {"accepted": [True]}, "'accepted': found .*expected a list of annotation ids"),
        (("--marks", "proxy.json"), {}, "'accepted': found None, expected a list"),
        (("--marks", "list.json"), {}, "expected an object of marks"),
        (("--marks", "gone.json"), {}, "gone.json: cannot be read"),
        (("--fallback", "marks.json"), {}, "marks.json: found a file of marks of the report page"),
        (("--fallback", "other.json"), {}, "1 of 12 annotation ids .*expected the same ids"),
        (("--output", "proxy.json"), {}, "would take the place of the input"),
    ],
)
def test_marks_that_do_not_fit_are_one_line(apply, files, tmp_path, words, marks, message) -> None:
    (tmp_path / "list.json").write_text("[101]")
    other = files["annotations"][:-1] + [{**files["annotations"][-1], "id": 7}]
    (tmp_path / "other.json").write_text(json.dumps({**files, "annotations": other}))
    before = (tmp_path / "proxy.json").read_bytes()
    status, _, error = apply(*words[:1], *(tmp_path / word for word in words[1:]), **marks)
    assert status == 2 and error.count("\n") == 1 and re.search(message, error)
    assert not (tmp_path / "new").exists() and (tmp_path / "proxy.json").read_bytes() == before

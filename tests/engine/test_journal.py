from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsis.engine import journal
from wsis.engine.journal import (
    JournalIndex,
    JournalWriter,
    failure_line,
    find_journals,
    header_line,
    journal_path,
    mask_records,
    result_line,
)
from wsis.errors import DataError, WsisError
from wsis.structures import ProxyMasks, Seed

MADE_WITH = {"version": "1", "config": {"A.B": 1}}
HEADER = header_line(MADE_WITH)


def records(*ids: int, score: float = 0.5) -> list[dict[str, Any]]:
    code = {"size": [2, 2], "counts": "13"}
    return [{"id": i, "segmentation": code, "score": score, "status": "ok"} for i in ids]


def ids_of(image_id: int) -> list[int]:
    return [10 * image_id, 10 * image_id + 1]


def fits(image_id: int | str, entry: dict[str, Any]) -> bool:
    made = [record["id"] for record in entry.get("masks", [])]
    return image_id in range(9) and ("failed" in entry or made == ids_of(image_id))


def line(image_id: int, score: float = 0.5) -> bytes:
    return result_line(image_id, records(*ids_of(image_id), score=score))


def read(*paths: Path, made_with: dict[str, Any] = MADE_WITH) -> JournalIndex:
    return JournalIndex(paths, made_with, fits)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return journal_path(tmp_path, "d", 0)


def test_lines_come_back_from_journals_of_any_number_of_ranks(tmp_path: Path) -> None:
    paths = [journal_path(tmp_path, "d", rank) for rank in (0, 2, 10)]
    for k, path in enumerate(paths):
        with JournalWriter(path, HEADER, 0) as writer:
            writer.append(line(k, score=k / 4))
    assert find_journals(tmp_path, "d") == paths
    index = read(*paths, tmp_path / "d.rank5.jsonl")
    assert set(index.done) == {0, 1, 2}
    assert index.provenance == MADE_WITH
    assert index.ends["d.rank5.jsonl"] == 0
    assert index.masks_of(2) == {20: records(20, score=0.5)[0], 21: records(21, score=0.5)[0]}


def test_only_journals_of_the_very_dataset_are_found(tmp_path: Path) -> None:
    for name in ("a.b.rank0.jsonl", "aXb.rank0.jsonl", "a.b.rank0.jsonl.old", "a.b.json"):
        (tmp_path / name).touch()
    assert find_journals(tmp_path, "a.b") == [tmp_path / "a.b.rank0.jsonl"]
    assert find_journals(tmp_path / "nowhere", "a") == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[:-1],
        lambda line: line[:-40],
        lambda line: line[:1],
        lambda line: b"\0" * len(line),
        lambda line: line[:30] + b"\0" * 30 + b"\n" + line[30:],
    ],
)
def test_a_damaged_end_is_dropped_and_overwritten(path, damage):
    whole = HEADER + line(1)
    path.write_bytes(whole + damage(line(2)))
    index = read(path)
    assert set(index.done) == {1}
    with JournalWriter(path, HEADER, index.ends[path.name]) as writer:
        writer.append(line(3))
    assert path.read_bytes() == whole + line(3)


@pytest.mark.parametrize("content", [b"", HEADER[:-1], b"\0" * 50, b"\0" * 50 + b"\n"])
def test_a_journal_without_whole_header_is_empty(path, content):
    path.write_bytes(content)
    index = read(path)
    assert index.provenance is None
    assert index.ends == {path.name: 0}
    JournalWriter(path, HEADER, 0).close()
    assert path.read_bytes() == HEADER


@pytest.mark.parametrize("damage", [b"\0" * 9 + b"\n", b'{"image_id": 1, "ma\n', b"[]\n"])
def test_a_damaged_line_before_a_good_one_is_an_error(path, damage):
    path.write_bytes(HEADER + line(1) + damage + line(2))
    with pytest.raises(DataError, match=r"rank0\.jsonl: line 3 is damaged"):
        read(path)


@pytest.mark.parametrize(
    "bad",
    [
        result_line(1, records(10)),
        result_line(1, records(11, 10)),
        result_line(1, records(10, 11, 11)),
        result_line(77, []),
        failure_line(77, "gone"),
        b"{}\n",
    ],
)
def test_a_line_that_does_not_fit_the_source_is_an_error(path, bad):
    path.write_bytes(HEADER + line(2) + bad)
    with pytest.raises(DataError, match="line 3: not what image"):
        read(path)


def test_other_settings_are_named_with_both_values(path):
    path.write_bytes(header_line({"config": {"A.B": 1}}))
    with pytest.raises(WsisError, match="A.B: 1 -> 2; version: absent -> 3"):
        read(path, made_with={"version": 3, "config": {"A.B": 2}})
    path.write_bytes(b'{"journal": 2}\n')
    with pytest.raises(DataError, match="not a journal"):
        read(path)


def test_one_image_twice_is_fine_only_if_the_results_are_the_same(path):
    first, second = path, journal_path(path.parent, "d", 1)
    first.write_bytes(HEADER + line(1))
    second.write_bytes(HEADER + line(2) + line(1))
    assert set(read(first, second).done) == {1, 2}
    second.write_bytes(HEADER + line(2) + line(1, score=0.25))
    with pytest.raises(DataError, match=r"rank1\.jsonl: line 3: image 1 has another result in"):
        read(first, second)


def test_a_failed_image_that_was_read_later_is_done(path):
    first, second = path, journal_path(path.parent, "d", 1)
    first.write_bytes(HEADER + line(1) + failure_line(2, "cut"))
    second.write_bytes(HEADER + failure_line(1, "gone") + failure_line(3, "cut"))
    index = read(first, second)
    assert set(index.done) == {1}
    assert index.failed == {2: "cut", 3: "cut"}


def test_entries_in_memory_are_bounded(path, monkeypatch):
    monkeypatch.setattr(journal, "_CACHED_ENTRIES", 2)
    path.write_bytes(HEADER + b"".join(line(i) for i in range(6)))
    index = read(path)
    for image_id in (0, 1, 0, 2, 5, 0):
        assert list(index.masks_of(image_id)) == ids_of(image_id)
    assert index.masks_of.cache_info().currsize == 2


def test_a_line_that_cannot_be_written_leaves_the_journal_as_it_was(path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with JournalWriter(path, HEADER, 0) as writer:
        writer.append(line(1))
        before = path.read_bytes()
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))
        try:
            with pytest.raises(OSError, match="large") as caught:
                writer.append(line(2))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert caught.value.filename == str(path)
        assert path.read_bytes() == before
        writer.append(line(3))
    assert path.read_bytes() == before + line(3)


def test_each_line_is_synced_before_append_returns(path, monkeypatch):
    sizes: list[int] = []
    with JournalWriter(path, HEADER, 0) as writer:
        monkeypatch.setattr(os, "fsync", lambda descriptor: sizes.append(path.stat().st_size))
        writer.append(line(1))
        writer.append(line(2), line(3))
    assert sizes == [len(HEADER + line(1)), len(HEADER + line(1) + line(2) + line(3))]


def test_records_hold_what_the_file_needs_and_refuse_what_it_cannot_hold() -> None:
    seed = Seed(1, "a.png", 4, 4, np.array([[0, 0, 2, 2]] * 3), np.zeros(3), (7, 8, 9))
    found = np.ones((1, 1), dtype=bool), 0, 0
    nothing = np.zeros((1, 1), dtype=bool), 0, 0
    ring = np.ones((2, 2), dtype=bool), 0, 0
    masks = ProxyMasks.from_crops(seed, [found, nothing, found], ignore=[None, None, ring])
    kept = [
        (r["id"], r["status"], r["score"], "ignore_segmentation" in r) for r in mask_records(masks)
    ]
    assert kept == [(7, "ok", 1.0, False), (8, "empty", 0.0, True), (9, "ok", 1.0, True)]
    for scores, status in (([float("nan")] * 3, "ok"), ([1.5] * 3, "ok"), ([1.0] * 3, "odd")):
        masks.scores, masks.status = scores, [status] * 3
        with pytest.raises(ValueError, match="annotation 7"):
            mask_records(masks)

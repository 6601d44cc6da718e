"""Fusion in the common loop: masks of three files, who has a vote, what is ignored, files of other boxes."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

import wsis
from tests.generating import edited, generate, read
from tests.masks import rectangle
from tests.tiny import SIZE, write_dataset
from wsis import ProxyPredictor
from wsis.config import load_cfg
from wsis.data.registration import prepare_datasets
from wsis.data.source import load_source
from wsis.errors import ConfigError, DataError, WsisError
from wsis.structures.proxy_file import proxy_annotation, write_proxy_file
from wsis.structures.rle import decode_mask, encode_box, encode_mask

CONFIG = Path(wsis.__file__).parents[1] / "configs/fusion/fusion.yaml"
BOX = [10.0, 10.0, 20.0, 20.0]


def write_file(folder, name, masks, ignored=None, scores=None, statuses=None):
    """A proxy-mask file of the source in a folder: masks, and by annotation id what else is not as usual."""
    source = load_source(folder / "data/boxes.json")
    annotations = []
    for a, mask in zip(source.annotations, masks, strict=True):
        status = (statuses or {}).get(a["id"], "ok")
        code = encode_mask(mask)
        region = (ignored or {}).get(a["id"])
        region = None if region is None else encode_mask(region)
        score = (scores or {}).get(a["id"], 1.0)
        if status in ("empty", "failed"):
            x, y, w, h = a["bbox"]
            code = region = encode_box([x, y, x + w, y + h], SIZE, SIZE)
            score = 0.0
        annotations.append(proxy_annotation(a, code, region, score, status))
    info = {"wsis": {"method": name}}
    path = folder / f"{name}.json"
    write_proxy_file(path, info, source.images, source.categories, annotations)
    return path


def part(*corners):
    return rectangle((SIZE, SIZE), *corners)


@pytest.fixture
def folder(tmp_path):
    """Four images, the same box in each; three files of halves of it."""
    write_dataset(tmp_path / "data")
    with edited(tmp_path / "data") as document:
        for a in document["annotations"]:
            a["bbox"] = BOX
            del a["segmentation"], a["area"]
    left, top, whole = part(10, 10, 20, 30), part(10, 10, 30, 20), part(10, 10, 30, 30)
    write_file(tmp_path, "a", [left] * 4, scores={52: 0.9}, statuses={53: "empty", 54: "failed"})
    write_file(tmp_path, "b", [top] * 4, scores={52: 0.1}, statuses={54: "empty"})
    write_file(
        tmp_path,
        "c",
        [whole] * 4,
        ignored={51: part(20, 10, 30, 20)},
        scores={52: 0.1},
        statuses={54: "empty"},
    )
    return tmp_path


def make_cfg(folder, *opts, files="abc", output="out"):
    custom = [["boxed", str(folder / "data/boxes.json"), str(folder / "data")]]
    values = [
        *("DATASETS.CUSTOM", str(custom), "DATASETS.TRAIN", "('boxed',)", "MODEL.DEVICE", "cpu"),
        *("MODEL.FUSION.FILES", str([str(folder / f"{name}.json") for name in files])),
        *("OUTPUT_DIR", str(folder / output), "PROXY.NUM_WORKERS", "0", *map(str, opts)),
    ]
    cfg = load_cfg(CONFIG, values)
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    return cfg


def mask_of(annotation, key="segmentation"):
    return decode_mask(annotation[key]) if key in annotation else np.zeros((SIZE, SIZE), bool)


def test_votes_weights_abstentions_and_ignored_pixels(folder):
    first, second, third, none = read(generate(make_cfg(folder)))["annotations"]
    left, top, quarter = part(10, 10, 20, 30), part(10, 10, 30, 20), part(10, 10, 20, 20)
    # c says nothing about the upper right quarter, where a and b disagree: half of the votes
    assert np.array_equal(mask_of(first), left)
    assert np.array_equal(mask_of(first, "ignore_segmentation"), part(20, 10, 30, 20))
    # a has 9 of 11 votes
    assert np.array_equal(mask_of(second), left) and "ignore_segmentation" not in second
    assert second["score"] == pytest.approx((1 + 1 / 3 + 1 / 2) / 3, abs=1e-6)
    # a has no mask: b and c agree on top, and disagree below
    assert np.array_equal(mask_of(third), top)
    assert np.array_equal(mask_of(third, "ignore_segmentation"), part(10, 20, 30, 30))
    assert third["score"] == pytest.approx((1 + 1 / 2) / 3, abs=1e-6)
    assert quarter.sum() < top.sum()
    assert none["status"] == "empty" and none["score"] == 0


WHOLE, QUARTER = part(10, 10, 30, 30), part(20, 10, 30, 20)


@pytest.mark.parametrize(
    ("rule", "row", "expected"),
    [
        ("best", 0, WHOLE & ~QUARTER),  # c fits, but says nothing about its upper right quarter
        ("best", 1, WHOLE),
        ("staple", 1, WHOLE),  # c has all of what the others have
    ],
)
def test_other_rules(folder, rule, row, expected):
    options = "MODEL.FUSION.RULE", rule, "MODEL.FUSION.MIN_AGREEMENT", 0.0
    made = read(generate(make_cfg(folder, *options)))
    assert np.array_equal(mask_of(made["annotations"][row]), expected)
    assert made["info"]["wsis"]["config"]["MODEL.FUSION.RULE"] == rule


def test_nothing_is_ignored_at_half_of_the_votes(folder):
    made = read(generate(make_cfg(folder, "MODEL.FUSION.MIN_AGREEMENT", 0.5)))["annotations"]
    assert ["ignore_segmentation" in a for a in made] == [False, False, False, True]


def test_workers_and_the_order_of_equal_files_do_not_matter(folder):
    made = read(generate(make_cfg(folder)))["annotations"]
    again = make_cfg(folder, "PROXY.NUM_WORKERS", 2, files="cab", output="again")
    for one, other in zip(made, read(generate(again))["annotations"], strict=True):
        assert one["segmentation"] == other["segmentation"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-6)


def test_the_file_names_the_bytes_and_not_the_places(folder):
    provenance = read(generate(make_cfg(folder)))["info"]["wsis"]
    digests = [hashlib.sha256((folder / f"{name}.json").read_bytes()).hexdigest() for name in "abc"]
    expected = {f"MODEL.FUSION.FILES[{i}]": digest for i, digest in enumerate(digests)}
    assert provenance["inputs_sha256"] == expected and provenance["method"] == "Fusion"
    assert str(folder) not in json.dumps(provenance)
    (folder / "b.json").write_text((folder / "b.json").read_text() + " ")
    with pytest.raises(WsisError, match=re.escape("inputs_sha256.MODEL.FUSION.FILES[1]: ")):
        generate(make_cfg(folder), resume=True)


def spoiled(old, new):
    def spoil(folder):
        path = folder / "b.json"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return spoil


def one_line(folder):
    document = json.loads((folder / "b.json").read_text())
    (folder / "b.json").write_text(json.dumps(document))


def shorter(folder):
    lines = (folder / "b.json").read_text().splitlines()
    del lines[-2]
    (folder / "b.json").write_text("\n".join(lines))


def longer(folder):
    lines = (folder / "b.json").read_text().splitlines()
    lines.insert(-1, lines[-2])
    (folder / "b.json").write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            spoiled('"id": 52', '"id": 99'),
            "annotation number 2: key 'id': found 99, expected 52 as in",
        ),
        (
            spoiled('"image_id": 3', '"image_id": 4'),
            "number 3: key 'image_id': found 4, expected 3",
        ),
        (
            spoiled("[10.0, 10.0, 20.0", "[11.0, 10.0, 20.0"),
            "number 1: key 'bbox': found .11.0, 10.0",
        ),
        (shorter, "annotation number 4: key 'id': found None, expected 54 as in .*boxes.json; are"),
        (longer, "found more annotations than the 4 of .*boxes.json; are its masks of other boxes"),
        (
            one_line,
            "expected a proxy-mask file as wsis writes it, .* ExternalMasks makes one of any",
        ),
        (spoiled('"wsis"', '"other"'), "expected a proxy-mask file as wsis writes it"),
        (spoiled('"score"', '"points"'), "expected an annotation with 'segmentation', 'score' and"),
        (spoiled('"status": "ok"', '"status": "good"'), "expected an annotation with"),
        (lambda folder: (folder / "b.json").unlink(), "cannot be read .No such file"),
    ],
)
def test_a_file_of_other_boxes_is_one_line(folder, spoil, message):
    spoil(folder)
    with pytest.raises(
        DataError, match=f"^{re.escape(str(folder / 'b.json'))}: .*{message}"
    ) as caught:
        generate(make_cfg(folder))
    assert "\n" not in str(caught.value) and not (folder / "out").exists()


def test_a_mask_of_another_size_is_named(folder):
    spoiled(f'"size": [{SIZE}, {SIZE}]', f'"size": [{SIZE}, 8]')(folder)
    with pytest.raises(
        DataError, match=r"b.json: annotation 51: key 'segmentation': size \[64, 8\]"
    ):
        generate(make_cfg(folder))


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (
            ("MODEL.FUSION.FILES", "['a.json']"),
            "MODEL.FUSION.FILES: .*, expected paths of two or more",
        ),
        (("MODEL.FUSION.RULE", "mean"), "expected one of vote, staple, best"),
        (("MODEL.FUSION.MIN_AGREEMENT", 1.4), r"expected in \[0, 1\]"),
        (("DATASETS.TRAIN", "('boxed', 'boxed')"), "expected one dataset"),
    ],
)
def test_a_wrong_setting_is_one_line(folder, opts, message):
    with pytest.raises(ConfigError, match=message):
        generate(make_cfg(folder, *opts))


def test_it_knows_no_other_box(folder):
    predict = ProxyPredictor(make_cfg(folder))
    with pytest.raises(
        DataError, match="Fusion: found annotation 0, expected those of .*boxes.json"
    ):
        predict(np.zeros((64, 64, 3), np.uint8), [[0, 0, 9, 9]])

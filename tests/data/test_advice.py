"""What the checker says to begin with."""

import re
from pathlib import Path

import pytest

from tests.tiny import write_dataset, write_json
from wsis.config import get_cfg
from wsis.data.advice import FULLER, advice
from wsis.data.inspection import inspect_file

CONFIGS = Path(__file__).parents[2] / "configs"


def _tags(document):
    document["annotations"] = [
        {key: a[key] for key in ("id", "image_id", "category_id")} for a in document["annotations"]
    ]


def _boxes(document, masks=0, side=None):
    for number, a in enumerate(document["annotations"]):
        if number >= masks:
            a["segmentation"] = None
        if side:
            a["bbox"] = [0, 0, side, side]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (_tags, "photos/cam_lite0_photos.yaml"),
        (_boxes, "baselines/box_crf.yaml, which needs no training; MODEL.BOX_CRF.PRIOR above 0.57"),
        (lambda d: _boxes(d, side=60), "side of 60 pixels: begin with baselines/grabcut.yaml"),
        (lambda d: _boxes(d, masks=1), "1 of 4 annotations have masks: a student of these"),
        (lambda d: d.update(info={"wsis": {"method": "x"}}), "these masks were made"),
        (lambda d: d.update(images=[], annotations=[]), ""),
    ],
)
def test_advice_names_a_config(tmp_path, change, found):
    document = write_dataset(tmp_path)
    change(document)
    write_json(tmp_path, document)
    report = inspect_file(str(tmp_path / "boxes.json"), str(tmp_path), need_boxes=False)
    line = advice(report.facts)
    assert found in line if found else line == ""
    assert all((CONFIGS / name).is_file() for name in re.findall(r"\S+\.yaml", line))


def test_the_keys_of_the_advice_have_the_defaults_that_it_names():
    assert get_cfg().MODEL.BOX_CRF.PRIOR == 0.57 and "PRIOR above 0.57" in FULLER


def test_the_tool_tells_it_where_nothing_is_wrong(tmp_path, tool):
    write_dataset(tmp_path)
    words = ("--json", tmp_path / "boxes.json", "--images", tmp_path)
    assert "next: " in tool("check_dataset", *words).out
    (tmp_path / "1.png").unlink()
    assert "next: " not in tool("check_dataset", *words).out

"""Configs of wsis are found by name from any folder."""

import os

import pytest

from tests.config_files import ROOT, names
from wsis.config import find_config, load_cfg
from wsis.config.shipped import CONFIGS, shipped_configs
from wsis.errors import ConfigError


def test_every_config_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = shipped_configs()
    assert names("**/*.yaml") == known
    for name in known:
        assert os.path.samefile(find_config(name), ROOT / name)


@pytest.mark.parametrize("prefix", ["", "configs/", "./configs/"])
def test_a_name_is_enough_and_brings_its_base(prefix, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = load_cfg(f"{prefix}COCO/mask_rcnn_R_50_FPN_coco.yaml", ["SEED", "5"])
    assert (cfg.MODEL.MASK_ON, cfg.WSIS.SUPERVISION, cfg.SEED) == (True, "proxy", 5)


def test_a_file_of_this_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines/grabcut.yaml").write_text(f"_BASE_: {CONFIGS}/baselines/ellipse.yaml\n")
    assert load_cfg("baselines/grabcut.yaml").MODEL.META_ARCHITECTURE == "InscribedEllipse"


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("grabcut.yaml", "baselines/grabcut.yaml"),
        ("baselines/grabcut", "baselines/grabcut.yaml"),
        ("baseline/grabcutt.yaml", "baselines/grabcut.yaml"),
        ("configs/bbam/bbam_R_18_FPN_shapes.yaml", "BBAM/bbam_R_18_FPN_shapes.yaml"),
        ("bbam_R_50.yaml", "BBAM/bbam_R_50_FPN_coco.yaml"),
        ("zzz.yaml", ""),
        ("../setup.py", ""),
        ("", ""),
    ],
)
def test_a_wrong_name_lists_close_ones(name, close, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load_cfg(name)
    said, _, hint = str(caught.value).partition("; did you mean ")
    assert said == f"{name or 'an empty name'}: no such config file"
    assert hint.rstrip("?").split(", ")[0] == close

"""Short words for one's own data say what DATASETS.CUSTOM and its kin say."""

from __future__ import annotations

import argparse
import json

import pytest
import torch

from tests.tiny import write_config, write_dataset
from wsis.config import get_cfg, load_cfg
from wsis.engine import apply_short_words, argument_parser, setup
from wsis.errors import ConfigError

IMAGES = ["--images", "i"]
BOXES = ["--json", "d/boxes.json", *IMAGES]
VAL = ["--val-json", "v.json"]
PROXY = ["--proxy", "o/proxy/boxes.json", *IMAGES]
ENTRY = ["boxes", "d/boxes.json", "i"]
OTHER = ["other", "o.json", ""]


def parsed(words: list[str], training: bool = True) -> argparse.Namespace:
    return argument_parser(training=training).parse_args(words)


@pytest.mark.parametrize(
    ("words", "custom", "train", "test", "supervision"),
    [
        ([], [], "", "", "box"),
        (BOXES, [ENTRY], "boxes", "", "box"),
        ([*BOXES, "--name", "mine"], [["mine", *ENTRY[1:]]], "mine", "", "box"),
        ([*BOXES, *VAL], [ENTRY, ["v", "v.json", "i"]], "boxes", "v", "box"),
        (
            [*BOXES, *VAL, "--val-images", "w"],
            [ENTRY, ["v", "v.json", "w"]],
            "boxes",
            "v",
            "box",
        ),
        ([*IMAGES, *VAL], [["v", "v.json", "i"]], "", "v", "box"),
        ([*VAL, "--val-images", "w"], [["v", "v.json", "w"]], "", "v", "box"),
        (PROXY, [["boxes", "o/proxy/boxes.json", "i"]], "boxes", "", "proxy"),
        # names that are taken: by the other file of the run, by a builtin dataset
        (
            [*BOXES, "--val-json", "w/boxes.json"],
            [ENTRY, ["boxes_own", "w/boxes.json", "i"]],
            "boxes",
            "boxes_own",
            "box",
        ),
        (
            ["--json", "shapes_train.json", *IMAGES],
            [["shapes_train_own", "shapes_train.json", "i"]],
            "shapes_train_own",
            "",
            "box",
        ),
        # what the keys say stays
        (
            [*BOXES, "DATASETS.CUSTOM", repr([OTHER]), "DATASETS.TEST", "('other',)"],
            [OTHER, ENTRY],
            "boxes",
            "other",
            "box",
        ),
        ([*BOXES, "DATASETS.CUSTOM", repr([ENTRY])], [ENTRY], "boxes", "", "box"),
        ([*BOXES, "WSIS.SUPERVISION", "mask"], [ENTRY], "boxes", "", "mask"),
    ],
)
def test_what_the_words_stand_for(words, custom, train, test, supervision):
    args = parsed(words)
    cfg = load_cfg(None, args.opts)
    apply_short_words(cfg, args)
    assert list(map(list, cfg.DATASETS.CUSTOM)) == custom
    assert tuple(cfg.DATASETS.TRAIN) == ((train,) if train else ())
    assert tuple(cfg.DATASETS.TEST) == ((test,) if test else ())
    assert supervision == cfg.WSIS.SUPERVISION
    assert cfg.OUTPUT_DIR == get_cfg().OUTPUT_DIR


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--json", "a.json"], "--json a.json: expected --images with it"),
        (["--proxy", "a.json"], "--proxy a.json: expected --images with it"),
        (["--val-json", "a.json"], "--val-json a.json: expected --images or --val-images with it"),
        (["--images", "i"], "--images i: expected --json or --proxy or --val-json with it"),
        ([*IMAGES, *VAL, "--name", "a"], "--name a: expected --json or --proxy with it"),
        ([*BOXES, "--val-images", "w"], "--val-images w: expected --val-json with it"),
        ([*BOXES, "--proxy", "p.json"], "--json, --proxy: found both"),
        ([*BOXES, "DATASETS.TRAIN", "('a',)"], "--json, DATASETS.TRAIN: found both"),
        ([*PROXY, "DATASETS.TRAIN", "('a',)"], "--proxy, DATASETS.TRAIN: found both"),
        ([*PROXY, "WSIS.SUPERVISION", "box"], "--proxy, WSIS.SUPERVISION: found both"),
        ([*BOXES, *VAL, "DATASETS.TEST", "()"], "--val-json, DATASETS.TEST: found both"),
        (["--output", "o", "OUTPUT_DIR", "o"], "--output, OUTPUT_DIR: found both"),
    ],
)
def test_words_that_do_not_go_together_are_one_line(words, message):
    args = parsed(words)
    with pytest.raises(ConfigError, match=f"^{message}"):
        apply_short_words(load_cfg(None, args.opts), args)


def test_generation_knows_no_word_of_a_training(capsys):
    args = parsed(["--images", "i"], training=False)
    with pytest.raises(ConfigError, match=r"--images i: expected --json with it"):
        apply_short_words(get_cfg(), args)
    with pytest.raises(SystemExit):
        parsed(["--json", ""], training=False)
    assert "--json: found nothing, expected a path" in capsys.readouterr().err


def test_a_config_keeps_the_data_that_it_brings(tmp_path, data):
    """The config of an earlier run, with its validation data, and more boxes."""
    config = write_config(tmp_path, data, DATASETS__TEST=["tiny"])
    more = tmp_path / "more"
    write_dataset(more)
    words = ["--config-file", str(config), "--json", str(more / "boxes.json")]
    words += ["--images", str(more), "--output", str(tmp_path / "123")]
    cfg = setup(parsed(words), "train")
    assert (cfg.DATASETS.TRAIN, list(cfg.DATASETS.TEST)) == (("boxes",), ["tiny"])
    assert str(tmp_path / "123") == cfg.OUTPUT_DIR


def test_from_boxes_to_a_judged_student(tmp_path, data, monkeypatch, run):
    """The short words all the way: masks, a training on them, resumed, judged again, and seen without its data."""
    monkeypatch.chdir(tmp_path)
    (data / "val.json").write_text((data / "boxes.json").read_text())
    public = {"CUSTOM": [], "TRAIN": ["coco_2017_train_proxy"], "TEST": ["coco_2017_val"]}
    config = write_config(tmp_path, data, DATASETS=public, MODEL__MASK_ON=True, SOLVER__MAX_ITER=1)
    own, val = ["--json", "data/boxes.json", "--images", "data"], ["--val-json", "data/val.json"]

    words = ["--config-file", "baselines/ellipse.yaml", "--output", "made", "MODEL.DEVICE", "cpu"]
    assert run("generate_proxy_masks", *own, *words) == (0, "")
    proxy = json.loads((tmp_path / "made/proxy/boxes.json").read_text())
    assert {a["status"] for a in proxy["annotations"]} == {"ok"}

    words = ["--images", "data", *val, "--config-file", config, "--output", "student"]
    train = ("train_net", "--proxy", "made/proxy/boxes.json", *words)
    results = tmp_path / "student/inference/results.json"
    assert run(*train) == run(*train, "--resume", "SOLVER.MAX_ITER", 2) == (0, "")
    first = json.loads(results.read_text())
    assert set(first) == {"val"} and "segm" in first["val"]
    final = tmp_path / "student/model_final.pth"
    assert torch.load(final, weights_only=True)["iteration"] == 1
    results.unlink()
    assert run("train_net", "--eval-only", *words, "MODEL.WEIGHTS", final) == (0, "")
    assert json.loads(results.read_text()) == first

    weights = torch.load(final, weights_only=True)["model"]
    torch.save({"model": weights}, tmp_path / "alone.pth")
    words = ["--config-file", config, "--input", "data/1.png", "--output", "found"]
    words = ["predict", *words, "MODEL.WEIGHTS", "alone.pth"]
    status, error = run(*words)
    assert status == 2 and "(81,) in the model" in error  # the classes of the config's own data
    assert run(*words[:1], *own, *words[1:]) == (0, "")
    found = json.loads((tmp_path / "found/predictions.json").read_text())
    assert [c["name"] for c in found["categories"]] == ["wide", "tall"]


def test_an_output_never_replaces_an_input(tool, data):
    before = (data / "boxes.json").read_bytes()
    words = ["--proxy", data / "boxes.json", "--output", data / "." / "boxes.json"]
    status, _, error = tool("export_masks", "--to", "coco-polygons", *words)
    assert (status, error.count("\n")) == (2, 1) and "would take the place of the input" in error
    assert (data / "boxes.json").read_bytes() == before

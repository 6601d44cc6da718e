"""Whole runs on files as people have them: what is wrong shows before any work, what is left out is counted."""

from __future__ import annotations

import json
import logging
import shutil

import pytest
import torch
from PIL import Image

from tests.tiny import write_config, write_dataset, write_json
from wsis.config import load_cfg
from wsis.data import registration
from wsis.engine import argument_parser, setup
from wsis.engine.checkpoint import trained_categories
from wsis.engine.prediction import resolve_categories
from wsis.errors import ConfigError, DataError
from wsis.modeling.teacher import is_teacher

QUICK = {"SOLVER__MAX_ITER": 1, "SOLVER__IMS_PER_BATCH": 2, "SOLVER__WARMUP_ITERS": 0}
MASKS = {"MODEL__MASK_ON": True, "WSIS__SUPERVISION": "mask"}


@pytest.fixture
def document(data):
    return json.loads((data / "boxes.json").read_text())


@pytest.fixture
def checked(tmp_path, data, caplog):
    """``checked(document, purpose="train", **keys)``: the lines that the checks of a run tell about a dataset."""

    def check(document, purpose="train", **keys):
        write_json(data, document)
        if purpose == "generate":
            keys = {"MODEL__META_ARCHITECTURE": "FilledBox", "PROXY__NUM_WORKERS": 0, **keys}
        words = ["--config-file", str(write_config(tmp_path, data, **keys))]
        registration._sources.clear()  # what was read of files that are written anew here
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            cfg = setup(argument_parser().parse_args(words), purpose)
        assert is_teacher(cfg) == (purpose == "generate")
        return [m.split("boxes.json: ")[1] for m in caplog.messages if "boxes.json: " in m]

    return check


def with_val(data, document, **keys):
    """The keys of a run that is scored on another document."""
    (data / "val.json").write_text(json.dumps(document))
    custom = [[n, str(data / f), str(data)] for n, f in (("tiny", "boxes.json"), ("v", "val.json"))]
    return {"DATASETS__CUSTOM": custom, "DATASETS__TEST": ["v"], **keys}


BAD_MASKS = {
    "a code of another size": {"segmentation": {"size": [9, 9], "counts": "0"}},
    "a code that is none": {"segmentation": {"size": [64, 64], "counts": "no"}},
    "text": {"segmentation": "mask"},
}


@pytest.mark.parametrize("keys", BAD_MASKS.values(), ids=BAD_MASKS)
def test_masks_to_score_against_are_checked_before_training(data, document, checked, keys):
    val = json.loads(json.dumps(document))
    val["annotations"][1].update(keys)
    with pytest.raises(
        DataError, match=r"val\.json: annotation 52: key 'segmentation': .*; write pol"
    ):
        checked(document, **with_val(data, val, **MASKS))


def test_what_evaluation_leaves_out_is_told_before_training(data, document, checked, caplog):
    val = json.loads(json.dumps(document))
    val["annotations"][0]["segmentation"] = [[1, 1, 2, 2]]
    val["annotations"][1]["area"] = None
    checked(document, **with_val(data, val, **MASKS))
    for text in (
        "1 annotation has no other polygon and so no mask, the first is annotation 51",
        "1 annotation has an area that is no number: computed, the first is annotation 52",
        "1 of 4 objects of the ground truth have no mask: box AP only",
    ):
        assert text in caplog.text
    for annotation in val["annotations"]:
        annotation["iscrowd"] = 1
    with pytest.raises(
        DataError, match="nothing to score in DATASETS.TEST: all 4 annotations are crowds"
    ):
        checked(document, **with_val(data, val))


@pytest.mark.parametrize(
    ("purpose", "text"), [("generate", "to make masks for"), ("train", "to train on: .* an object")]
)
def test_a_file_of_crowds_is_refused(document, checked, purpose, text):
    for annotation in document["annotations"]:
        annotation["iscrowd"] = 1
    with pytest.raises(
        DataError, match=f"nothing {text}: all 4 annotations are crowds; set iscrowd 0"
    ):
        checked(document, purpose)


def test_boxes_that_are_corners_are_doubted_by_every_run(document, checked):
    for annotation in document["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["bbox"] = [x + 20, y + 20, x + w + 20, y + h + 20]
        annotation["area"] = w * h
    for purpose in ("generate", "train"):
        (line,) = checked(document, purpose)
        assert line.startswith("bbox seems to be corners x0, y0, x1, y1")


def test_true_masks_that_are_their_box_are_made_by_the_teacher(
    document, checked, tmp_path, data, run
):
    box = document["annotations"][0]["bbox"]
    x, y, w, h = box
    document["annotations"][0]["segmentation"] = [[x, y, x + w, y, x + w / 2, y + h]]
    (line,) = checked(document, "generate", PROXY__KEEP_TRUE_MASKS=True)
    assert line.startswith("3 of 4 masks are the filled box itself")
    config = tmp_path / "config.yaml"
    assert run("generate_proxy_masks", "--config-file", config) == (0, "")
    made = json.loads((tmp_path / "out/proxy/tiny.json").read_text())["annotations"]
    assert [a["status"] for a in made] == ["given", "ok", "ok", "ok"]


def test_one_name_for_two_datasets(data, document, checked):
    custom = [["tiny", str(data / "boxes.json"), str(data)]] * 2
    with pytest.raises(
        ConfigError, match="CUSTOM: the name 'tiny' stands for two datasets; give each"
    ):
        checked(document, DATASETS__CUSTOM=custom)


def renumbered(document, ids):
    """The document with other ids of its categories, 3 (wide) and 7 (tall)."""
    other = json.loads(json.dumps(document))
    for item, key in ((c, "id") for c in other["categories"]):
        item[key] = ids[item[key]]
    for annotation in other["annotations"]:
        annotation["category_id"] = ids[annotation["category_id"]]
    return other


def test_classes_of_two_files_are_matched_by_name(data, document, checked, caplog):
    checked(document, **with_val(data, renumbered(document, {3: 9, 7: 2})))
    assert (
        "val.json: its classes (tall, wide) are matched by name with those of dataset"
        in caplog.text
    )
    less = renumbered(document, {3: 3, 7: 7})
    less["categories"] = less["categories"][:1]
    less["annotations"] = [a for a in less["annotations"] if a["category_id"] == 3]
    checked(document, **with_val(data, less))
    with pytest.raises(ConfigError, match="of which not both have tall; .*CLASS_AGNOSTIC True"):
        checked(less, **with_val(data, document))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a dataset, a training of one step on it, and its config; only read."""
    from wsis.engine import WsisTrainer, start

    folder = tmp_path_factory.mktemp("trained")
    write_dataset(folder / "data")
    words = ["--config-file", str(write_config(folder, folder / "data", **QUICK))]
    args = argument_parser().parse_args(words)
    cfg = setup(args, "train")
    start(cfg, args, "train")
    trainer = WsisTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return folder


@pytest.fixture
def again(trained, tmp_path):
    """``again(ids)``: a copy of the training, whose boxes were exported again with other ids; its config and data."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)

    def export(ids):
        document = json.loads((trained / "data/boxes.json").read_text())
        write_json(tmp_path / "data", renumbered(document, ids))
        return write_config(tmp_path, tmp_path / "data", **QUICK, DATASETS__TEST=["tiny"])

    return export


TRAINED = [{"id": 3, "name": "wide"}, {"id": 7, "name": "tall"}]


@pytest.mark.parametrize("known_by", ["checkpoint", "folder"])
def test_weights_remember_their_classes(again, tmp_path, caplog, known_by):
    config, weights = again({3: 8, 7: 1}), tmp_path / "out/model_final.pth"
    if known_by == "folder":
        torch.save({"model": torch.load(weights, weights_only=True)["model"]}, weights)
    else:
        (tmp_path / "out/classes.json").unlink()
    cfg = load_cfg(config, ["MODEL.WEIGHTS", str(weights)])
    assert trained_categories(cfg) == TRAINED
    with caplog.at_level(logging.WARNING):
        assert resolve_categories(cfg) == [{"id": 8, "name": "wide"}, {"id": 1, "name": "tall"}]
    assert (
        "its classes are by now tall, wide; the weights were trained with wide, tall, matched by name"
        in caplog.text
    )
    assert resolve_categories(cfg, ["flach", "hoch"])[1] == {"id": 2, "name": "hoch"}
    with pytest.raises(
        ConfigError, match="--classes: found tall, wide, but .* leave --classes out"
    ):
        resolve_categories(cfg, ["tall", "wide"])


@pytest.mark.parametrize(("words", "purpose"), [(["--resume"], "train"), (["--eval-only"], "test")])
def test_a_file_with_other_ids_is_matched_with_the_weights(again, tmp_path, caplog, words, purpose):
    config = ["--config-file", str(again({3: 8, 7: 1})), *words]
    opts = ["MODEL.WEIGHTS", str(tmp_path / "out/model_final.pth")]
    with caplog.at_level(logging.WARNING):
        setup(argument_parser().parse_args([*config, *opts]), purpose)
    assert "its classes (tall, wide) are matched by name with those of the weights" in caplog.text
    document = json.loads((tmp_path / "data/boxes.json").read_text())
    document["categories"][0]["name"] = "round"
    write_json(tmp_path / "data", document)
    registration._sources.clear()
    with pytest.raises(ConfigError, match="of which not both have round, .*the same list"):
        setup(argument_parser().parse_args([*config, *opts]), purpose)


def test_a_finished_training_says_so(again, tmp_path, caplog):
    from wsis.engine import WsisTrainer

    cfg = load_cfg(
        again({3: 3, 7: 7}), ["DATASETS.TEST", "()", "OUTPUT_DIR", str(tmp_path / "out")]
    )
    args = argument_parser().parse_args(
        ["--config-file", str(tmp_path / "config.yaml"), "--resume"]
    )
    args.opts = ["DATASETS.TEST", "()"]
    cfg = setup(args, "train")
    before = (tmp_path / "out/model_final.pth").stat().st_mtime_ns
    trainer = WsisTrainer(cfg)
    trainer.resume_or_load(resume=True)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert "is finished (iteration 1 of SOLVER.MAX_ITER 1); raise SOLVER.MAX_ITER" in caplog.text
    assert (tmp_path / "out/model_final.pth").stat().st_mtime_ns == before


def cut_short(path):
    """A JPEG file without its last bytes, in place of an image."""
    image = Image.open(path).convert("RGB").resize((64, 64))
    image.save(path, format="JPEG", quality=95)
    path.write_bytes(path.read_bytes()[:-200])


def test_images_that_cannot_be_read_stop_a_training_before_it_starts(data, document, checked):
    cut_short(data / "2.png")
    with pytest.raises(
        DataError, match=r"image 2: .*2\.png: cannot be read .*DATASETS.BAD_IMAGE skip"
    ):
        checked(document)
    (data / "3.png").unlink()
    with pytest.raises(DataError, match=r"image 2: .* \(and 1 more image\); mend them, or set"):
        checked(document)


def test_training_without_the_images_that_cannot_be_read(tmp_path, data, document, run):
    cut_short(data / "2.png")
    content = bytearray((data / "3.png").read_bytes())
    content[len(content) // 2] ^= 0xFF  # whole to its end, and broken inside
    (data / "3.png").write_bytes(content)
    config = write_config(tmp_path, data, **QUICK, DATASETS__BAD_IMAGE="skip")
    assert run("train_net", "--config-file", config) == (3, "")
    log = (tmp_path / "out/log.txt").read_text()
    assert "Removed 0 images with no usable annotations. 2 images left" in log
    for number in (1, 4):
        (data / f"{number}.png").unlink()
    status, error = run("train_net", "--config-file", config)
    assert status == 2 and "none of its 4 images can be read, the first: image 1:" in error


def test_images_that_failed_in_generation_take_no_part_in_training(document, checked):
    document["info"] = {"wsis": {"method": "FilledBox"}}
    for annotation in document["annotations"][:2]:
        annotation["status"] = "failed"
    (line,) = checked(document, WSIS__SUPERVISION="proxy", MODEL__MASK_ON=True)
    assert line.startswith(
        "2 images could not be read when the masks were made (status failed): left"
    )
    for annotation in document["annotations"]:
        annotation["status"] = "failed"
    with pytest.raises(DataError, match="and no other has an object; make them anew"):
        checked(document, WSIS__SUPERVISION="proxy")


def test_images_of_any_size_are_read_where_the_file_says_how_large(tmp_path, monkeypatch):
    from wsis.data.images import UnreadableImageError, read_header, read_image

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = tmp_path / "a.png"
    Image.new("1", (30, 20)).save(path)
    assert read_image(path, 20, 30).shape == (20, 30, 3)
    assert read_header(path).height == 20
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(UnreadableImageError, match="too large .* cut it into tiles"):
        read_image(path)
    with pytest.raises(DataError, match="the image is 30x20"):
        read_image(path, 21, 30)

"""Masks of another tool in the place of a teacher's: the common loop, the file, the student's side."""

import hashlib
import json
import pickle
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Instances

import wsis
from tests.generating import generate, read
from tests.tiny import write_dataset
from wsis.config import load_cfg
from wsis.data.build import training_dicts
from wsis.data.registration import prepare_datasets
from wsis.data.source import load_source
from wsis.engine.generation import check_generation
from wsis.errors import ConfigError, DataError, WsisError
from wsis.evaluation import proxy_quality

CONFIG = Path(wsis.__file__).parents[1] / "configs/external/external_masks.yaml"


@pytest.fixture
def folder(tmp_path):
    """Four images with one box each, and ``sam.json``: exact masks of the first three, by id, shuffled."""
    document = write_dataset(tmp_path / "data")
    kept = ("image_id", "category_id", "segmentation")
    results = [
        {name: a[name] for name in kept}
        | {"score": 0.5 + a["image_id"] / 10, "annotation_id": a["id"]}
        for a in document["annotations"][2::-1]
    ]
    (tmp_path / "sam.json").write_text(json.dumps(results))
    for annotation in document["annotations"]:
        del annotation["segmentation"]
    (tmp_path / "data/boxes_only.json").write_text(json.dumps(document))
    return tmp_path


def make_cfg(folder, *opts, output="out"):
    entries = [["boxed", str(folder / "data/boxes_only.json"), str(folder / "data")]]
    values = [
        *("MODEL.EXTERNAL.FILE", str(folder / "sam.json"), "MODEL.DEVICE", "cpu"),
        *("DATASETS.CUSTOM", str(entries), "DATASETS.TRAIN", "('boxed',)"),
        *("OUTPUT_DIR", str(folder / output), "PROXY.NUM_WORKERS", "0"),
        *map(str, opts),
    ]
    cfg = load_cfg(CONFIG, values)
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    return cfg


def test_the_file_has_the_masks_by_id_and_says_where_none_fits(folder):
    result = generate(make_cfg(folder))
    assert result.exit_status == 0
    truth = json.loads((folder / "data/boxes.json").read_text())["annotations"]
    made = read(result)
    assert [a["status"] for a in made["annotations"]] == ["ok"] * 3 + ["empty"]
    assert [a["score"] for a in made["annotations"]] == [0.6, 0.7, 0.8, 0.0]
    for annotation, true in zip(made["annotations"], truth, strict=True):
        assert annotation["id"] == true["id"] and annotation["bbox"] == true["bbox"]
        assert annotation["segmentation"] == true["segmentation"]  # the last is the filled box
        assert ("ignore_segmentation" in annotation) == (annotation["status"] == "empty")


def test_provenance_names_the_bytes_and_not_the_place(folder):
    provenance = read(generate(make_cfg(folder)))["info"]["wsis"]
    digest = hashlib.sha256((folder / "sam.json").read_bytes()).hexdigest()
    assert provenance["method"] == "ExternalMasks"
    assert provenance["inputs_sha256"] == {"MODEL.EXTERNAL.FILE": digest}
    assert provenance["config"]["MODEL.EXTERNAL.JOIN"] == "auto"
    assert str(folder) not in json.dumps(provenance)
    again = generate(make_cfg(folder, output="again"))
    assert again.files[0].read_bytes() == (folder / "out/proxy/boxed.json").read_bytes()
    (folder / "sam.json").write_text((folder / "sam.json").read_text() + " ")
    with pytest.raises(WsisError, match="inputs_sha256.MODEL.EXTERNAL.FILE: "):
        generate(make_cfg(folder), resume=True)


def test_the_protocol_of_teachers(folder):
    model = build_model(make_cfg(folder)).eval()
    assert not model.needs_image and not model.state_dict()
    boxes = torch.tensor([[0, 0, 9.0, 9], [3, 3, 8, 8]])
    instances = Instances((64, 64), original_boxes=boxes, gt_classes=torch.tensor([0, 1]))
    instances.annotation_ids = torch.tensor([54, 52])
    record = {"image_id": 2, "file_name": "", "height": 64, "width": 64, "instances": instances}
    (seed,) = model.propose([record])
    masks = pickle.loads(pickle.dumps(model.refiner()))(seed, np.zeros((64, 64, 3), np.uint8))
    assert (masks.status, masks.scores) == (["empty", "ok"], [0.0, 0.7])
    assert masks.to_instances().pred_masks[0].sum() == 81
    with pytest.raises(ConfigError, match="ExternalMasks has nothing to train"):
        model.train()([record])


def test_an_unreadable_image_is_failed_as_for_any_teacher(folder):
    (folder / "data/2.png").write_bytes(b"no image")
    result = generate(make_cfg(folder))
    assert result.exit_status == 3
    assert [a["status"] for a in read(result)["annotations"]] == ["ok", "failed", "ok", "empty"]


def test_a_student_trains_on_the_file_and_the_evaluation_says_the_same_of_both_ways(folder, capsys):
    made = generate(make_cfg(folder)).files[0]
    entries = [["boxed_proxy", str(made), str(folder / "data")]]
    opts = ["DATASETS.CUSTOM", str(entries), "DATASETS.TRAIN", "('boxed_proxy',)"]
    cfg = load_cfg(None, [*opts, "WSIS.SUPERVISION", "proxy"])
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    annotations = [record["annotations"][0] for record in training_dicts(cfg)]
    assert [a["score"] for a in annotations] == [0.6, 0.7, 0.8, 0.0]
    assert all("segmentation" in a for a in annotations)

    gt = load_source(folder / "data/boxes.json")
    expected = proxy_quality(load_source(made), gt)
    tool = runpy.run_path(str(CONFIG.parents[2] / "tools/evaluate_proxy_masks.py"))["main"]
    arguments = ["--proxy", folder / "sam.json", "--gt", folder / "data/boxes.json"]
    for more in ([], ["--boxes", folder / "data/boxes_only.json"]):
        tool([str(a) for a in (*arguments, *more, "--output", folder / "quality.json")])
        assert "joined by id 3, by box 0; boxes without a mask 1" in capsys.readouterr().out
        assert json.loads((folder / "quality.json").read_text()) == expected
    assert expected["overall"]["mIoU"] == 0.75
    with pytest.raises(DataError, match="name the COCO file that has them by --boxes"):
        tool(["--proxy", str(folder / "sam.json")])


def test_all_classes_as_one(folder):
    results = json.loads((folder / "sam.json").read_text())
    (folder / "sam.json").write_text(json.dumps([entry | {"category_id": 1} for entry in results]))
    with pytest.raises(DataError, match="key 'category_id': 1 is not among"):
        generate(make_cfg(folder))
    for key, value in (("DATASETS.CLASS_AGNOSTIC", True), ("MODEL.EXTERNAL.MATCH_CLASS", False)):
        made = read(generate(make_cfg(folder, key, value, output=key)))
        assert [a["status"] for a in made["annotations"]] == ["ok"] * 3 + ["empty"]


@pytest.mark.parametrize(
    ("opts", "error", "message"),
    [
        (("MODEL.EXTERNAL.FILE", ""), ConfigError, "MODEL.EXTERNAL.FILE: found nothing"),
        (("MODEL.EXTERNAL.FILE", "gone.json"), DataError, "gone.json: cannot be read"),
        (("MODEL.EXTERNAL.MIN_IOU", 0.0), ConfigError, "MODEL.EXTERNAL.MIN_IOU: found 0.0"),
        (("DATASETS.TRAIN", "('boxed', 'boxed')"), ConfigError, "expected one dataset"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(folder, opts, error, message):
    cfg = make_cfg(folder, *opts)
    check_generation(cfg)
    with pytest.raises(error, match=message):
        generate(cfg)
    assert not (folder / "out").exists()

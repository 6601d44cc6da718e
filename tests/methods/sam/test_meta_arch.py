"""SAM in the common loop: every family makes masks from a folder, and says which folder that was."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.modeling import build_model

import wsis
from tests.generating import edited, generate, read
from tests.methods.sam import tiny
from tests.tiny import write_dataset
from wsis import ProxyPredictor
from wsis.config import load_cfg
from wsis.data.registration import prepare_datasets
from wsis.errors import ConfigError, WsisError

CONFIG = Path(wsis.__file__).parents[1] / "configs/SAM/sam.yaml"


def make_cfg(folder, family, *opts, output="out"):
    """Four images of which the last has no box."""
    if not (folder / "data").exists():
        write_dataset(folder / "data", empty=1)
    model = folder / family
    if not model.exists():
        tiny.write(model, family)
    values = [
        *("MODEL.SAM.PATH", str(model), "MODEL.DEVICE", "cpu", "PROXY.NUM_WORKERS", "0"),
        *(
            "DATASETS.CUSTOM",
            str([["tiny", *map(str, (folder / "data/boxes.json", folder / "data"))]]),
        ),
        *("DATASETS.TRAIN", "('tiny',)", "OUTPUT_DIR", str(folder / output), *map(str, opts)),
    ]
    cfg = load_cfg(CONFIG, values)
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    return cfg


@pytest.mark.parametrize(
    ("video", "family"), [("sam2_video", "sam2"), ("sam3_video", "sam3_tracker")]
)
def test_a_video_model_is_asked_about_images(tmp_path, video, family):
    found, expected = (
        [{**a, "score": round(a["score"], 5)} for a in read(generate(cfg))["annotations"]]
        for cfg in (make_cfg(tmp_path, name, output=name + "_out") for name in (video, family))
    )
    assert found == expected


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_family_makes_a_mask_per_box(tmp_path, family):
    result = generate(make_cfg(tmp_path, family))
    document = read(result)
    assert result.exit_status == 0 and [a["id"] for a in document["annotations"]] == [51, 52, 53]
    assert {a["status"] for a in document["annotations"]} <= {"ok", "empty"}
    assert all(0 <= a["score"] <= 1 for a in document["annotations"])
    again = generate(make_cfg(tmp_path, family, "MODEL.SAM.BOXES_TOGETHER", 3, output="again"))
    assert [a["segmentation"] for a in read(again)["annotations"]] == [
        a["segmentation"] for a in document["annotations"]
    ]


def test_workers_and_more_boxes_give_the_same(tmp_path):
    write_dataset(tmp_path / "data", empty=1)
    with edited(tmp_path / "data") as document:
        for i in range(40):
            box = [float(i), float(i // 2), 20.0, 16.0 + i % 3]
            entry = {"id": 100 + i, "image_id": 4, "category_id": 3, "bbox": box, "iscrowd": 0}
            document["annotations"].append(entry)
    cfg = make_cfg(tmp_path, "sam2")
    made = generate(cfg).files[0].read_bytes()
    assert len(json.loads(made)["annotations"]) == 43
    again = make_cfg(tmp_path, "sam2", "PROXY.NUM_WORKERS", 2, output="workers")
    assert generate(again).files[0].read_bytes() == made


def test_the_file_names_the_bytes_of_the_folder_and_not_its_place(tmp_path):
    provenance = read(generate(make_cfg(tmp_path, "sam")))["info"]["wsis"]
    names = ("config.json", "processor_config.json", "model.safetensors")
    digests = {n: hashlib.sha256((tmp_path / "sam" / n).read_bytes()).hexdigest() for n in names}
    expected = {f"MODEL.SAM.PATH {name}": digest for name, digest in digests.items()}
    assert provenance["method"] == "SAM" and provenance["inputs_sha256"] == expected
    assert provenance["weights_sha256"] is None and "transformers" in provenance["versions"]
    assert provenance["config"]["MODEL.SAM.SECOND_PASS"] is True
    assert str(tmp_path) not in json.dumps(provenance)
    path = tmp_path / "sam/config.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(WsisError, match="inputs_sha256.MODEL.SAM.PATH config.json: "):
        generate(make_cfg(tmp_path, "sam"), resume=True)


def test_in_a_notebook_also_without_a_box(tmp_path):
    predict = ProxyPredictor(make_cfg(tmp_path, "sam3_tracker"))
    image = np.random.default_rng(1).integers(0, 256, (3, 50, 3), dtype=np.uint8)
    made = predict(image, [[4, 0, 40, 3], [0, 0, 50, 3]])
    assert made.pred_masks.shape == (2, 3, 50)
    assert predict(image, []).pred_masks.shape == (0, 3, 50)


def test_mistakes_are_named_before_anything_is_written(tmp_path):
    for opts, message in (
        (("MODEL.SAM.PATH", ""), "MODEL.SAM.PATH: found nothing"),
        (("MODEL.SAM.BOXES_TOGETHER", 0), "MODEL.SAM.BOXES_TOGETHER: found 0, expected at least 1"),
        (("MODEL.WEIGHTS", "sam.pth"), "MODEL.WEIGHTS: found sam.pth, expected nothing"),
    ):
        with pytest.raises(ConfigError, match=message):
            generate(make_cfg(tmp_path, "sam", *opts))
    assert not (tmp_path / "out").exists()
    model = build_model(make_cfg(tmp_path, "sam")).train()
    with pytest.raises(ConfigError, match="SAM has nothing to train"):
        model([])

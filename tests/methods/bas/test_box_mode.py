"""BAS on crops of boxes: what it sees and learns from, and the masks that it makes."""

import json
from itertools import product

import numpy as np
import pytest
import torch

from tests.generating import by_id, generate
from tests.masks import needs_crf
from tests.methods.bas.test_run import KEYS
from tests.methods.bas.tiny import make_network
from tests.tiny import SIZE, write_config, write_dataset
from wsis.config import load_cfg
from wsis.data.crops import context_windows, padded_crop
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisTrainer
from wsis.errors import ConfigError, DataError
from wsis.layers.box_maps import BoxMapParams, fitting_threshold
from wsis.methods.bas import BASBox
from wsis.methods.bas.box_losses import box_cells, map_tightness, outside_area
from wsis.methods.bas.box_refiner import MAPS, WINDOWS, BASBoxRefiner
from wsis.methods.bas.config import BASBoxParams, BASParams
from wsis.structures import Seed


def test_windows_and_crops():
    boxes = [[10, 20, 30, 60], [0, 0, 3.5, 3.5]]
    windows = context_windows(boxes, 1.5)
    assert windows.tolist() == [[5, 10, 35, 70], [-1, -1, 5, 5]]
    image = np.random.default_rng(0).integers(0, 256, (64, 40, 3), dtype=np.uint8)
    crop = padded_crop(image, [-2, 60, 4, 66], 6, (7.4, 8, 9))
    expected = np.full((6, 6, 3), (7, 8, 9), np.uint8)
    expected[:4, 2:] = image[60:64, :4]
    assert np.array_equal(crop, expected)
    assert (
        padded_crop(image, [50, 70, 60, 80], 4, (1, 2, 3)).reshape(-1, 3).tolist()
        == [[1, 2, 3]] * 16
    )


def test_what_a_box_tells():
    inside = box_cells(torch.tensor([[0.25, 0.5, 0.75, 1.0]]), (4, 8))
    assert inside[0, 0].tolist() == [[0] * 8] * 2 + [[0, 0, 1, 1, 1, 1, 0, 0]] * 2
    foreground = torch.full((1, 1, 4, 8), 0.25)
    foreground[inside > 0] = 0.9
    assert outside_area(foreground, inside).item() == pytest.approx(0.25)
    assert outside_area(foreground, torch.ones_like(inside)) == 0
    sharp = inside.clamp(0.01, 0.99)
    assert map_tightness(sharp, inside) < 0.02 < map_tightness(1 - sharp, inside)


def seed_of(map_, box=(8, 8, 24, 32), window=(4, 4, 28, 36)):
    return Seed(
        image_id=1,
        file_name="a.png",
        height=40,
        width=40,
        boxes=np.array([box], np.float32),
        classes=np.zeros(1, np.int64),
        annotation_ids=(5,),
        maps={MAPS: map_[None].astype(np.float32), WINDOWS: np.array([window])},
    )


def test_the_threshold_that_fills_the_box():
    y, x = np.mgrid[:24, :16]
    inside = np.minimum(np.minimum(x + 1, 16 - x) / 8, np.minimum(y + 1, 24 - y) / 12)
    low, high = fitting_threshold(inside, 1.0), fitting_threshold(inside, 0.5)
    assert low == 0.1 or low == 0.05
    assert 0.2 < high < 0.4
    # a map that never fills its box, and one without contrast
    assert fitting_threshold(np.where((x < 4) & (y < 4), 0.6, 0.0), 0.9) == 0.55
    assert fitting_threshold(np.zeros((5, 5)), 0.9) == 0.95


def test_a_mask_stays_in_its_box():
    map_ = np.zeros((32, 24), np.float32)
    map_[2:26, 2:18] = 1  # 6..22 of the image in x, 6..30 in y; the box begins at 8
    masks = BASBoxRefiner(BoxMapParams(0.5))(seed_of(map_), np.zeros((40, 40, 3), np.uint8))
    mask = masks.to_instances().pred_masks[0].numpy()
    expected = np.zeros((40, 40), bool)
    expected[8:30, 8:22] = True
    assert (mask == expected).all()
    assert masks.scores[0] == pytest.approx(22 * 14 / (24 * 16)) and masks.status == ["ok"]
    flat = BASBoxRefiner(BoxMapParams(0.5))(
        seed_of(map_ * 0 + 0.3), np.zeros((40, 40, 3), np.uint8)
    )
    assert flat.status == ["empty"] and flat.scores == [0]


@needs_crf
def test_a_crf_follows_the_image():
    image = np.full((40, 40, 3), 30, np.uint8)
    image[8:32, 8:18] = 220
    map_ = np.full((32, 24), 0.1, np.float32)
    map_[4:28, 4:14] = 0.35  # what is bright
    map_[5:27, 5:12] = 0.8  # a part of it
    found = {
        refine: BASBoxRefiner(BoxMapParams(0.4, refine=refine))(seed_of(map_), image)
        for refine in (False, True)
    }
    areas = {k: int(v.to_instances().pred_masks[0][8:32, 8:18].sum()) for k, v in found.items()}
    assert areas[True] > areas[False]
    assert not found[True].to_instances().pred_masks[0][:, 24:].any()


def test_the_map_is_the_mean_with_its_mirror_image():
    network = make_network().eval()
    crops = torch.rand(2, 3, 32, 32)
    keys = {"pixel_mean": [0.0] * 3, "pixel_std": [1.0] * 3, "image_format": "RGB"}
    for top_k, mirrored in product((1, 0), (False, True)):
        params = BASParams(head_channels=0, top_k=top_k)
        model = BASBox(network=network, params=params, box=BASBoxParams(), **keys).eval()
        with torch.no_grad():
            shown = crops.flip(-1) if mirrored else crops
            features = network.backbone.trunk(torch.cat([shown, shown.flip(-1)]))
            maps = model.maps(features, torch.tensor([0, 2]))
            every = network.foreground(network.backbone.trunk(crops))
            other = network.foreground(network.backbone.trunk(crops.flip(-1))).flip(-1)
        mean = (every + other) / 2
        expected = mean[[0, 1], [0, 2]] if top_k else mean.mean(1)
        torch.testing.assert_close(maps.flip(-1) if mirrored else maps, expected)


# by the tools

BOX_KEYS = KEYS | {
    "MODEL__META_ARCHITECTURE": "BASBox",
    "MODEL__BAS_BOX": {"SIZE": 32, "TIGHTNESS_WEIGHT": 0.5, "MIN_SIDE": 8.0},
    "WSIS__SUPERVISION": "box",
}


@pytest.fixture
def make(tmp_path):
    write_dataset(tmp_path / "data", empty=1)

    def config(**keys):
        keys = {"MODEL__WEIGHTS": str(tmp_path / "w.pth"), "PROXY__NUM_WORKERS": 0} | keys
        cfg = load_cfg(write_config(tmp_path, tmp_path / "data", **BOX_KEYS | keys))
        prepare_datasets(cfg, cfg.DATASETS.TRAIN)
        return cfg

    return config


def test_crops_of_boxes(make):
    batch = next(iter(WsisTrainer.build_train_loader(make(SOLVER__IMS_PER_BATCH=2))))
    assert [each["image"].shape for each in batch] == [(3, 32, 32)] * 2
    for each in batch:
        x0, y0, x1, y1 = each["box"].tolist()
        assert 0 < x0 < 0.2 and 0.8 < x1 < 1 and 0 < y0 < 0.2 and 0.8 < y1 < 1
        assert each["tags"].sum() == 1


@pytest.mark.parametrize("region", ["crop", "shared"])
def test_training_and_masks_of_boxes(make, tmp_path, region):
    cfg = make(SOLVER__IMS_PER_BATCH=2, MODEL__BAS_BOX__REGION=region)
    torch.manual_seed(1)
    BASBox.check_training_data(cfg)
    model = WsisTrainer.build_model(cfg)
    batch = next(iter(WsisTrainer.build_train_loader(cfg)))
    losses = model.train()(batch)
    assert {"loss_outside", "loss_tightness", "loss_suppression"} <= losses.keys()
    sum(losses.values()).backward()
    assert model.network.generator.weight.grad.any()
    torch.save({"model": model.state_dict()}, tmp_path / "w.pth")
    result = generate(cfg)
    assert result.exit_status == 0
    found = by_id(result)
    assert len(found) == 3 and {a["status"] for a in found.values()} <= {"ok", "empty"}
    assert all(0 <= a["score"] <= 1 for a in found.values())


@pytest.mark.parametrize("region", ["crop", "shared"])
def test_boxes_of_one_class_are_told(make, tmp_path, caplog, region):
    path = tmp_path / "data" / "boxes.json"
    document = json.loads(path.read_text())
    for annotation in document["annotations"]:
        annotation["category_id"] = document["categories"][0]["id"]
    path.write_text(json.dumps(document))
    BASBox.check_training_data(make(MODEL__BAS_BOX__REGION=region))
    assert caplog.text.count("all of 3 boxes have the same class: a classifier has") == 1


def test_what_it_does_not_take(make, tmp_path):
    with pytest.raises(DataError, match="found no box with sides of at least 40 pixels"):
        WsisTrainer.build_train_loader(make(MODEL__BAS_BOX__MIN_SIDE=40.0))
    for region in ("crop", "shared"):
        cfg = make(WSIS__SUPERVISION="image", MODEL__BAS_BOX__REGION=region)
        for refuse in (BASBox.check_training_data, WsisTrainer.build_train_loader):
            with pytest.raises(ConfigError, match="SUPERVISION: found 'image', expected box: BAS"):
                refuse(cfg)
    with pytest.raises(ConfigError, match=r"BAS_BOX.CONTEXT_RANGE: found \[1.5, 1.2\]"):
        WsisTrainer.build_model(make(MODEL__BAS_BOX__CONTEXT_RANGE=[1.5, 1.2]))
    assert json.loads((tmp_path / "data" / "boxes.json").read_text())["images"][0]["width"] == SIZE

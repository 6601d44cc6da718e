"""The classifier in training and in eval mode, and its refiner."""

import pickle

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from tests.masks import needs_crf
from tests.methods.bana.plain import pool_box_by_box
from tests.methods.bana.tiny_classifier import make_cfg, make_classifier, make_inputs, make_sample
from tests.methods.bana.tiny_segmentor import data_entry
from tests.tiny import write_dataset, write_json
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisTrainer
from wsis.engine.generation import generate_proxy_masks
from wsis.engine.solver import build_optimizer
from wsis.errors import ConfigError
from wsis.layers.dense_crf import DenseCRFParams
from wsis.methods.bana import BANAClassifier, classifier
from wsis.methods.bana.pooling import PoolingParams
from wsis.methods.bana.pseudo_labels import LabelParams
from wsis.structures.boxes import box_to_slices
from wsis.structures.rle import decode_mask, encode_mask

PIXEL_MEAN = [103.53, 116.28, 123.675]
BATCH = [([[5, 6, 30, 40], [20, 10, 60, 62]], [0, 1]), ([[1, 1, 20, 20]], [1])]
SIZE, BOXES = (40, 56), [[4.0, 5.0, 26.0, 30.0], [30.0, 8.0, 52.0, 36.0]]


def samples(batch=BATCH):
    return [make_sample(*each) for each in batch]


def test_it_learns_the_classes_of_its_boxes():
    model, batch, losses = make_classifier().train(), samples(), []
    optimizer = build_optimizer(make_cfg(), model)
    for _ in range(25):
        loss = model(batch)["loss_cls"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("pooling", ["bap", "gap"])
@pytest.mark.parametrize("batch", [BATCH, [([], []), BATCH[1]], [([], [])] * 2], ids=str)
def test_batches_with_few_boxes_or_none(pooling, batch):
    model = make_classifier(MODEL__BANA__POOLING=pooling).train()
    loss = model(samples(batch))["loss_cls"]
    loss.backward()
    assert torch.isfinite(loss) and loss > 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    ("keys", "params"),
    [
        ({}, PoolingParams()),
        ({"POOLING": "gap"}, PoolingParams(aware=False)),
        ({"GRID_SIZE": 2, "ROI_SIZE": [1, 3]}, PoolingParams(grid_size=2, roi_size=(1, 3))),
        ({"ROI_ALIGN_CORNERS": False}, PoolingParams(align_corners=False)),
        ({"MIN_BACKGROUND": 0.7}, PoolingParams(min_background=0.7)),
    ],
    ids=str,
)
def test_the_loss_is_that_of_the_keys_and_of_the_plain_way(keys, params):
    model = make_classifier(**{f"MODEL.BANA.{k}": value for k, value in keys.items()}).train()
    with torch.no_grad():
        model.classifier.weight *= 30
    batch = samples()
    loss = model(batch)["loss_cls"]
    mean, std = (torch.tensor(v)[:, None, None] for v in (PIXEL_MEAN, [57.0] * 3))
    features = model.backbone(torch.stack([(s["image"] - mean) / std for s in batch]))["fc7"]
    boxes = torch.tensor([box for each in BATCH for box in each[0]]) / 31.5 - 1
    masks = torch.stack([sample["background"] for sample in batch]).float()
    image = torch.tensor([0, 0, 1])
    pooled, queries, counts, _ = pool_box_by_box(features, masks, boxes, image, params)
    queries = queries[counts > 0]
    rows = torch.cat([pooled.flatten(0, 1), queries]) @ model.classifier.weight[:, :, 0, 0].T
    classes = torch.tensor([1, 2, 2]).repeat_interleave(pooled.shape[1])
    targets = torch.cat([classes, torch.zeros(len(queries), dtype=torch.int64)])
    assert loss.item() == pytest.approx(torch.nn.functional.cross_entropy(rows, targets).item())


def test_boxes_are_never_pooled_in_half_precision(monkeypatch):
    model, seen, pools = make_classifier().train(), [], []
    model.backbone.register_forward_hook(lambda module, inputs, output: seen.append(output["fc7"]))
    plain = classifier.background_aware_pooling
    spy = lambda *a: pools.append(plain(*a)) or pools[0]  # noqa: E731
    monkeypatch.setattr(classifier, "background_aware_pooling", spy)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(samples())["loss_cls"]
    assert seen[0].dtype == torch.bfloat16
    assert {loss.dtype, pools[0].windows.dtype, pools[0].queries.dtype} == {torch.float32}


def test_nothing_at_all_is_a_loss_of_zero():
    sample = make_sample([], [])
    sample["background"][:] = 0
    loss = make_classifier().train()([sample, sample])["loss_cls"]
    loss.backward()
    assert loss == 0


@torch.no_grad()
def refined(void=(), classes=(1, 0), **keys):
    """What the refiner makes of an image, and the seed."""
    model = make_classifier(PROXY__SEM_SEG=True, **keys).eval()
    inputs = make_inputs(BOXES, list(classes))
    (seed,) = pickle.loads(pickle.dumps(model.propose([inputs])))
    seed.void = list(void)
    return pickle.loads(pickle.dumps(model.refiner()))(seed, inputs["original_image"]), seed


def window(box):
    out = np.zeros(SIZE, bool)
    out[box_to_slices(box, *SIZE)] = True
    return out


@needs_crf
def test_eval_mode_makes_a_mask_per_box_and_three_labels():
    model = make_classifier(PROXY__SEM_SEG=True).eval()
    result, nothing = model([make_inputs(BOXES, [1, 0]), make_inputs([], [])])
    proxy, labels = result["proxy"], result["sem_seg"]
    assert proxy.annotation_ids.tolist() == [11, 12] and proxy.gt_classes.tolist() == [1, 0]
    assert proxy.pred_masks.shape == (2, *SIZE)
    assert set(labels) == set(model.label_names) == {"y_crf", "y_ret", "intersection"}
    for mask, box, value in zip(proxy.pred_masks.numpy(), BOXES, (2, 1), strict=True):
        expected = window(box) & (labels["y_crf"] == value)
        assert np.array_equal(mask, expected if expected.any() else window(box))
    assert len(nothing["proxy"]) == 0
    assert not any(label.any() for label in nothing["sem_seg"].values())


@needs_crf
def test_masks_of_the_intersection_ignore_where_the_labels_differ():
    masks, seed = refined(MODEL__BANA__MASK_LABEL="intersection")
    assert {name: value.shape for name, value in seed.maps.items()} == {"features": (64, 5, 7)}
    assert seed.maps["features"].dtype == np.float32
    label = masks.sem_seg["intersection"]
    for i, (box, value) in enumerate(zip(seed.boxes, (2, 1), strict=True)):
        if masks.status[i] == "ok":
            assert np.array_equal(decode_mask(masks.masks[i]), window(box) & (label == value))
            ignored = masks.ignore_masks[i]
            found = np.zeros(SIZE) if ignored is None else decode_mask(ignored)
            assert np.array_equal(found, window(box) & (label == 255))
    assert "ok" in masks.status


@pytest.fixture
def asked(monkeypatch):
    """The arguments of each call for labels, which become all background."""
    seen = []

    def spy(*arguments):
        seen.append(arguments)
        return np.zeros((2, *arguments[2].size), np.uint8)

    monkeypatch.setattr("wsis.methods.bana.refiner.semantic_labels", spy)
    return seen


@needs_crf
def test_labels_are_asked_for_as_seed_and_keys_say(asked):
    region = np.zeros(SIZE, bool)
    region[:, 54:] = True
    refined()
    refined(void=[encode_mask(region)])
    refined(MODEL__BANA__LEGACY_BOX_SHIFT=True)
    keys = {"BG_THRESHOLD": 0.5, "USE_ATTENTION": False, "CRF.BILATERAL_WEIGHT": 7.0}
    refined(**{f"MODEL.BANA.{name}": value for name, value in keys.items()})
    background, first = zip(
        *((each[2].background, each[2].boxes[0]) for each in asked), strict=True
    )
    assert torch.equal(background[0] & ~background[1], torch.from_numpy(region))
    assert (first[0], first[2]) == ((slice(5, 30), slice(4, 26)), (slice(6, 30), slice(5, 26)))
    assert asked[3][5] == LabelParams(DenseCRFParams(3.0, 3.0, 7.0, 10.0, 20.0, 3), 0.5, False)


@needs_crf
@pytest.mark.parametrize("sem_seg", [False, True])
def test_a_crowd_is_no_background_whatever_else_is_made(tmp_path, asked, sem_seg):
    document = write_dataset(tmp_path / "data", number=1)
    crowd = {"id": 9, "iscrowd": 1, "bbox": [40, 44, 20, 16]}
    document["annotations"].append(document["annotations"][0] | crowd)
    write_json(tmp_path / "data", document)
    cfg = make_cfg(
        DATASETS__CUSTOM=[data_entry("tiny", tmp_path)],
        DATASETS__TRAIN=("tiny",),
        OUTPUT_DIR=str(tmp_path / "out"),
        PROXY__SEM_SEG=sem_seg,
        MODEL__WEIGHTS=str(tmp_path / "weights.pth"),
    )
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    model = build_model(cfg)
    torch.save(model.state_dict(), cfg.MODEL.WEIGHTS)
    generate_proxy_masks(cfg, model)
    (batch,) = WsisTrainer.build_test_loader(cfg, "tiny")
    model.eval()(batch)
    x, y, width, height = document["annotations"][0]["bbox"]
    assert len(asked) == 2, "in a generation and in eval mode"
    for background in (arguments[2].background for arguments in asked):
        assert not background[44:60, 40:60].any()
        assert background.sum() == 64 * 64 - width * height - 20 * 16


VOC = {"MODEL.BANA.VOC_CLASSIFIER": True}


@needs_crf
def test_a_voc_classifier_on_coco():
    keys = VOC | {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 81}
    masks, _ = refined(classes=(0, 79), **keys)
    assert set(np.unique(masks.sem_seg["y_crf"])) <= {0, 1, 80}
    model = make_classifier(**keys)
    assert model.classifier.weight.shape[0] == 21
    with pytest.raises(ConfigError, match="MODEL.BANA.VOC_CLASSIFIER: found True"):
        model.build_train_loader(make_cfg(**keys))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (VOC, r"MODEL\.BANA\.VOC_CLASSIFIER: found True"),
        ({"WSIS.SUPERVISION": "image"}, r"WSIS\.SUPERVISION: found 'image', expected box"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_made(keys, message):
    with pytest.raises(ConfigError, match=message):
        BANAClassifier.check_training_data(make_cfg(**keys))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.BANA.POOLING", "max", "MODEL.BANA.POOLING: found 'max', expected one of bap, gap"),
        ("MODEL.BANA.GRID_SIZE", 0, "MODEL.BANA.GRID_SIZE: found 0"),
        ("MODEL.BANA.ROI_SIZE", [2], r"MODEL.BANA.ROI_SIZE: found \[2\]"),
        ("MODEL.BANA.MIN_BACKGROUND", 1.0, "MODEL.BANA.MIN_BACKGROUND: found 1.0"),
        ("MODEL.BANA.MASK_LABEL", "y", "MODEL.BANA.MASK_LABEL: found 'y', expected one of y_crf"),
        ("INPUT.SCALED_CROP.SCALE_RANGE", [2.0, 1.0], "INPUT.SCALED_CROP.SCALE_RANGE"),
        ("INPUT.SCALED_CROP.JITTER", 1.0, "INPUT.SCALED_CROP.JITTER: found 1.0"),
        ("MODEL.BANA.CRF.ITERATIONS", 0, "iterations is 0"),
        ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 256, "found 256, expected 2 to 255"),
        ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 0, "found 0, expected 2 to 255"),
        (*VOC, True, "found a dataset of 2 classes, expected COCO's 80"),
    ],
)
def test_values_out_of_range_are_named(key, value, message):
    with pytest.raises(ConfigError, match=message):
        build_model(make_cfg(**{key: value}))

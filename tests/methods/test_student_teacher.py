"""A student's masks of given boxes: those of its own inference, its classes, and a round of self-training."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from tests.tiny import SIZE, write_config, write_dataset
from wsis.config import load_cfg
from wsis.errors import ConfigError
from wsis.layers.window_crf import WindowCRFParams
from wsis.methods.student_teacher import StudentTeacher
from wsis.methods.student_teacher.config import StudentTeacherParams
from wsis.methods.student_teacher.refiner import PROBABILITIES, StudentRefiner, mean_inside
from wsis.structures import Seed
from wsis.structures.rle import decode_mask, encode_mask

KINDS = {
    "specific": {},
    "agnostic": {"MODEL__ROI_MASK_HEAD__CLS_AGNOSTIC_MASK": True},
    "cascade": {
        "MODEL__ROI_HEADS__NAME": "CascadeROIHeads",
        "MODEL__ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG": True,
    },
    "c4": {
        "MODEL__BACKBONE__NAME": "build_resnet_backbone",
        "MODEL__RESNETS__OUT_FEATURES": ["res4"],
        "MODEL__RPN__IN_FEATURES": ["res4"],
        "MODEL__ROI_HEADS__NAME": "Res5ROIHeads",
        "MODEL__ROI_HEADS__IN_FEATURES": ["res4"],
        "MODEL__ROI_MASK_HEAD__NUM_CONV": 0,
        "MODEL__ANCHOR_GENERATOR__SIZES": [[8, 16, 32]],
    },
    "points": {
        "MODEL__ROI_MASK_HEAD__NAME": "PointRendMaskHead",
        "MODEL__ROI_MASK_HEAD__POOLER_TYPE": "",
        "MODEL__ROI_MASK_HEAD__FC_DIM": 16,
        "MODEL__ROI_MASK_HEAD__POOLER_RESOLUTION": 14,
        "MODEL__ROI_MASK_HEAD__POINT_HEAD_ON": True,
        "MODEL__POINT_HEAD__FC_DIM": 16,
    },
}
"""Students, and what makes them of :data:`tests.tiny.MODEL`."""


@pytest.fixture
def make_cfg(tmp_path):
    """``make_cfg(key=value, ...)``: of a student with two classes."""

    def make(**changes):
        keys = {"MODEL__MASK_ON": True, "MODEL__META_ARCHITECTURE": "StudentTeacher"}
        keys |= {f"MODEL__{head}__NUM_CLASSES": 2 for head in ("ROI_HEADS", "POINT_HEAD")}
        return load_cfg(write_config(tmp_path, tmp_path, **keys | changes))

    return make


@pytest.fixture
def make(make_cfg):
    """``make(kind, key=value, ...)``: a teacher whose probabilities are anything but one half."""

    def made(kind="specific", **changes):
        torch.manual_seed(1)
        model = build_model(make_cfg(**KINDS[kind], **changes)).eval()
        head = model.roi_heads.mask_head
        lasts = (
            [head.predictor]
            if hasattr(head, "predictor")
            else [head.point_head.predictor, head.coarse_head.prediction]
        )
        for last in lasts:
            torch.nn.init.normal_(last.weight, std=1.0)
        return model

    return made


def inputs(boxes, classes=None, size=(SIZE, SIZE), image=None):
    """A random image of 64 x 64 for the network, of another size in the file, with boxes of the network's pixels."""
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    at = Instances((SIZE, SIZE), gt_boxes=Boxes(boxes))
    at.original_boxes = boxes * torch.tensor([size[1] / SIZE, size[0] / SIZE] * 2)
    at.gt_classes = torch.zeros(len(boxes)).long() if classes is None else torch.as_tensor(classes)
    at.annotation_ids = torch.arange(len(boxes))
    if image is None:
        image = torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8)
    about = {"height": size[0], "width": size[1], "image_id": 1, "file_name": ""}
    return {
        "image": image,
        "instances": at,
        "original_image": np.zeros((*size, 3), np.uint8),
        **about,
    }


def proxy(model, *args, **kwargs):
    """The dense result of :func:`inputs`."""
    with torch.no_grad():
        return model([inputs(*args, **kwargs)])[0]["proxy"]


@pytest.mark.parametrize("kind", KINDS)
def test_its_own_boxes_have_the_masks_of_its_own_inference(make, kind):
    model, image = make(kind), torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8)
    with torch.no_grad():
        own = model.detector.inference([{"image": image, "height": SIZE, "width": SIZE}])[0][
            "instances"
        ]
    assert len(own) > 4
    found = proxy(model, own.pred_boxes.tensor, own.pred_classes, image=image)
    assert 0 < own.pred_masks.float().mean() < 1
    filled = np.array([status == "ok" for status in found.status])
    assert torch.equal(found.pred_masks[filled], own.pred_masks[filled])
    assert filled.tolist() == own.pred_masks.flatten(1).any(dim=1).tolist()

    larger = proxy(model, own.pred_boxes.tensor, own.pred_classes, (2 * SIZE, 2 * SIZE), image)
    smaller = larger.pred_masks[:, ::2, ::2]
    assert (smaller == found.pred_masks).float().mean() > 0.98


def test_no_boxes_tiny_ones_and_those_of_the_border(make):
    model = make("agnostic")
    assert len(proxy(model, [])) == 0
    torch.nn.init.zeros_(model.roi_heads.mask_head.predictor.weight)
    torch.nn.init.constant_(model.roi_heads.mask_head.predictor.bias, 3.0)
    boxes = [[10, 20, 11, 21], [0, 0, 64, 64], [60, 0, 64, 5], [20.2, 20.2, 20.4, 20.4]]
    found = proxy(model, boxes)
    expected = torch.zeros(4, SIZE, SIZE, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(expected, boxes[:3], strict=False):
        mask[y0:y1, x0:x1] = True
    masks = found.pred_masks[:3]
    assert not (masks & ~expected[:3]).any()
    assert (expected[:3] & ~masks).sum(dim=(1, 2)).tolist() == [0, 12, 0]  # three of each corner
    assert found.status == ["ok"] * 3 + ["empty"]  # no pixel's centre lies in it
    assert found.scores.tolist() == pytest.approx([torch.tensor(3.0).sigmoid().item()] * 3 + [0])


def test_the_class_chooses_the_mask(make):
    boxes = [[4, 4, 40, 40]] * 2
    specific, agnostic = (
        proxy(make(kind), boxes, [0, 1]).pred_masks for kind in ("specific", "agnostic")
    )
    assert not torch.equal(*specific) and torch.equal(*agnostic)
    mapped = make(MODEL__STUDENT_TEACHER__CLASS_MAP=[1, 0, 1])
    plain, image = make(), torch.zeros(3, SIZE, SIZE, dtype=torch.uint8)
    mapped.load_state_dict(plain.state_dict())
    found = proxy(mapped, boxes * 2, [0, 1, 2, 0], image=image).pred_masks
    assert torch.equal(found, proxy(plain, boxes * 2, [1, 0, 1, 1], image=image).pred_masks)


def test_means_over_scales_and_mirror_images(make):
    model, image = make(), torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8)
    boxes = torch.tensor([[4.0, 6, 30, 50], [40, 10, 60, 30], [0, 0, 64, 20]])

    def probabilities(boxes=boxes, image=image, **options):
        model.params = StudentTeacherParams(**options)
        with torch.no_grad():
            return model.propose([inputs(boxes, [0, 1, 1], image=image)])[0].maps[PROBABILITIES]

    plain, both = probabilities(), probabilities(flip=True)
    turned = torch.stack([SIZE - boxes[:, 2], boxes[:, 1], SIZE - boxes[:, 0], boxes[:, 3]], dim=1)
    mirrored = probabilities(turned, image.flip(-1))[:, :, ::-1]
    np.testing.assert_allclose(both, (plain + mirrored) / 2, atol=1e-3)
    np.testing.assert_allclose(probabilities(flip=True, boxes_per_batch=2), both, atol=1e-3)
    twice = probabilities(scales=(2.0,))
    np.testing.assert_allclose(probabilities(scales=(1.0, 2.0)), (plain + twice) / 2, atol=1e-6)
    assert not np.allclose(twice, plain, atol=0.1)
    assert not np.allclose(both, plain, atol=0.1)


def test_the_score_is_the_mean_probability_inside():
    maps = np.array([[[0.9, 0.5], [0.4, 0.7]], [[0.1, 0.2], [0.3, 0.4]]])
    assert mean_inside(maps, 0.5).tolist() == pytest.approx([0.7, 0])


@pytest.mark.parametrize("refine", [False, True])
def test_colours_move_the_outline_of_what_is_found_and_nothing_else(refine):
    if refine:
        pytest.importorskip("pydensecrf")
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[10:40, 10:33] = 200
    maps = np.zeros((2, 10, 10), np.float32)
    maps[0, :, :7] = 1  # two columns are missing
    boxes = np.array([[10.0, 10, 40, 40], [50, 50, 60, 60]])
    about = {"image_id": 1, "file_name": "", "height": SIZE, "width": SIZE}
    seed = Seed(
        **about,
        boxes=boxes,
        classes=np.zeros(2, int),
        annotation_ids=(1, 2),
        maps={PROBABILITIES: maps},
    )
    found = StudentRefiner(0.5, WindowCRFParams(refine=refine))(seed, image)
    assert found.status == ["ok", "empty"] and list(found.scores) == [1, 0]
    columns = np.flatnonzero(decode_mask(found.masks[0]).any(axis=0))
    assert (columns[0], columns[-1]) == (10, 32 if refine else 30)


COCO = MetadataCatalog.get("coco_2017_val").thing_classes


@pytest.mark.parametrize(
    ("own", "known", "keys", "expected"),
    [
        (["cat", "dog"], ["cat", "dog"], {}, (0, [])),
        (["cat", "dog"], [], {}, (0, [])),
        (["dog", "cat"], ["cat", "cow", "dog"], {}, (3, [2, 0])),
        (["dog", "zebra"], [], {"CLASSES_OF": "coco_2017_val"}, (80, [COCO.index("dog"), COCO.index("zebra")])),
        (["dog", "gnu"], ["cat", "dog"], {"AGNOSTIC": True}, (2, [1, 0])),
    ],
)  # fmt: skip
def test_classes_match_by_name(make_cfg, own, known, keys, expected):
    agnostic = {"MODEL__ROI_MASK_HEAD__CLS_AGNOSTIC_MASK": keys.pop("AGNOSTIC", False)}
    cfg = make_cfg(**agnostic, **{f"MODEL__STUDENT_TEACHER__{k}": v for k, v in keys.items()})
    StudentTeacher.match_classes(cfg, own, known)
    node = cfg.MODEL.STUDENT_TEACHER
    assert expected == (node.NUM_CLASSES, node.CLASS_MAP)
    number = expected[0] or 2
    assert build_model(cfg).roi_heads.box_predictor.cls_score.out_features == number + 1


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "the weights know no class gnu of the data, but cat, dog, and their masks depend"),
        ({"CLASSES_OF": "nowhere"}, "CLASSES_OF: found 'nowhere', expected a dataset whose"),
    ],
)
def test_classes_that_do_not_match_are_refused(make_cfg, keys, message):
    cfg = make_cfg(**{f"MODEL__STUDENT_TEACHER__{k}": v for k, v in keys.items()})
    with pytest.raises(ConfigError, match=message):
        StudentTeacher.match_classes(cfg, ["dog", "gnu"], ["cat", "dog"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MODEL__MASK_ON": False}, "STUDENT: GeneralizedRCNN has no mask head for given boxes"),
        ({"MODEL__STUDENT_TEACHER__STUDENT": "FilledBox"}, "STUDENT: found 'FilledBox', expected"),
        ({"MODEL__STUDENT_TEACHER__SCALES": [0.0]}, "SCALES: found .0.0., expected one or more"),
    ],
)
def test_students_without_masks_are_refused(make_cfg, changes, message):
    with pytest.raises(ConfigError, match=message):
        build_model(make_cfg(**changes))


@pytest.fixture
def data(data):
    """The folder, where each object's mask is its box without a corner."""
    path = data / "boxes.json"
    document = json.loads(path.read_text())
    for annotation in document["annotations"]:
        mask = decode_mask(annotation["segmentation"])
        rows, columns = np.nonzero(mask)
        mask[rows[0] : rows[0] + 6, columns[0] : columns[0] + 6] = False
        annotation["segmentation"] = encode_mask(mask)
    path.write_text(json.dumps(document))
    return data


def train(run, folder, data, name, **changes):
    """Trains two steps of a student as the command line does; returns its output folder."""
    keys = {
        "MODEL__MASK_ON": True,
        "MODEL__ROI_MASK_HEAD__NAME": "ProxyMaskHead",
        "SOLVER__MAX_ITER": 2,
    }
    keys |= {"WSIS__SUPERVISION": "mask", "PROXY__NUM_WORKERS": 0}
    assert run(
        "train_net", "--config-file", write_config(folder / name, data, **keys | changes)
    ) == (0, "")
    return folder / name / "out"


def annotations(path):
    return json.loads(Path(path).read_text())["annotations"]


ROUND = {"MODEL__META_ARCHITECTURE": "StudentTeacher", "PROXY__GENERATE_AFTER_TRAIN": True}


def test_some_masks_make_the_others_and_these_make_a_round(tmp_path, data, run):
    """From a file where half of the boxes have masks to the masks of the round after, one command each."""
    document = json.loads((data / "boxes.json").read_text())
    for annotation in document["annotations"][::2]:
        del annotation["segmentation"]
    (data / "boxes.json").write_text(json.dumps(document))
    first = train(run, tmp_path, data, "first", PROXY__KEEP_TRUE_MASKS=True, **ROUND)
    made = annotations(first / "proxy/tiny.json")
    kept = [a for a in made if a["status"] == "given"]
    assert [a["id"] for a in kept] == [52, 54]
    truth = {a["id"]: a for a in document["annotations"]}
    assert all(a["segmentation"] == truth[a["id"]]["segmentation"] for a in kept)
    assert {a["status"] for a in made} <= {"given", "ok", "empty"}

    custom = [["tiny", str(first / "proxy/tiny.json"), str(data)]]
    next_keys = {"DATASETS__CUSTOM": custom, "WSIS__SUPERVISION": "proxy"}
    second = train(
        run,
        tmp_path,
        tmp_path / "data",
        "second",
        PROXY__KEEP_TRUE_MASKS=True,
        **next_keys,
        **ROUND,
    )
    made = annotations(second / "proxy/tiny.json")
    assert [a["id"] for a in made] == [51, 52, 53, 54]
    assert [a["id"] for a in made if a["status"] == "given"] == [52, 54]

    plain = train(run, tmp_path, data, "plain", **next_keys)
    both = [
        torch.load(each / "model_final.pth", weights_only=True)["model"] for each in (second, plain)
    ]
    assert list(both[0]) == list(both[1])
    assert all(torch.equal(both[0][name], value) for name, value in both[1].items())


def test_weights_that_know_more_classes_than_the_data(tmp_path, data, run):
    """The categories of the file are those of the data, whatever numbers the weights have for them."""
    student = train(run, tmp_path, data, "student")
    document = write_dataset(tmp_path / "other", number=3)
    tall = [a | {"category_id": 9} for a in document["annotations"] if a["category_id"] == 7]

    def generate(name):
        category = [{"id": 9, "name": name}]
        (tmp_path / "other" / f"{name}.json").write_text(
            json.dumps(document | {"annotations": tall, "categories": category})
        )
        config = write_config(
            tmp_path / name,
            tmp_path / "other",
            DATASETS__CUSTOM=[
                ["tiny", str(tmp_path / f"other/{name}.json"), str(tmp_path / "other")]
            ],
            MODEL__META_ARCHITECTURE="StudentTeacher",
            MODEL__MASK_ON=True,
            MODEL__WEIGHTS=str(student / "model_final.pth"),
            PROXY__NUM_WORKERS=0,
        )
        return run("generate_proxy_masks", "--config-file", config)

    assert generate("tall") == (0, "")
    made = json.loads((tmp_path / "tall/out/proxy/tiny.json").read_text())
    assert made["categories"] == [{"id": 9, "name": "tall"}]
    assert [a["category_id"] for a in made["annotations"]] == [9] * len(tall)
    assert made["info"]["wsis"]["config"]["MODEL.STUDENT_TEACHER.CLASS_MAP"] == []  # in their order
    status, error = generate("gnu")
    assert status == 2 and "know no class gnu of the data, but wide, tall" in error

"""The procedural dataset: what is drawn, what is written, and that it is neither trivial nor torn."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from tests.data.converters import check_boxes_file, main_of
from wsis.data.builtin_paths import BUILTIN
from wsis.data.shapes import CATEGORIES, ShapesSpec, draw_scene, prepare_shapes
from wsis.data.shapes.forms import DISTRACTOR_FORMS, OBJECT_FORMS, SALIENT_FORMS
from wsis.data.shapes.scene import coverage, form_area
from wsis.data.source import load_source
from wsis.errors import ConfigError, DataError
from wsis.layers.box_shapes import filled_box
from wsis.layers.paste import place_crop
from wsis.methods.baselines.config import WindowParams
from wsis.methods.baselines.masks import grabcut
from wsis.structures.boxes import mask_to_box

SMALL = ShapesSpec(size=64, train=4, val=2, salient=3, seed=5)
JSONS = {"shapes_train_boxes", "shapes_train", "shapes_val", "shapes_salient"}


def _digests(folder):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _read(folder, name):
    return json.loads((folder / "annotations" / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets") / "shapes"
    assert prepare_shapes(folder, SMALL)
    return folder


def _solidity(name, rng):
    """Share of the convex hull that the form fills, and its elongation."""
    form = OBJECT_FORMS[name](rng)
    points = np.concatenate(form).astype(np.float32)
    hull = cv2.contourArea(cv2.convexHull(points))
    sides = cv2.minAreaRect(points)[1]
    return form_area(form) / hull, max(sides) / min(sides)


def test_object_forms_differ_in_form():
    rng = np.random.default_rng(0)
    solidity = {n: np.array([_solidity(n, rng) for _ in range(30)]) for n in OBJECT_FORMS}
    assert solidity["pebble"][:, 0].min() > 0.99 and solidity["pebble"][:, 1].max() < 2.2
    assert solidity["star"][:, 0].max() < 0.75 and solidity["crescent"][:, 0].max() < 0.8
    assert solidity["bar"][:, 1].min() > 2.2
    assert {len(OBJECT_FORMS[n](rng)) for n in OBJECT_FORMS if n != "ring"} == {1}
    assert len(OBJECT_FORMS["ring"](rng)) == 2
    forms = [*OBJECT_FORMS, *DISTRACTOR_FORMS, *SALIENT_FORMS]
    assert len(set(forms)) == len(forms)


@pytest.mark.parametrize("name", list(OBJECT_FORMS | DISTRACTOR_FORMS | SALIENT_FORMS))
def test_form_area_is_what_is_drawn(name):
    rng = np.random.default_rng(1)
    make = (OBJECT_FORMS | DISTRACTOR_FORMS | SALIENT_FORMS)[name]
    for _ in range(5):
        form = make(rng)
        assert np.abs(np.concatenate(form)).max() < 1.3
        drawn = coverage([40 * contour + 60 for contour in form], 120).sum() / 40**2
        # Distractors are not annotated: only where their thick lines overlap do the two differ.
        assert drawn == pytest.approx(form_area(form), rel=0.12 if name == "squiggle" else 0.06)


def test_scenes_hold_disjoint_visible_objects():
    counts = set()
    for index in range(25):
        scene = draw_scene(0, "train", index, 96)
        assert scene.image.shape == (96, 96, 3) and scene.image.dtype == np.uint8
        assert scene.masks.shape == (len(scene.classes), 96, 96)
        assert scene.masks.sum(axis=0).max() == 1
        assert scene.masks.sum(axis=(1, 2)).min() >= 0.002 * 96**2
        counts.add(len(scene.classes))
    assert counts == {1, 2, 3, 4, 5}


def test_some_objects_are_occluded_and_some_are_cut_by_the_border():
    scenes = [draw_scene(0, "train", index, 96) for index in range(25)]
    masks = np.concatenate([scene.masks for scene in scenes])
    cut = masks[:, 0].any(1) | masks[:, -1].any(1) | masks[:, :, 0].any(1) | masks[:, :, -1].any(1)
    assert 0.15 < cut.mean() < 0.6
    pebbles = [m for s in scenes for m, k in zip(s.masks, s.classes, strict=True) if k == 0]
    dents = 0
    for mask in pebbles:  # a pebble that is not convex lies behind something
        hull = np.zeros(mask.shape, dtype=np.uint8)
        cv2.fillPoly(hull, [cv2.convexHull(np.argwhere(mask)[:, ::-1].astype(np.int32))], 1)
        dents += bool(mask.sum() < 0.85 * hull.sum())
    assert dents >= 1


def test_salient_scene_is_one_centred_object():
    for index in range(10):
        scene = draw_scene(0, "salient", index, 96)
        assert scene.classes == (0,)
        box = mask_to_box(scene.masks[0])
        assert np.abs((box[:2] + box[2:]) / 2 - 48).max() < 24


def test_scene_depends_on_seed_split_and_index():
    first = draw_scene(0, "train", 3, 64)
    assert np.array_equal(first.image, draw_scene(0, "train", 3, 64).image)
    for other in ((1, "train", 3), (0, "val", 3), (0, "train", 4)):
        assert not np.array_equal(first.image, draw_scene(*other, 64).image)


def test_neither_the_box_nor_colour_alone_gives_the_masks():
    box_iou, grabcut_iou = [], []
    for index in range(25):
        scene = draw_scene(0, "train", index, 128)
        for mask in scene.masks:
            box = mask_to_box(mask)
            filled = filled_box(box, *mask.shape)
            found = grabcut(scene.image, box, 5, WindowParams(2.0, 0.0, 0.1)) or filled
            proxy = place_crop(*found, *mask.shape)
            box_iou.append(mask.sum() / filled[0].size)
            grabcut_iou.append((proxy & mask).sum() / (proxy | mask).sum())
    assert 0.4 < np.mean(box_iou) < 0.6
    assert np.mean(box_iou) + 0.1 < np.mean(grabcut_iou) < 0.8


def test_written_files(dataset):
    assert {path.stem for path in (dataset / "annotations").iterdir()} == JSONS
    for name in JSONS:
        document = _read(dataset, name)
        assert document["info"]["shapes"] == {"version": 1, **asdict(SMALL)}
        # Only a teacher's file may carry `wsis`, else the guard would take true masks for proxies.
        assert "wsis" not in document["info"]
        for image in document["images"]:
            assert cv2.imread(str(dataset / "images" / image["file_name"])).shape == (64, 64, 3)
    assert _read(dataset, "shapes_val")["categories"] == CATEGORIES
    assert _read(dataset, "shapes_salient")["categories"] == [{"id": 1, "name": "object"}]
    assert len(_read(dataset, "shapes_salient")["annotations"]) == 3


def test_masks_and_boxes_in_the_file_are_those_drawn(dataset):
    coco = COCO(str(dataset / "annotations" / "shapes_train.json"))
    for index in range(4):
        scene = draw_scene(5, "train", index, 64)
        image = cv2.imread(str(dataset / "images" / "train" / f"{index + 1:06d}.png"))
        assert np.array_equal(image[..., ::-1], scene.image)
        annotations = coco.imgToAnns[index + 1]
        assert [a["category_id"] - 1 for a in annotations] == list(scene.classes)
        for annotation, mask in zip(annotations, scene.masks, strict=True):
            assert np.array_equal(coco.annToMask(annotation).astype(bool), mask)
            assert annotation["area"] == mask.sum()
            x, y, w, h = annotation["bbox"]
            assert np.array_equal(mask_to_box(mask), [x, y, x + w, y + h])


def test_boxes_file_tells_nothing_of_the_masks(dataset):
    check_boxes_file(_read(dataset, "shapes_train"), _read(dataset, "shapes_train_boxes"))


def test_result_depends_neither_on_workers_nor_on_counts(dataset, tmp_path):
    prepare_shapes(tmp_path / "two", SMALL, workers=2)
    expected = _digests(dataset)
    assert _digests(tmp_path / "two") == expected
    prepare_shapes(tmp_path / "fewer", ShapesSpec(size=64, train=2, val=1, salient=1, seed=5))
    images = {k: v for k, v in _digests(tmp_path / "fewer").items() if k.endswith(".png")}
    assert len(images) == 4
    assert images.items() <= expected.items()


def test_second_run_does_nothing_and_a_killed_one_is_redone(tmp_path):
    assert prepare_shapes(tmp_path, SMALL)
    expected = _digests(tmp_path)
    assert not prepare_shapes(tmp_path, SMALL)
    (tmp_path / "annotations" / "shapes_val.json").unlink()
    (tmp_path / "images" / "val" / "000002.png").write_bytes(b"torn")
    assert prepare_shapes(tmp_path, SMALL)
    assert _digests(tmp_path) == expected


def test_no_json_before_all_images(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "imwrite", lambda path, image: "salient" not in path)
    with pytest.raises(DataError, match=r"salient.000001\.png: cannot be written"):
        prepare_shapes(tmp_path, SMALL)
    assert not (tmp_path / "annotations").exists()


def test_other_arguments_need_force(tmp_path):
    prepare_shapes(tmp_path, SMALL)
    expected = _digests(tmp_path)
    other = replace(SMALL, seed=6)
    made = r"shapes_train_boxes\.json: made with .*'seed': 5.*--force"
    with pytest.raises(DataError, match=made):
        prepare_shapes(tmp_path, other)
    assert _digests(tmp_path) == expected
    assert prepare_shapes(tmp_path, other, force=True)
    assert _read(tmp_path, "shapes_val")["info"]["shapes"]["seed"] == 6


def test_another_dataset_in_the_way(tmp_path):
    path = tmp_path / "annotations" / "shapes_train.json"
    path.parent.mkdir()
    path.write_text('{"images": []}')
    with pytest.raises(DataError, match=r"shapes_train\.json: made with None"):
        prepare_shapes(tmp_path, SMALL)
    assert path.read_text() == '{"images": []}'


@pytest.mark.parametrize(
    "wrong", [{"size": 63}, {"train": 0}, {"val": -1}, {"salient": 0}, {"seed": -1}]
)
def test_wrong_arguments(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"shapes {name}: found"):
        ShapesSpec(**wrong)


def test_tool_writes_where_the_builtin_names_look(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    command = ["--size", "64", "--train", "2", "--val", "1", "--salient", "1", "--workers", "1"]
    main = main_of("prepare_shapes")
    main(command)
    main(command)
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path / 'shapes'}: written",
        f"{tmp_path / 'shapes'}: already there",
    ]
    for name in JSONS:
        json_file, image_root = BUILTIN[name]
        source = load_source(tmp_path / json_file, tmp_path / image_root)
        assert all(Path(source.path_of(image)).is_file() for image in source.images)
        assert source.has_masks == (name != "shapes_train_boxes")

"""The samples that a training sees: which, in what order, made from what."""

import contextlib
import copy
import itertools
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.utils.events import EventStorage

from tests.masks import rectangle
from tests.tiny import SIZE, write_dataset, write_json
from wsis.config import get_cfg
from wsis.data.registration import prepare_datasets
from wsis.errors import ConfigError, DataError
from wsis.methods.boxcaseg import samples as module
from wsis.methods.boxcaseg.loader import TOGETHER, JointLoader, JointSamples, build_joint_loader
from wsis.methods.boxcaseg.sampler import EpochSampler
from wsis.methods.boxcaseg.samples import (
    BoxImage,
    SalientImage,
    SampleParams,
    box_images,
    box_samples,
    salient_images,
    sample_params,
    whole_sample,
)
from wsis.methods.boxcaseg.transforms import box_pixels
from wsis.structures.pseudo_labels import IGNORE
from wsis.structures.rle import encode_mask

SHARE = "MODEL.BOXCASEG.WEAK_SHARE"
WORKERS = "DATALOADER.NUM_WORKERS"


@contextlib.contextmanager
def edited(folder):
    """The document of a dataset, written back at the end."""
    document = json.loads((folder / "boxes.json").read_text())
    yield document
    write_json(folder, document)


@pytest.fixture
def folder(tmp_path):
    """``boxes``: four images with two objects each; ``salient``: three images with one mask each."""
    for name, number in (("boxes", 4), ("salient", 3)):
        write_dataset(tmp_path / name, number)
    with edited(tmp_path / "boxes") as document:
        for annotation in copy.deepcopy(document["annotations"]):
            second = {"id": annotation["id"] + 100, "bbox": [2.5, 3.5, 9.25, 7]}
            document["annotations"].append(annotation | second)
    with edited(tmp_path / "salient") as document:
        document["categories"][0]["name"] = "another"  # other classes than those of the boxes
    return tmp_path


@pytest.fixture
def make_cfg(folder):
    def make(*opts, boxes="boxes", salient=("salient",)):
        cfg = get_cfg()
        cfg.DATASETS.CUSTOM = [
            [f"{folder.name}_{name}", str(folder / name / "boxes.json"), str(folder / name)]
            for name in (boxes, "salient")
        ]
        cfg.DATASETS.TRAIN = (f"{folder.name}_{boxes}",)
        cfg.MODEL.BOXCASEG.SALIENT_DATASETS = [f"{folder.name}_{name}" for name in salient]
        cfg.MODEL.BOXCASEG.CROP_SIZE, cfg.MODEL.BOXCASEG.SALIENT_SIZE = 32, 40
        cfg.SOLVER.IMS_PER_BATCH, cfg.SEED, cfg.DATALOADER.NUM_WORKERS = 4, 7, 0
        cfg.merge_from_list(list(opts))
        prepare_datasets(cfg, cfg.DATASETS.TRAIN)
        return cfg

    return make


def take(loader, number):
    return list(itertools.islice(loader, number))


@pytest.fixture
def batches(make_cfg):
    """The first batches of a config."""

    def made(number, *opts, **keys):
        return take(build_joint_loader(make_cfg(*opts, **keys)), number)

    return made


@pytest.fixture
def joint(make_cfg):
    cfg = make_cfg()
    return JointSamples(box_images(cfg), salient_images(cfg), sample_params(cfg))


@pytest.fixture
def read_names(monkeypatch):
    """Names of the files that have been read."""
    names, real = [], module.read_image
    monkeypatch.setattr(
        module, "read_image", lambda name, *a: names.append(Path(name).name) or real(name, *a)
    )
    return names


def assert_equal(first, second):
    assert len(first) == len(second)
    for a, b in zip(itertools.chain(*first), itertools.chain(*second), strict=True):
        assert a["salient"] == b["salient"]
        torch.testing.assert_close(a["image"], b["image"], rtol=0, atol=0)
        torch.testing.assert_close(a["label"], b["label"], rtol=0, atol=0)


def key(sample):
    return sample["image"].numpy().tobytes()


def test_samples_are_what_the_network_takes(batches):
    samples = list(itertools.chain(*batches(6)))
    for sample in samples:
        assert sample["image"].shape == (3, 32, 32) and sample["image"].dtype == torch.float32
        assert sample["label"].shape == (1, 32, 32) and sample["label"].dtype == torch.float32
        assert set(sample["label"].unique().tolist()) <= {0.0, 1.0}
    assert {bool(sample["salient"]) for sample in samples} == {True, False}


@pytest.mark.parametrize("share", [0.0, 0.6875])
def test_same_batches_for_any_number_of_workers(batches, share):
    alone = batches(8, SHARE, share)
    assert_equal(batches(8, SHARE, share, WORKERS, 2), alone)
    if share:
        assert all(sum(sample["salient"] for sample in batch) == 2 for batch in alone)


def test_workers_start_after_opencv_has_worked_with_many_threads(batches):
    """Its pool of threads does not survive a fork: a worker that used it would wait for ever."""
    cv2.setNumThreads(4)
    cv2.GaussianBlur(np.zeros((2000, 2000), dtype=np.float32), (0, 0), 3)
    alone = batches(3)
    assert_equal(batches(3, WORKERS, 2), alone)


def test_seed_decides_and_resumed_training_goes_on_where_it_was(make_cfg, batches):
    first, again, other = (batches(4, "SEED", seed) for seed in (1, 1, 2))
    assert_equal(first, again)
    assert [key(s) for s in first[0]] != [key(s) for s in other[0]]

    whole, loader = batches(9), build_joint_loader(make_cfg())
    with EventStorage(5):
        assert_equal(take(loader, 4), whole[5:])


def test_every_box_once_an_epoch_with_a_new_window_each_and_images_read_once(batches, read_names):
    batches(2, salient=())  # 8 boxes of 4 images
    assert sorted(read_names) == ["1.png", "2.png", "3.png", "4.png"]
    made = [batch[0] for batch in batches(16, "SOLVER.IMS_PER_BATCH", 1, salient=())]
    assert len({key(sample) for sample in made}) == 16  # 8 boxes, two epochs
    assert not any(sample["salient"] for sample in made)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_processes_share_each_batch(joint, share):
    sampler = EpochSampler(joint.images, 3, 4, share, seed=7, processes=2)
    parts = [take(iter(JointLoader(joint, sampler, rank)), 6) for rank in range(2)]
    assert all(len(batch) == 2 for part in parts for batch in part)
    keys = [{key(sample) for batch in part for sample in batch} for part in parts]
    assert not keys[0] & keys[1]
    if share:
        for first, second in zip(*parts, strict=True):
            assert sum(sample["salient"] for sample in (*first, *second)) == 2


def test_task_spans_no_more_than_the_window(joint):
    # three salient images, 300 box crops in the one batch of an epoch
    loader, places = JointLoader(joint, EpochSampler(joint.images, 3, 600, 0.5)), []
    for task in itertools.islice(loader.tasks(), 500):
        assert task.places == sorted(task.places)
        assert task.places[-1] - task.places[0] < loader.sampler.window == 512
        assert len(task.samples) <= TOGETHER
        places += task.places
    assert len(places) == len(set(places))


def test_masks_of_the_boxes_have_no_influence(batches, folder):
    shutil.copytree(folder / "boxes", folder / "plain")
    with edited(folder / "plain") as document:
        for annotation in document["annotations"]:
            del annotation["segmentation"], annotation["area"]
    assert_equal(batches(5, boxes="plain"), batches(5))


# single samples


def write_image(folder, pixels):
    path = str(folder / "x.png")
    cv2.imwrite(path, pixels)
    return path, *pixels.shape[:2]


def test_box_sample_is_the_window_and_the_box_in_it(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    boxes = np.array([[10.0, 8.0, 30.0, 28.0], [0, 0, 1, 1], [49, 39, 50, 40]])
    image = BoxImage(*write_image(tmp_path, pixels[..., ::-1]), boxes)
    rngs = [np.random.default_rng(i) for i in range(3)]
    made, small = (
        box_samples(image, [0, 1, 2], rngs, SampleParams(32, 40, 0.0, (scale, scale), "legacy"))
        for scale in (1.5, 0.5)
    )
    np.testing.assert_array_equal(made.images[0], box_pixels(pixels[3:33, 5:35], 32, "legacy"))
    inside = rectangle((30, 30), 5, 5, 25, 25).astype(np.uint8)
    expected = cv2.resize(inside, (32, 32), interpolation=cv2.INTER_NEAREST_EXACT)
    np.testing.assert_array_equal(made.labels[0, 0], expected)
    assert np.isfinite(made.images).all() and small.labels[0].all()


def test_grey_image(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    named, rng = write_image(tmp_path, grey), np.random.default_rng(0)
    params = SampleParams(32, 40, 0, (1, 1), "legacy")
    made = box_samples(BoxImage(*named, np.array([[5.0, 5, 25, 25]])), [0], [rng], params)
    assert abs(made.images[0, 0] - made.images[0, 1]).max() > 0.03  # its own mean for each channel
    made = whole_sample(SalientImage(*named, (encode_mask(grey > 100),)), rng, params)
    np.testing.assert_array_equal(made.images[0, 0], made.images[0, 1])


def test_salient_mask_is_the_union_and_its_window_never_the_last(make_cfg, folder):
    with edited(folder / "salient") as document:
        extra = {"id": 900, "segmentation": [[40, 40, 60, 40, 60, 60]]}
        document["annotations"].append(document["annotations"][0] | extra)
    found, params = salient_images(make_cfg()), sample_params(make_cfg())
    assert [len(image.masks) for image in found] == [2, 1, 1]
    windows = [module.salient_window(np.random.default_rng(i), params) for i in range(300)]
    assert {w.top for w in windows} == {w.left for w in windows} == set(range(8))
    assert 0.4 < np.mean([w.flip_rows for w in windows]) < 0.6
    made = whole_sample(found[0], np.random.default_rng(0), params)
    assert made.salient and made.labels.any() and not made.labels.all()


def test_each_mask_that_a_teacher_found_is_a_salient_object(make_cfg, folder, caplog):
    with edited(folder / "salient") as document:
        first = document["annotations"][0]
        for number, status in enumerate(("ok", "fallback", "empty"), start=900):
            extra = {"id": number, "segmentation": [[40, 40, 60, 40, 60, 60]], "status": status}
            document["annotations"].append(first | extra)
    found = salient_images(make_cfg("MODEL.BOXCASEG.SALIENT_CROP", "object"))
    assert [len(image.masks) for image in found] == [1] * 4
    assert found[0].file_name == found[1].file_name
    assert "2 masks stand in for what was not found" in caplog.text


def test_what_a_mask_does_not_know_is_marked_unless_another_knows_it(make_cfg, folder):
    height, width = shape = 64, 80
    masks = rectangle(shape, 10, 10, 30, 30), rectangle(shape, 25, 10, 50, 30)
    unknown = rectangle(shape, 20, 10, 35, 30)
    codes = [encode_mask(mask) for mask in masks]
    both = SalientImage("x.png", height, width, tuple(codes), (encode_mask(unknown), None)).label()
    columns = {0: (0, 10), 1: (10, 20), IGNORE: (20, 25)}
    assert all((both[15, slice(*where)] == value).all() for value, where in columns.items())
    assert (both[15, 25:50] == 1).all() and not both[15, 50:].any() and not both[40:].any()
    with edited(folder / "salient") as document:
        first = document["annotations"][0]
        first["ignore_segmentation"] = first["segmentation"]
    found = salient_images(make_cfg())
    assert set(np.unique(found[0].label())) == {0, IGNORE}
    assert set(np.unique(found[1].label())) == {0, 1}
    made = whole_sample(found[0], np.random.default_rng(0), sample_params(make_cfg()))
    assert set(np.unique(made.labels)) == {0, IGNORE}


# input


def test_boxes_become_corners_and_crowds_are_left_out(make_cfg, folder):
    with edited(folder / "boxes") as document:
        x, y, width, height = document["annotations"][0]["bbox"]
    found = [image.boxes.tolist() for image in box_images(make_cfg())]
    assert found[0] == [[x, y, x + width, y + height], [2.5, 3.5, 11.75, 10.5]]
    assert [len(boxes) for boxes in found] == [2] * 4
    shutil.copytree(folder / "boxes", folder / "crowds")
    with edited(folder / "crowds") as document:
        for annotation in document["annotations"][4:]:
            annotation["iscrowd"] = 1
    assert [len(image.boxes) for image in box_images(make_cfg(boxes="crowds"))] == [1] * 4


@pytest.mark.parametrize(("threshold", "left"), [(0.5, "4"), (1.0, "1234")])
def test_boxes_that_overlap_are_dropped(batches, folder, read_names, threshold, left):
    with edited(folder / "boxes") as document:
        for annotation in document["annotations"]:
            if annotation["image_id"] < 4:
                annotation["bbox"] = [0, 0, SIZE, SIZE]
    opts = ("MODEL.BOXCASEG.OVERLAP_DROP", 1.0, "MODEL.BOXCASEG.OVERLAP_IOU", threshold)
    batches(6, *opts, "SOLVER.IMS_PER_BATCH", 2, salient=())
    assert set(read_names) == {f"{i}.png" for i in left}


@pytest.mark.parametrize(
    ("opts", "salient", "message"),
    [
        (
            ("INPUT.HIGH_BIT_DEPTH", "log"),
            ["salient"],
            "DEPTH: found 'log', expected minmax or shift",
        ),
        ((), ["boxes"], r"SALIENT_DATASETS: '.*_boxes' is in DATASETS.TRAIN too"),
    ],
)
def test_wrong_keys_are_named(make_cfg, opts, salient, message):
    with pytest.raises(ConfigError, match=message):
        build_joint_loader(make_cfg(*opts, salient=salient))


@pytest.mark.parametrize(
    ("name", "kept", "message"),
    [
        ("salient", 3, "of 3 annotations none has a 'segmentation'"),
        ("boxes", 0, "found no box, expected one at least"),
    ],
)
def test_nothing_to_train_on(make_cfg, folder, name, kept, message):
    with edited(folder / name) as document:
        document["annotations"] = document["annotations"][:kept]
        for annotation in document["annotations"]:
            del annotation["segmentation"]
    with pytest.raises(DataError, match=message):
        build_joint_loader(make_cfg("DATALOADER.FILTER_EMPTY_ANNOTATIONS", False))


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_image_is_one_line(make_cfg, folder, workers):
    loader = build_joint_loader(make_cfg(WORKERS, workers, salient=()))
    (folder / "boxes" / "3.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="3.png: cannot be read as an image") as error:
        take(loader, 9)
    assert "\n" not in str(error.value)

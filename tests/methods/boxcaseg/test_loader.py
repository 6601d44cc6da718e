"""The samples that a training sees: which, in what order, made from what."""

import copy
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage

from tests.tiny import SIZE, write_dataset
from wsis.config import get_cfg
from wsis.data.registration import prepare_datasets
from wsis.errors import ConfigError, DataError
from wsis.methods.boxcaseg import samples as samples_module
from wsis.methods.boxcaseg.loader import TOGETHER, JointLoader, JointSamples, build_joint_loader
from wsis.methods.boxcaseg.sampler import EpochSampler
from wsis.methods.boxcaseg.samples import (
    BoxImage,
    box_images,
    box_samples,
    salient_images,
    sample_params,
)
from wsis.methods.boxcaseg.transforms import box_pixels
from wsis.structures.rle import encode_mask

MakeCfg = Callable[..., CfgNode]


@pytest.fixture
def folder(tmp_path):
    """``boxes``: four images with two objects each; ``salient``: three images with one mask each."""
    document = write_dataset(tmp_path / "boxes")
    for annotation in copy.deepcopy(document["annotations"]):
        annotation["id"] += 100
        annotation["bbox"] = [2.5, 3.5, 9.25, 7]
        document["annotations"].append(annotation)
    write(tmp_path / "boxes", document)
    document = write_dataset(tmp_path / "salient", number=3)
    document["categories"][0]["name"] = "another"  # other classes than those of the boxes
    write(tmp_path / "salient", document)
    return tmp_path


def read(folder):
    return json.loads((folder / "boxes.json").read_text())


def write(folder, document):
    (folder / "boxes.json").write_text(json.dumps(document))


@pytest.fixture
def make_cfg(folder):
    def make(*opts, train="b", salient=("s",)):
        cfg = get_cfg()
        cfg.DATASETS.CUSTOM = [
            [f"{folder.name}_{name[0]}", str(folder / name / "boxes.json"), str(folder / name)]
            for name in ("boxes", "salient")
        ]
        cfg.DATASETS.TRAIN = (f"{folder.name}_{train}",)
        keys = cfg.MODEL.BOXCASEG
        keys.SALIENT_DATASETS = [f"{folder.name}_{name}" for name in salient]
        keys.CROP_SIZE, keys.SALIENT_SIZE = 32, 40
        cfg.SOLVER.IMS_PER_BATCH, cfg.SEED, cfg.DATALOADER.NUM_WORKERS = 4, 7, 0
        cfg.merge_from_list(list(opts))
        prepare_datasets(cfg, cfg.DATASETS.TRAIN)
        return cfg

    return make


def take(loader, number):
    return list(itertools.islice(loader, number))


def assert_equal(first, second):
    assert len(first) == len(second)
    for a, b in zip(itertools.chain(*first), itertools.chain(*second), strict=True):
        assert a["salient"] == b["salient"]
        torch.testing.assert_close(a["image"], b["image"], rtol=0, atol=0)
        torch.testing.assert_close(a["label"], b["label"], rtol=0, atol=0)


def key(sample):
    return sample["image"].numpy().tobytes()


def test_samples_are_what_the_network_takes(make_cfg):
    batches = take(build_joint_loader(make_cfg()), 6)
    for sample in itertools.chain(*batches):
        assert sample["image"].shape == (3, 32, 32) and sample["image"].dtype == torch.float32
        assert sample["label"].shape == (1, 32, 32) and sample["label"].dtype == torch.float32
        assert set(sample["label"].unique().tolist()) <= {0.0, 1.0}
    kinds = [sample["salient"] for sample in itertools.chain(*batches)]
    assert any(kinds) and not all(kinds)


def test_fixed_share_in_every_batch(make_cfg):
    cfg = make_cfg("MODEL.BOXCASEG.WEAK_SHARE", 0.6875)
    for batch in take(build_joint_loader(cfg), 8):
        assert sum(sample["salient"] for sample in batch) == 2


@pytest.mark.parametrize("share", [0.0, 0.6875])
def test_same_batches_for_any_number_of_workers(make_cfg, share):
    alone = take(build_joint_loader(make_cfg("MODEL.BOXCASEG.WEAK_SHARE", share)), 7)
    opts = ("MODEL.BOXCASEG.WEAK_SHARE", share, "DATALOADER.NUM_WORKERS", 2)
    assert_equal(take(build_joint_loader(make_cfg(*opts)), 7), alone)


def test_workers_start_after_opencv_has_worked_with_many_threads(make_cfg):
    """Its pool of threads does not survive a fork: a worker that used it would wait for ever."""
    cv2.setNumThreads(4)
    cv2.GaussianBlur(np.zeros((2000, 2000), dtype=np.float32), (0, 0), 3)
    alone = take(build_joint_loader(make_cfg()), 3)
    assert_equal(take(build_joint_loader(make_cfg("DATALOADER.NUM_WORKERS", 2)), 3), alone)


def test_seed_decides(make_cfg):
    first, again, other = (
        take(build_joint_loader(make_cfg("SEED", seed)), 4) for seed in (1, 1, 2)
    )
    assert_equal(first, again)
    assert [key(s) for s in first[0]] != [key(s) for s in other[0]]


def test_resumed_training_goes_on_where_it_was(make_cfg):
    whole = take(build_joint_loader(make_cfg()), 9)
    loader = build_joint_loader(make_cfg())
    with EventStorage(5):
        assert_equal(take(loader, 4), whole[5:])


def test_every_box_once_an_epoch_with_a_new_window_each(make_cfg):
    cfg = make_cfg("SOLVER.IMS_PER_BATCH", 1, salient=())
    made = [batch[0] for batch in take(build_joint_loader(cfg), 16)]
    assert len({key(sample) for sample in made}) == 16  # 8 boxes, two epochs
    assert not any(sample["salient"] for sample in made)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_processes_share_each_batch(make_cfg, share):
    cfg = make_cfg()
    samples = JointSamples(box_images(cfg), salient_images(cfg), sample_params(cfg))
    sampler = EpochSampler(samples.images, 3, 4, share, seed=7, processes=2)
    parts = [take(iter(JointLoader(samples, sampler, rank)), 6) for rank in range(2)]
    assert all(len(batch) == 2 for part in parts for batch in part)
    keys = [{key(sample) for batch in part for sample in batch} for part in parts]
    assert not keys[0] & keys[1]
    if share:
        for first, second in zip(*parts, strict=True):
            assert sum(sample["salient"] for sample in (*first, *second)) == 2


@pytest.fixture
def read_names(monkeypatch):
    """Names of the files that have been read."""
    names: list[str] = []
    real = samples_module.read_image

    def counted(name, *options):
        names.append(Path(name).name)
        return real(name, *options)

    monkeypatch.setattr(samples_module, "read_image", counted)
    return names


def test_an_image_is_read_once_for_all_its_boxes(make_cfg, read_names):
    take(build_joint_loader(make_cfg(salient=())), 2)  # 8 boxes of 4 images
    assert sorted(read_names) == ["1.png", "2.png", "3.png", "4.png"]


def test_task_spans_no_more_than_the_window(make_cfg):
    cfg = make_cfg()
    samples = JointSamples(box_images(cfg), salient_images(cfg), sample_params(cfg))
    # three salient images, 300 box crops in the one batch of an epoch
    loader = JointLoader(samples, EpochSampler(samples.images, 3, 600, 0.5))
    places = []
    for task in itertools.islice(loader.tasks(), 500):
        assert task.places == sorted(task.places)
        assert task.places[-1] - task.places[0] < loader.sampler.window == 512
        assert len(task.samples) <= TOGETHER
        places += task.places
    assert len(places) == len(set(places))


def test_masks_of_the_boxes_have_no_influence(make_cfg, folder):
    document = read(folder / "boxes")
    with_masks = take(build_joint_loader(make_cfg()), 5)
    for annotation in document["annotations"]:
        del annotation["segmentation"], annotation["area"]
    (folder / "plain").mkdir()
    write(folder / "plain", document)
    custom = [["plain", str(folder / "plain" / "boxes.json"), str(folder / "boxes")]]
    cfg = make_cfg()
    cfg.DATASETS.CUSTOM, cfg.DATASETS.TRAIN = custom + cfg.DATASETS.CUSTOM[1:], ("plain",)
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    assert_equal(take(build_joint_loader(cfg), 5), with_masks)


# single samples


def test_box_sample_is_the_window_and_the_box_in_it(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "x.png"), pixels[..., ::-1])
    boxes = np.array([[10.0, 8.0, 30.0, 28.0], [0, 0, 1, 1], [49, 39, 50, 40]])
    image = BoxImage(str(tmp_path / "x.png"), 40, 50, boxes)
    still = samples_module.SampleParams(32, 40, 0.0, (1.5, 1.5), "legacy")
    rngs = [np.random.default_rng(i) for i in range(3)]
    made = box_samples(image, [0, 1, 2], rngs, still)
    np.testing.assert_array_equal(made.images[0], box_pixels(pixels[3:33, 5:35], 32, "legacy"))
    inside = np.zeros((30, 30), dtype=bool)
    inside[5:25, 5:25] = True
    expected = cv2.resize(inside.astype(np.uint8), (32, 32), interpolation=cv2.INTER_NEAREST_EXACT)
    np.testing.assert_array_equal(made.labels[0, 0], expected)
    assert np.isfinite(made.images).all()
    small = samples_module.SampleParams(32, 40, 0.0, (0.5, 0.5), "legacy")
    assert box_samples(image, [0], rngs[:1], small).labels.all()


def test_grey_image(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "x.png"), grey)
    name, params = str(tmp_path / "x.png"), samples_module.SampleParams(32, 40, 0, (1, 1), "legacy")
    boxed = BoxImage(name, 40, 50, np.array([[5.0, 5, 25, 25]]))
    made = box_samples(boxed, [0], [np.random.default_rng(0)], params)
    assert abs(made.images[0, 0] - made.images[0, 1]).max() > 0.03  # its own mean for each channel
    mask = encode_mask(grey > 100)
    whole = samples_module.SalientImage(name, 40, 50, (mask,))
    made = samples_module.whole_sample(whole, np.random.default_rng(0), params)
    np.testing.assert_array_equal(made.images[0, 0], made.images[0, 1])


def test_salient_mask_is_the_union_and_its_window_never_the_last(make_cfg, folder):
    document = read(folder / "salient")
    extra = {**document["annotations"][0], "id": 900, "segmentation": [[40, 40, 60, 40, 60, 60]]}
    document["annotations"].append(extra)
    write(folder / "salient", document)
    found = salient_images(make_cfg())
    assert [len(image.masks) for image in found] == [2, 1, 1]
    params = sample_params(make_cfg())
    windows = [samples_module.salient_window(np.random.default_rng(i), params) for i in range(300)]
    assert {w.top for w in windows} == {w.left for w in windows} == set(range(8))
    assert 0.4 < np.mean([w.flip_rows for w in windows]) < 0.6
    made = samples_module.whole_sample(found[0], np.random.default_rng(0), params)
    assert made.salient and made.labels.any() and not made.labels.all()


# input


def test_crowds_are_left_out(make_cfg, folder):
    document = read(folder / "boxes")
    for annotation in document["annotations"][4:]:
        annotation["iscrowd"] = 1
    write(folder / "boxes", document)
    assert [len(image.boxes) for image in box_images(make_cfg())] == [1] * 4


@pytest.mark.parametrize(("threshold", "left"), [(0.5, {"4.png"}), (1.0, None)])
def test_boxes_that_overlap_are_dropped(make_cfg, folder, read_names, threshold, left):
    document = read(folder / "boxes")
    for annotation in document["annotations"]:
        if annotation["image_id"] < 4:
            annotation["bbox"] = [0, 0, SIZE, SIZE]
    write(folder / "boxes", document)
    keys = ("OVERLAP_DROP", 1.0, "OVERLAP_IOU", threshold)
    opts = [f"MODEL.BOXCASEG.{k}" if isinstance(k, str) else k for k in keys]
    take(build_joint_loader(make_cfg(*opts, "SOLVER.IMS_PER_BATCH", 2, salient=())), 6)
    assert set(read_names) == (left or {f"{i}.png" for i in range(1, 5)})


def test_boxes_become_corners(make_cfg, folder):
    first = read(folder / "boxes")["annotations"][0]["bbox"]
    x, y, width, height = first
    found = [image.boxes.tolist() for image in box_images(make_cfg())]
    assert found[0] == [[x, y, x + width, y + height], [2.5, 3.5, 11.75, 10.5]]
    assert [len(boxes) for boxes in found] == [2] * 4


def test_unknown_way_of_reading_deep_images(make_cfg):
    with pytest.raises(ConfigError, match="HIGH_BIT_DEPTH: found 'log', expected minmax or shift"):
        build_joint_loader(make_cfg("INPUT.HIGH_BIT_DEPTH", "log"))


def test_boxes_masks_in_both_lists(make_cfg):
    with pytest.raises(ConfigError, match=r"SALIENT_DATASETS: '.*_b' is in DATASETS.TRAIN too"):
        build_joint_loader(make_cfg(salient=("s", "b")))


def test_salient_dataset_without_masks(make_cfg, folder):
    document = read(folder / "salient")
    for annotation in document["annotations"]:
        del annotation["segmentation"]
    write(folder / "salient", document)
    with pytest.raises(DataError, match="none of 3 annotations has a 'segmentation'"):
        build_joint_loader(make_cfg())


def test_no_box_to_train_on(make_cfg, folder):
    write(folder / "boxes", read(folder / "boxes") | {"annotations": []})
    with pytest.raises(DataError, match="found no box, expected one at least"):
        build_joint_loader(make_cfg("DATALOADER.FILTER_EMPTY_ANNOTATIONS", False))


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_image_is_one_line(make_cfg, folder, workers):
    loader = build_joint_loader(make_cfg("DATALOADER.NUM_WORKERS", workers, salient=()))
    (folder / "boxes" / "3.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="3.png: cannot be read as an image") as error:
        take(loader, 9)
    assert "\n" not in str(error.value)

"""What a classifier of image tags is fed: sizes, places, colours, tags, and nothing of a box."""

from itertools import product

import numpy as np
import pytest
import torch
from detectron2.utils.env import seed_all_rng
from PIL import Image

from wsis.data import crop_loader
from wsis.data.tag_loader import TagMapper, eval_mapper, tag_records
from wsis.errors import ConfigError, DataError

CROP = "INPUT.TAG_CROP."
MEAN = [10.25, 20.5, 30.75]


@pytest.fixture
def make(make_document, register, make_cfg):
    """``make(opts, boxes=(2, 0, 1), change=None)``: the config of images of 48 x 64 pixels."""

    def config(*opts, boxes=(2, 0, 1), change=None):
        document = make_document(boxes)
        if change:
            change(document)
        keys = [f"{CROP}{k}" if k.isupper() and "." not in k else k for k in opts[::2]]
        words = [w for pair in zip(keys, opts[1::2], strict=True) for w in pair]
        name = register(document)
        return make_cfg("MODEL.PIXEL_MEAN", MEAN, *words, train=(name,))

    return config


@pytest.fixture
def record(tmp_path):
    """``record(height, width)``: a file whose red is the column, whose green is the row."""

    def write(height, width, **more):
        rows, columns = np.mgrid[:height, :width]
        pixels = np.stack([columns, rows, np.full_like(rows, 200)], axis=-1).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "image.png")
        file = {"file_name": str(tmp_path / "image.png"), "height": height, "width": width}
        return file | {"image_id": 1, "image_labels": [1], **more}

    return write


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_a_sample_has_the_tags_and_no_more(make, record, order):
    cfg = make("INPUT.FORMAT", order, "RESIZE", 40, "SIZE", 32)
    sample = TagMapper(cfg)(record(48, 64, annotations=[{"bbox": [0, 0, 1, 1]}]))
    assert set(sample) == {"image", "tags"} and sample["tags"].tolist() == [0, 1]
    image = sample["image"]
    assert (image.shape, image.dtype) == ((3, 32, 32), torch.float32)
    assert (image[2 if order == "RGB" else 0] == 200).all()


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
def test_square_crops_lie_everywhere_in_the_resized_image(make, record, kind):
    cfg = make("RESIZE", 40, "SIZE", 32, "INTERPOLATION", kind, "INPUT.FORMAT", "RGB")
    given, mapper = record(48, 64), TagMapper(cfg)
    method = getattr(Image.Resampling, kind.upper())
    whole = np.asarray(Image.open(given["file_name"]).resize((40, 40), method))
    views = {
        (flip, y, x): (whole[:, ::-1] if flip else whole)[y : y + 32, x : x + 32]
        for flip, y, x in product((False, True), range(9), range(9))
    }
    seed_all_rng(1)
    found = []
    for _ in range(150):
        pixels = mapper(given)["image"].permute(1, 2, 0).numpy()
        (place,) = (p for p, view in views.items() if np.array_equal(view, pixels))
        found.append(place)
    flips, rows, columns = zip(*found, strict=True)
    assert set(rows) == set(columns) == set(range(9)) and 50 < sum(flips) < 100


@pytest.mark.parametrize(("height", "width"), [(30, 60), (60, 30)])
def test_the_longer_side_is_drawn_and_the_rest_is_the_mean_colour(make, record, height, width):
    cfg = make("KIND", "long_side", "LONG_SIDE", [20, 24], "SIZE", 32, "INPUT.FORMAT", "RGB")
    given, mapper = record(height, width), TagMapper(cfg)
    seed_all_rng(1)
    sizes, places = set(), set()
    for _ in range(80):
        image = mapper(given)["image"]
        seen = image[2] == 200
        rows, columns = (seen.any(dim=d).nonzero()[:, 0] for d in (1, 0))
        sizes.add((len(rows), len(columns)))
        places.add((int(rows[0]), int(columns[0])))
        assert seen.sum() == len(rows) * len(columns)
        assert torch.equal(image[:, ~seen].unique(dim=1)[:, 0], torch.tensor(MEAN))
    short = {20: 10, 21: 10, 22: 11, 23: 12, 24: 12}  # rounded halves go to the even number
    assert sizes == {pair if height > width else pair[::-1] for pair in short.items()}
    assert len(places) > 60


def test_a_longer_side_is_cropped_and_a_shorter_one_padded(make, record):
    cfg = make("KIND", "long_side", "LONG_SIDE", [60, 60], "SIZE", 32)
    image = TagMapper(cfg)(record(20, 60))["image"]
    seen = image[0] == 200  # BGR
    assert seen.any(dim=0).all() and seen.any(dim=1).sum() == 20


def test_colours_change_in_their_ranges(make, record):
    jitter = "JITTER", [0.3, 0.0, 0.0, 0.0]
    cfg = make("RESIZE", 16, "SIZE", 16, *jitter, "INPUT.FORMAT", "RGB")
    given, mapper = record(16, 16), TagMapper(cfg)
    seed_all_rng(2)
    blue = [float(mapper(given)["image"][2, 0, 0]) for _ in range(200)]
    assert 139 <= min(blue) < 150 and 250 < max(blue) <= 255
    cfg = make("RESIZE", 16, "SIZE", 16, "JITTER", [0.0, 0.0, 0.0, 0.5])
    hues = torch.stack([TagMapper(cfg)(given)["image"] for _ in range(50)])
    assert (hues.amax(dim=1)[:, 0, 0] == 200).all() and hues[:, 0, 0, 0].unique().numel() > 10


@pytest.mark.parametrize(
    ("test", "size"), [("centre", (24, 24)), ("resize", (24, 24)), ("whole", (96, 128))]
)
def test_at_test_time_nothing_is_drawn(make, record, test, size):
    given = record(48, 64)
    cfg = make("RESIZE", 40, "SIZE", 24, "TEST", test, "INPUT.FORMAT", "RGB")
    mapper = eval_mapper(cfg, keep_original=True)
    first, again = mapper(given), mapper(given)
    assert first["image"].shape[1:] == size and torch.equal(first["image"], again["image"])
    assert first["original_image"].shape == (48, 64, 3) and first["image_id"] == 1
    pixels = first["image"].permute(1, 2, 0).numpy()
    whole = Image.open(given["file_name"])
    if test == "centre":
        whole = whole.resize((40, 40), Image.Resampling.BILINEAR).crop((8, 8, 32, 32))
    else:
        whole = whole.resize(size[::-1], Image.Resampling.BILINEAR)
    assert np.array_equal(pixels, np.asarray(whole))


def test_boxes_and_tags_give_the_same_records(make):
    def without_boxes(document):
        for annotation in document["annotations"]:
            for key in ("bbox", "segmentation", "area"):
                del annotation[key]

    def own_tags(document):
        without_boxes(document)
        document["annotations"].clear()
        for image, tags in zip(document["images"], ([4, 9], [], [4]), strict=True):
            image["image_labels"] = tags

    cases = [("box", None), ("image", None), ("image", without_boxes), ("image", own_tags)]
    found = []
    for supervision, change in cases:
        records = tag_records(make("WSIS.SUPERVISION", supervision, change=change))
        found.append([{k: v for k, v in r.items() if k != "file_name"} for r in records])
    assert [r["image_id"] for r in found[0]] == [1, 3]
    assert [r["image_labels"] for r in found[0]] == [[0, 1], [0]]
    assert all(each == found[0] for each in found)
    assert not any("bbox" in a for r in found[0] for a in r["annotations"])


@pytest.mark.parametrize(
    ("opts", "boxes", "one", "error", "text"),
    [
        (("WSIS.SUPERVISION", "mask"), (1,), False, ConfigError, "'mask', expected image, or box"),
        ((), (0, 0), False, DataError, "found 2 images and 0 annot"),
        (
            ("DATALOADER.FILTER_EMPTY_ANNOTATIONS", False),
            (0, 0),
            False,
            DataError,
            "found no image with a tag",
        ),
        (
            (),
            (1, 2, 2),
            True,
            DataError,
            "2 images without exactly one tag, the first is .* 2 tags",
        ),
    ],
)
def test_images_that_cannot_be_trained_on(make, opts, boxes, one, error, text):
    with pytest.raises(error, match=text):
        tag_records(make(*opts, boxes=boxes), one_tag=one)


def test_images_without_tags_are_left_out_with_a_word(make, caplog):
    assert len(tag_records(make(boxes=(1, 0, 0)))) == 1
    assert "2 images without tags left out" in caplog.text


def test_images_of_the_same_classes_teach_a_classifier_nothing(make, caplog):
    def one_class(document):
        for annotation in document["annotations"]:
            annotation["category_id"] = 9

    tag_records(make(boxes=(1, 2)))
    assert "nothing to tell apart" not in caplog.text
    tag_records(make(boxes=(1, 2), change=one_class))
    assert "all of 2 images have the same class: a classifier has nothing" in caplog.text


def test_a_class_without_an_image_is_named(make, caplog):
    def more_classes(document):
        document["categories"] += [{"id": 90 + i, "name": f"rare{i}"} for i in range(6)]

    tag_records(make(boxes=(1, 2)))
    assert "on no image" not in caplog.text
    tag_records(make(boxes=(1, 2), change=more_classes))
    text = "6 classes are on no image and cannot be learnt: rare0, rare1, rare2, rare3, rare4, ..."
    assert text in caplog.text


@pytest.mark.parametrize(
    ("opts", "text"),
    [
        (("KIND", "round"), "KIND: found 'round', expected square or long_side"),
        (("LONG_SIDE", [9, 8]), "LONG_SIDE: found"),
        (("JITTER", [0.1, 0.1, 0.1, 0.6]), "JITTER: found"),
        (("INTERPOLATION", "cubic"), "INTERPOLATION: found 'cubic', expected one of bilinear"),
        (("TEST", "corner"), "TEST: found 'corner'"),
        (("RESIZE", 64, "SIZE", 65), "RESIZE: found 64, expected at least the 65 of"),
    ],
)
def test_keys_out_of_their_range(make, opts, text):
    cfg = make(*opts)
    with pytest.raises(ConfigError, match=rf"INPUT\.TAG_CROP\.{text}"):
        eval_mapper(cfg)
        TagMapper(cfg)


def test_rare_tags_repeat_and_label_maps_have_none(make):
    def rare(document):
        for annotation in document["annotations"]:
            annotation["category_id"] = 9 if annotation["image_id"] == 3 else 4

    sampler = "DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"
    cfg = make(*sampler, "DATALOADER.REPEAT_THRESHOLD", 1.0, boxes=(1,) * 6, change=rare)
    loader = iter(crop_loader.build_loader(cfg, tag_records(cfg), TagMapper(cfg)))
    tags = torch.stack([each["tags"] for _ in range(30) for each in next(loader)])
    assert 0.23 < tags[:, 1].mean() < 0.5, "one image of six"
    with pytest.raises(ConfigError, match="which counts boxes or tags, and GeneralizedRCNN trains"):
        crop_loader.build_loader(cfg, [{"file_name": "a"}], TagMapper(cfg))

"""Students on recorded RoI features against the same students on images."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from detectron2.engine import default_setup
from detectron2.utils.env import seed_all_rng

from tests.tiny import loggers_as_before, write_config, write_dataset
from wsis.config import load_cfg
from wsis.data import roi_record
from wsis.data.registration import prepare_datasets
from wsis.data.roi_record import RoiRecord, describe
from wsis.engine import WsisTrainer, recording
from wsis.engine.recording import NO_MASKS, record_rois
from wsis.errors import ConfigError, DataError, WsisError
from wsis.modeling.recorded_rcnn import FROZEN, RecordedRCNN, check_recordable

STUDENT = {
    "MODEL__MASK_ON": True,
    "WSIS__SUPERVISION": "mask",
    "WSIS__FREEZE": list(FROZEN),
    "INPUT__MIN_SIZE_TRAIN": [48, 64],
    "INPUT__RANDOM_FLIP": "horizontal",
    "SOLVER__MAX_ITER": 6,
    "SOLVER__BASE_LR": 0.1,
    "DATALOADER__NUM_WORKERS": 1,
}


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Makes the config of a student; of chunks of two iterations."""
    monkeypatch.setattr(roi_record, "CHUNK", 2)
    monkeypatch.setattr(recording, "CHUNK", 2)
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "data", number=5)

    def make(name: str, *opts: str):
        path = write_config(tmp_path, tmp_path / "data", **STUDENT)
        cfg = load_cfg(path, ["OUTPUT_DIR", str(tmp_path / name), *opts])
        prepare_datasets(cfg, cfg.DATASETS.TRAIN)
        return cfg

    weights = tmp_path / "detector.pth"
    seed_all_rng(1)
    torch.save({"model": WsisTrainer.build_model(make("unused")).state_dict()}, weights)
    with loggers_as_before():
        yield lambda name, *opts: make(name, "MODEL.WEIGHTS", str(weights), *opts)


def record(config, name: str = "rois", *opts: str, resume: bool = False) -> RoiRecord:
    cfg = config(name, *(word for pair in NO_MASKS.items() for word in pair), *opts)
    default_setup(cfg, None)
    return record_rois(cfg, resume)


def on_record(config, name: str = "student", *opts: str):
    keys = ["MODEL.META_ARCHITECTURE", "RecordedRCNN", "MODEL.ROI_MASK_HEAD.RECORD", "rois"]
    return config(name, *keys, *opts)


def train(cfg) -> dict[str, torch.Tensor]:
    default_setup(cfg, None)
    trainer = WsisTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer.model.state_dict()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("0*"))}


BOX_LOSSES = ["MODEL.ROI_MASK_HEAD.NAME", "BoxMaskHead", "WSIS.SUPERVISION", "box"]
WITH_MASKS = [*BOX_LOSSES[:2], "MODEL.ROI_MASK_HEAD.BOX.MASK_WEIGHT", "0.5"]
SIMILARITY = [
    "MODEL.ROI_MASK_HEAD.NAME",
    "ProxyMaskHead",
    "MODEL.ROI_MASK_HEAD.SIMILARITY.WEIGHT",
    "1.0",
]


CROP = ["INPUT.CROP.ENABLED", "True", "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", "[48, 40]"]
JITTER = ["INPUT.SCALE_JITTER.SIZE", "48"]
WINDOWS = ["MODEL.ROI_HEADS.NAME", "ContextROIHeads", "MODEL.ROI_MASK_HEAD.POOLER_CONTEXT", "1.5"]


@pytest.mark.parametrize(
    ("head", "data"),
    [
        ([], []),
        (BOX_LOSSES, []),
        (WITH_MASKS, CROP),
        (SIMILARITY, []),
        ([], CROP),
        ([], JITTER),
        (BOX_LOSSES, WINDOWS),
    ],
)
def test_a_student_on_a_record_is_the_one_on_images(config, head, data):
    head = [*head, *data]
    expected = train(config("images", *head))
    made = record(config, "rois", *data)
    assert made.recorded == 6 and len(files(made.folder)) == 6
    found = train(on_record(config, "student", *head))
    assert found.keys() == expected.keys()
    different = [name for name in found if not torch.equal(found[name], expected[name])]
    assert different == []
    start = torch.load("detector.pth", weights_only=True)["model"]
    moved = [name for name in found if not torch.equal(found[name], start[name])]
    assert moved and all(name.startswith("roi_heads.mask_head.") for name in moved)


def test_a_record_that_was_cut_short_goes_on_with_what_it_would_have_drawn(config, monkeypatch):
    whole = files(record(config, "whole").folder)
    append, made = RoiRecord.append, itertools.count()

    def cut(*args, **kwargs):
        if next(made) == 2:
            raise KeyboardInterrupt
        append(*args, **kwargs)

    monkeypatch.setattr(RoiRecord, "append", cut)
    with pytest.raises(KeyboardInterrupt):
        record(config)
    assert RoiRecord(Path("rois")).recorded == 4
    with pytest.raises(ConfigError, match="rois has 4 of its 6 iterations; finish it"):
        RecordedRCNN.check_training_data(on_record(config))
    monkeypatch.setattr(RoiRecord, "append", append)
    with pytest.raises(WsisError, match="holds RoI features already; go on with --resume"):
        record(config)
    with pytest.raises(WsisError, match="seed was 3, is 4"):
        record(config, "rois", "SEED", "4", resume=True)
    torn = Path("rois/.00002.npy.abcdefgh")
    torn.touch()
    assert files(record(config, resume=True).folder) == whole and not torn.exists()


def test_a_record_of_another_training_is_refused(config, tmp_path):
    record(config)
    others = ["MODEL.ROI_MASK_HEAD.SCORE_MODE", "weight", "MODEL.BANA.MIN_COVERAGE", "0.5"]
    RecordedRCNN.check_training_data(on_record(config, "s", *others))
    for opts, text in (
        (["INPUT.RANDOM_FLIP", "none"], "INPUT.RANDOM_FLIP was horizontal, is none"),
        (["SOLVER.IMS_PER_BATCH", "2"], "images_per_batch was 4, is 2"),
        (["MODEL.WEIGHTS", str(tmp_path / "data" / "1.png")], "weights_sha256 was "),
        (["MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", "14"], "POOLER_RESOLUTION was 7, is 14"),
    ):
        with pytest.raises(WsisError, match=text):
            RecordedRCNN.check_training_data(on_record(config, "s", *opts))


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ([[1, 0, 5, 5, 9, 9]], [[1, 0, 5, 5.6, 9, 8.4]], None),
        ([[1, 0, 5, 5, 9, 9]], [[1, 0, 5, 5, 9, 11]], "annotation 1 was"),
        ([[1, 0, 5, 5, 9, 9]], [[1, 2, 5, 5, 9, 9]], "annotation 1 was"),
        ([[1, 0, 5, 5, 9, 9]], [[3, 0, 5, 5, 9, 9]], "annotation 1 was"),
        ([[1, 0, 5, 5, 9, 9]], [], "an image had 1 boxes .*, found 0"),
    ],
)
def test_boxes_may_differ_by_rounding_alone(tmp_path, old, new, text):
    header = dict.fromkeys(roi_record._HEADER, 1) | {"objects": [old], "keys": {}}
    made = RoiRecord.begin(tmp_path, header, resume=False)
    with pytest.raises(WsisError, match="it had 1 images, found 2"):
        made.check({"objects": [old, new]})
    if text is None:
        made.check({"objects": [new]})
        return
    with pytest.raises(WsisError, match=text):
        made.check({"objects": [new]})


def test_a_shorter_training_reads_a_part_and_a_longer_one_reads_again(config, caplog):
    record(config)
    seen = []
    for length in ("4", "8"):
        cfg = on_record(config, length, "SOLVER.MAX_ITER", length)
        batches = list(RecordedRCNN.build_train_loader(cfg))
        seen.append([batch[0]["roi_features"] for batch in batches])
        assert ("6 iterations are read again" in caplog.text) == (length == "8")
    assert [len(each) for each in seen] == [4, 8]
    for iteration, other in ((0, 0), (3, 3), (0, 6), (1, 7)):
        assert torch.equal(seen[0][iteration], seen[1][other])


@pytest.mark.parametrize(
    ("opts", "text"),
    [
        (["WSIS.FREEZE", "['backbone']"], "WSIS.FREEZE: proposal_generator learns"),
        (["MODEL.ROI_MASK_HEAD.POOLER_TYPE", ""], "Head looks at more than RoI features"),
        (["MODEL.MASK_ON", "False"], "expected MASK_ON True"),
        (["MODEL.META_ARCHITECTURE", "FilledBox"], "found FilledBox, expected GeneralizedRCNN"),
    ],
)
def test_what_looks_at_more_or_learns_more_is_refused(config, opts, text):
    with pytest.raises(ConfigError, match=text):
        check_recordable(config("s", *opts))
    with pytest.raises(ConfigError, match="MODEL.ROI_MASK_HEAD.RECORD: found nothing"):
        RecordedRCNN.check_training_data(config("s"))


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "index.json: no such file"), ("[]", "expected keys, objects, .*record_rois")],
)
def test_a_folder_without_a_record_is_refused(config, tmp_path, text, message):
    (tmp_path / "rois").mkdir()
    if text is not None:
        (tmp_path / "rois" / "index.json").write_text(text)
    with pytest.raises(DataError, match=message):
        RecordedRCNN.check_training_data(on_record(config))


def test_a_full_disk_is_told_before_the_rest_is_worked_out(config, monkeypatch):
    free = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(recording.shutil, "disk_usage", lambda folder: free)
    with pytest.raises(
        ConfigError, match="rois has 0.0 GB of room, and the RoI features of 6 iter"
    ):
        record(config)
    assert files(Path("rois")) == {}


def test_a_transform_that_cannot_be_described_is_refused(config):
    from detectron2.data import transforms as T

    rotated = T.TransformList([T.RotationTransform(4, 4, 10)])
    with pytest.raises(ConfigError, match="INPUT: RotationTransform cannot be recorded"):
        describe(rotated)

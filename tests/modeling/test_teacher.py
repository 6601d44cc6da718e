"""What the protocol of teachers promises to methods of boxes and of tags."""

from __future__ import annotations

import numpy as np
import pytest
from detectron2.modeling import META_ARCH_REGISTRY

from tests.noise import SIZE, NoiseTagTeacher, make_cfg, write_data
from wsis.data.dicts import to_dicts
from wsis.data.registration import get_source
from wsis.errors import ConfigError
from wsis.modeling.teacher import TagTeacher, Teacher, is_maker, is_teacher, seed_from_inputs


@pytest.fixture
def cfg(tmp_path):
    write_data(tmp_path / "data")
    return make_cfg(tmp_path / "data", tmp_path / "out", MODEL__META_ARCHITECTURE="NoiseTagTeacher")


def records(supervision):
    return to_dicts(get_source("noise", bad_box="skip"), supervision)


@pytest.mark.parametrize("supervision", ["image", "box", "mask"])
@pytest.mark.parametrize("mapper", ["test_mapper", "generation_mapper"])
def test_a_teacher_of_tags_sees_an_image_and_its_tags_and_no_box(cfg, supervision, mapper):
    cfg.WSIS.SUPERVISION = supervision
    inputs = getattr(NoiseTagTeacher(), mapper)(cfg)(records(supervision)[1])
    keys = {"image", "tags", "image_labels", "image_id", "file_name", "height", "width"}
    assert set(inputs) == keys | ({"original_image"} if mapper == "test_mapper" else set())
    assert inputs["image"].shape == (3, *SIZE)
    assert inputs["tags"] == [0, 1]
    seed = seed_from_inputs(inputs)
    assert seed.tags == (0, 1) and len(seed) == 0
    assert seed.boxes.shape == (0, 4) and seed.classes.shape == (0,)


def test_in_eval_mode_it_returns_its_maps(cfg):
    model = NoiseTagTeacher().eval()
    inputs = [NoiseTagTeacher.test_mapper(cfg)(record) for record in records("image")[:2]]
    for result in model(inputs):
        assert set(result) == {"sem_seg", "score_maps"}
        assert result["sem_seg"]["y"].shape == SIZE
        assert result["score_maps"]["m"].enlarged().shape == (2, *SIZE)
    with pytest.raises(ConfigError, match="NoiseTagTeacher has nothing to train"):
        model.train()(inputs)


def test_what_it_is_and_is_not(cfg):
    assert is_maker(cfg) and not is_teacher(cfg)
    NoiseTagTeacher.check_supervision(cfg)
    cfg.MODEL.META_ARCHITECTURE = "FilledBox"
    assert is_maker(cfg) and is_teacher(cfg)
    cfg.WSIS.SUPERVISION = "image"
    with pytest.raises(ConfigError, match="found 'image', expected box: FilledBox"):
        META_ARCH_REGISTRY.get("FilledBox").check_supervision(cfg)
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    assert not is_maker(cfg)
    assert not issubclass(TagTeacher, Teacher)


def test_it_needs_no_box_in_the_data(cfg, tmp_path):
    record = {"file_name": "", "image_id": 1, "height": 6, "width": 8}
    record |= {"image_labels": [1], "annotations": [{"category_id": 1, "iscrowd": 0}]}
    image = np.zeros((6, 8, 3), dtype=np.uint8)
    assert NoiseTagTeacher.test_mapper(cfg)(record, image)["tags"] == [1]

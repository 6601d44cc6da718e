from __future__ import annotations

import json

import pytest
from detectron2.data import MetadataCatalog

import wsis.methods.baselines  # noqa: F401  # registers teachers
from wsis.config import get_cfg
from wsis.data.registration import register_dataset
from wsis.errors import ConfigError
from wsis.evaluation import InstanceEvaluator, ProxyEvaluator, build_evaluator

NAME = "build_evaluator_test"
SEMANTIC = "build_evaluator_semantic_test"


@pytest.fixture
def cfg(document, square, tmp_path):
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(document({"mask": square(0, 0)})))
    register_dataset(NAME, str(path), "")
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path / "run")
    return cfg


def test_a_teacher_gets_the_proxy_evaluator(cfg):
    cfg.MODEL.META_ARCHITECTURE = "FilledBox"
    assert isinstance(build_evaluator(cfg, NAME), ProxyEvaluator)


def test_a_student_gets_the_instance_evaluator(cfg, tmp_path):
    evaluator = build_evaluator(cfg, NAME)
    assert isinstance(evaluator, InstanceEvaluator)
    assert evaluator._output_dir == str(tmp_path / "run" / "inference" / NAME)
    assert evaluator._max_dets_per_image == [1, 10, 100]
    cfg.TEST.DETECTIONS_PER_IMAGE = 300
    evaluator = build_evaluator(cfg, NAME, str(tmp_path / "here"))
    assert evaluator._output_dir == str(tmp_path / "here")
    assert evaluator._max_dets_per_image == [1, 10, 300]


def test_a_dataset_of_another_kind_is_refused(cfg):
    MetadataCatalog.get(SEMANTIC).set(evaluator_type="sem_seg")
    with pytest.raises(ConfigError, match=f"'{SEMANTIC}' is of type 'sem_seg', expected"):
        build_evaluator(cfg, SEMANTIC)

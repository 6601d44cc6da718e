from __future__ import annotations

import json

import pytest
from detectron2.data import MetadataCatalog

import wsis
from wsis.data.registration import register_dataset
from wsis.errors import ConfigError, DataError
from wsis.evaluation import (
    InstanceEvaluator,
    ProxyEvaluator,
    SemanticEvaluator,
    TagEvaluator,
    build_evaluator,
)

NAME = "build_evaluator_test"
SEMANTIC = "build_evaluator_semantic_test"


@pytest.fixture
def cfg(document, square, tmp_path):
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(document({"mask": square(0, 0)})))
    register_dataset(NAME, str(path), "")
    cfg = wsis.get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path / "run")
    return cfg


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("FilledBox", ProxyEvaluator),
        ("SemanticSegmentor", SemanticEvaluator),
        ("GeneralizedRCNN", InstanceEvaluator),
        ("TagClassifier", TagEvaluator),
    ],
)
def test_the_model_decides(cfg, tmp_path, architecture, kind):
    cfg.MODEL.META_ARCHITECTURE = architecture
    evaluator = build_evaluator(cfg, NAME)
    assert isinstance(evaluator, kind)
    output = str(tmp_path / "run" / "inference" / NAME)
    assert vars(evaluator).get("_output_dir", output) == output


def test_instances_are_scored_where_boxes_are(cfg, tmp_path, document):
    objects = document({"bbox": [1, 2, 3, 4]}, {})
    path = tmp_path / "tags.json"
    path.write_text(json.dumps(objects))
    register_dataset(f"{NAME}_of_tags", str(path), "")
    with pytest.raises(DataError, match="annotation 101: key 'bbox': found None"):
        build_evaluator(cfg, f"{NAME}_of_tags")
    cfg.MODEL.META_ARCHITECTURE = "TagClassifier"
    build_evaluator(cfg, f"{NAME}_of_tags")


def test_a_student_may_find_more_than_a_hundred_objects(cfg, tmp_path):
    assert build_evaluator(cfg, NAME)._max_dets_per_image == [1, 10, 100]
    cfg.TEST.DETECTIONS_PER_IMAGE = 300
    evaluator = build_evaluator(cfg, NAME, str(tmp_path / "here"))
    assert evaluator._output_dir == str(tmp_path / "here")
    assert evaluator._max_dets_per_image == [1, 10, 300]


def test_a_dataset_of_another_kind_is_refused(cfg):
    MetadataCatalog.get(SEMANTIC).set(evaluator_type="sem_seg")
    text = f"'{SEMANTIC}' is of type 'sem_seg', expected a dataset of instances"
    with pytest.raises(ConfigError, match=text):
        build_evaluator(cfg, SEMANTIC)

"""What the installed Detectron2 must be able to do, one function per fix of tools/install_detectron2.py.

``python tests/detectron2_behaviour.py`` runs them without wsis, so that nothing but the installed
Detectron2 is tested (one that others installed gets the repairs of wsis.compat first), then imports
wsis after Detectron2, and prints a JSON object of function name to "ok" or the error.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import detectron2

if not detectron2.__version__.endswith("+wsis"):
    import wsis.compat  # noqa: F401

import numpy as np
import torch
from PIL import Image

CAT = (
    "<annotation><size><width>9</width><height>8</height></size><object><name>cat</name><pose>Left</pose>"
    "<truncated>0</truncated><difficult>0</difficult>"
    "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>"
)


def _metadata(name: str, **fields: Any) -> Any:
    from detectron2.data import MetadataCatalog

    return MetadataCatalog.get(f"behaviour_{name}").set(**fields)


def pillow_names_exist() -> None:
    from detectron2.data.transforms import ExtentTransform

    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    resized = ExtentTransform((0, 0, 4, 4), (4, 4)).apply_image(image)
    assert np.array_equal(resized, image)


def no_removed_numpy_name_is_left() -> None:
    removed = re.compile(r"^[^#\n]*\bnp\.(bool|int|float|object|str)\b", re.MULTILINE)
    for path in Path(detectron2.__path__[0]).rglob("*.py"):
        assert not removed.search(path.read_text(encoding="utf-8")), path


def model_zoo_finds_its_configs() -> None:
    from detectron2 import model_zoo

    cfg = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml")
    assert cfg.MODEL.MASK_ON and cfg.MODEL.ROI_HEADS.NUM_CLASSES == 80
    lazy = model_zoo.get_config("new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ.py")
    assert lazy.model.roi_heads.num_classes == 80


def semantic_evaluator_counts() -> None:
    from detectron2.data import DatasetCatalog
    from detectron2.evaluation import SemSegEvaluator

    Image.fromarray(np.array([[0, 1], [1, 255]], np.uint8)).save("truth.png")
    record = {"file_name": "image.png", "sem_seg_file_name": "truth.png"}
    DatasetCatalog.register("behaviour_sem_seg", lambda: [record])
    _metadata("sem_seg", stuff_classes=["a", "b"], ignore_label=255)
    evaluator = SemSegEvaluator("behaviour_sem_seg", distributed=False)
    evaluator.reset()
    scores = torch.stack([torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.full((2, 2), 0.5)])
    evaluator.process([record], [{"sem_seg": scores}])
    # a: 1 right, 1 wrong; b: 1 right, 1 missed. The ignored pixel counts nowhere.
    assert evaluator.evaluate()["sem_seg"]["mIoU"] == 50.0


def voc_annotations_load() -> None:
    from detectron2.data.datasets.pascal_voc import load_voc_instances

    for folder in ("ImageSets/Main", "Annotations"):
        Path("voc", folder).mkdir(parents=True)
    Path("voc/ImageSets/Main/train.txt").write_text("000001\n000002\n")
    for name in ("000001", "000002"):
        Path(f"voc/Annotations/{name}.xml").write_text(CAT)
    records = load_voc_instances("voc", "train", ["cat"])
    assert [record["annotations"][0]["bbox"] for record in records] == [[0.0, 0.0, 3.0, 4.0]] * 2


def voc_evaluator_reads_difficult_objects() -> None:
    from detectron2.evaluation.pascal_voc_evaluation import voc_eval

    Path("image.xml").write_text(CAT)
    Path("list.txt").write_text("image\n")
    Path("cat.txt").write_text("image 0.9 1 1 3 4\n")
    assert voc_eval("{}.txt", "{}.xml", "list.txt", "cat")[2] == 1.0


def class_table_checks_categories() -> None:
    from detectron2.data import DatasetCatalog
    from detectron2.data.build import get_detection_dataset_dicts, print_instances_class_histogram

    good = {"file_name": "a.png", "annotations": [{"category_id": 1}]}
    print_instances_class_histogram([good], ["a", "b"])
    bad = {"file_name": "a.png", "annotations": [{"category_id": 2}]}
    DatasetCatalog.register("behaviour_bad", lambda: [bad])
    _metadata("bad", thing_classes=["a", "b"])
    with contextlib.suppress(AssertionError):
        get_detection_dataset_dicts("behaviour_bad")
        raise RuntimeError("category 2 of 2 classes was let through")


def polygons_become_masks() -> None:
    from detectron2.structures import PolygonMasks, polygons_to_bitmask

    polygon = np.array([0.0, 0.0, 4.0, 0.0, 4.0, 4.0, 0.0, 4.0])
    mask = polygons_to_bitmask([polygon], 6, 6)
    assert mask.dtype == bool and mask.sum() == 16
    cropped = PolygonMasks([[polygon]]).crop_and_resize(torch.tensor([[0.0, 0.0, 4.0, 4.0]]), 4)
    assert cropped.all()
    assert len(PolygonMasks([[polygon]] * 2)[torch.tensor([True, False])]) == 1


def visualizer_draws_panoptic_maps() -> None:
    from detectron2.utils.visualizer import Visualizer

    classes = {"thing_classes": ["a"], "stuff_classes": ["s"], "stuff_colors": [(0, 0, 255)]}
    metadata = _metadata("panoptic", **classes)
    segments = [{"id": i, "category_id": 0, "isthing": i == 1} for i in (1, 2)]
    panoptic = torch.ones(32, 32, dtype=torch.int32)
    panoptic[:16] = 2
    picture = Visualizer(np.zeros((32, 32, 3), np.uint8), metadata)
    image = picture.draw_panoptic_seg(panoptic, segments).get_image()
    assert image.shape == (32, 32, 3) and image.any()


def video_visualizer_draws() -> None:
    from detectron2.structures import Boxes, Instances
    from detectron2.utils.video_visualizer import VideoVisualizer

    instances = Instances((32, 32), pred_boxes=Boxes(torch.tensor([[4.0, 4.0, 20.0, 20.0]])))
    instances.pred_classes = torch.tensor([0])
    visualizer = VideoVisualizer(_metadata("video", thing_classes=["a"]))
    frame = np.zeros((32, 32, 3), np.uint8)
    for _ in range(2):
        assert visualizer.draw_instance_predictions(frame, instances).get_image().any()


def map_dataset_survives_none() -> None:
    from detectron2.data import MapDataset

    assert MapDataset([1, 2], lambda item: item if item == 2 else None)[0] == 2


def scheduler_hook_saves_pytorch_schedulers() -> None:
    from detectron2.engine.hooks import LRScheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    hook, resumed = (
        LRScheduler(scheduler=torch.optim.lr_scheduler.StepLR(optimizer, 5)) for _ in range(2)
    )
    hook.scheduler.last_epoch = 7
    resumed.load_state_dict(hook.state_dict())
    assert resumed.scheduler.last_epoch == 7


def analysis_works_without_caffe2() -> None:
    from detectron2.export import TracingAdapter, scripting_with_instances
    from detectron2.utils.analysis import parameter_count

    assert TracingAdapter is not None and scripting_with_instances is not None
    assert parameter_count(torch.nn.Linear(2, 3))[""] == 9


def compiled_operators_say_that_they_are_missing() -> None:
    from detectron2.layers import deform_conv, nms_rotated, rotated_boxes
    from detectron2.layers.roi_align_rotated import ROIAlignRotated

    boxes = torch.tensor([[5.0, 5.0, 4.0, 4.0, 0.0]])
    calls: list[Callable[[], object]] = [
        lambda: nms_rotated(boxes, torch.ones(1), 0.5),
        lambda: rotated_boxes.pairwise_iou_rotated(boxes, boxes),
        lambda: ROIAlignRotated((2, 2), 1.0, 2)(torch.zeros(1, 1, 9, 9), torch.zeros(1, 6)),
    ]
    if hasattr(deform_conv, "_C"):  # on CPU its functions use torchvision's operator instead
        calls.append(lambda: deform_conv._C.modulated_deform_conv_forward())
    for call in calls:
        try:
            call()
        except NotImplementedError as error:
            assert "pure-Python build of Detectron2" in str(error)
        except (AttributeError, ImportError):  # Detectron2's own way, when it is not compiled
            assert not detectron2.__version__.endswith("+wsis")


def coco_evaluator_needs_no_extension() -> None:
    from detectron2.evaluation import COCOEvaluator
    from detectron2.structures import Boxes, Instances

    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 40, 40]}
    annotation |= {"iscrowd": 0, "area": 1600}
    image = {"id": 1, "file_name": "a.png", "height": 64, "width": 64}
    document = {"info": {}, "images": [image], "annotations": [annotation]}
    document["categories"] = [{"id": 1, "name": "a"}]
    Path("truth.json").write_text(json.dumps(document))
    ids = {"thing_dataset_id_to_contiguous_id": {1: 0}, "thing_classes": ["a"]}
    _metadata("coco", json_file="truth.json", **ids)
    evaluator = COCOEvaluator("behaviour_coco", tasks=("bbox",), distributed=False)
    evaluator.reset()
    instances = Instances((64, 64), pred_boxes=Boxes(torch.tensor([[2.0, 2.0, 42.0, 42.0]])))
    instances.scores, instances.pred_classes = torch.tensor([0.9]), torch.tensor([0])
    evaluator.process([{"image_id": 1}], [{"instances": instances}])
    assert evaluator.evaluate()["bbox"]["AP"] > 99.9


def anchors_are_in_row_order() -> None:
    from detectron2.modeling.anchor_generator import DefaultAnchorGenerator

    generator = DefaultAnchorGenerator(sizes=[[2]], aspect_ratios=[[1.0]], strides=[4])
    with warnings.catch_warnings():
        warnings.simplefilter("error" if detectron2.__version__.endswith("+wsis") else "ignore")
        anchors = generator([torch.zeros(1, 1, 1, 2)])[0].tensor
    assert torch.equal(anchors, torch.tensor([[1.0, 1.0, 3.0, 3.0], [5.0, 1.0, 7.0, 3.0]]))


def environment_report_is_written() -> None:
    from detectron2.utils.collect_env import collect_env_info

    assert detectron2.__version__ in collect_env_info()


def projects_import() -> None:
    from detectron2.projects import deeplab, point_rend

    assert deeplab.add_deeplab_config is not None
    assert point_rend.add_pointrend_config is not None


def wsis_imports_after_detectron2() -> None:
    import wsis

    assert wsis.__version__


CHECKS: list[Callable[[], None]] = [
    value
    for name, value in list(globals().items())
    if getattr(value, "__module__", "") == __name__ and not name.startswith("_")
]


def main() -> None:
    """Run all checks in a temporary folder."""
    results = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(None):
        os.chdir(folder)
        for check in CHECKS:
            try:
                check()
                results[check.__name__] = "ok"
            except Exception:  # noqa: BLE001  # reported
                results[check.__name__] = traceback.format_exc()
        os.chdir("/")
    sys.stdout.write(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()

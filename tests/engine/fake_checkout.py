"""A checkout whose tools only write what is asked of them, and plans for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from wsis.engine.comparison import Comparison
from wsis.engine.plan import Plan, TeacherPlan, TrainingPlan

TRAIN = """
import json, pathlib, sys
keys = dict(zip(sys.argv[4::2], sys.argv[5::2]))
out = pathlib.Path(keys["OUTPUT_DIR"])
(out / "inference").mkdir(parents=True)
masks = {"mask": 40.0, "proxy": 10.0}.get(keys.get("WSIS.SUPERVISION"), 1.0)
scores = {"AP": masks, "AP50": 2 * masks, "AP75": masks / 2}
results = {"bbox": scores, "segm": scores}
if "MODEL.SEGMENTOR.LABELS" in keys:
    results = {"sem_seg_single": {"mIoU": 30 + masks}, "sem_seg_multi": {"mIoU": 99.0}}
(out / "inference" / "results.json").write_text(json.dumps({"VAL": results}))
(out / "model_final.pth").touch()
"""
GENERATE = """
import pathlib, sys
keys = dict(zip(sys.argv[4::2], sys.argv[5::2]))
if "MAPS_ONLY" in keys["OUTPUT_DIR"]:
    sys.exit()
folder = pathlib.Path(keys["OUTPUT_DIR"]) / "proxy"
folder.mkdir(parents=True)
(folder / "BOXES.json").write_text("{}")
"""
EVALUATE = """
import json, pathlib, sys
quality = {"overall": {"mIoU": 0.5, "IoU75": 0.2}, "status": {"ok": 3}}
pathlib.Path(sys.argv[sys.argv.index("--output") + 1]).write_text(json.dumps(quality))
"""


def make_comparison(tmp_path: Path, names: list[str]) -> Comparison:
    """A plan of two teachers, for boxes, masks and validation data of these names."""
    checkout = tmp_path / "checkout"
    (checkout / "tools").mkdir(parents=True)
    boxes, masks, val = names
    tools = {"train_net": TRAIN, "generate_proxy_masks": GENERATE, "evaluate_proxy_masks": EVALUATE}
    for name, text in tools.items():
        text = text.replace("VAL", val).replace("BOXES", boxes)
        (checkout / "tools" / f"{name}.py").write_text(text)
    (checkout / "student.yaml").write_text("SEED: 1\n")
    (checkout / "fill.yaml").write_text("MODEL:\n  META_ARCHITECTURE: FilledBox\n")
    document = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "data.json").write_text(json.dumps(document))
    teachers = {"filled box": TeacherPlan("fill.yaml")}
    for file, kind in (("semantic", "Segmentor"), ("tags", "NoiseTagTeacher")):
        (checkout / f"{file}.yaml").write_text(f"MODEL:\n  META_ARCHITECTURE: {kind}\n")
    teachers["box + CRF"] = TeacherPlan("fill.yaml", weights="detector")
    custom = [[name, str(tmp_path / "data.json"), ""] for name in names]
    student = TrainingPlan("student.yaml")
    plan = Plan("test", boxes, masks, teachers, val, "student.yaml", student, custom=custom)
    return Comparison(plan, checkout, tmp_path / "out")


def with_teachers(comparison, jobs=1, segmentor=None, **teachers):
    """The comparison of other rows."""
    plan = replace(comparison.plan, teachers=teachers, segmentor=segmentor)
    return Comparison(plan, comparison.checkout, comparison.output, jobs)

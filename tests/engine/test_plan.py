"""Plans read from YAML, and those of the project."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tiny import write_dataset
from wsis.engine.plan import load_plan
from wsis.errors import ConfigError

WITH = "{title: t, train_boxes: a, train_masks: b, val: c, detector: d, student: e, teachers: "

ALONE = "{title: t, train_boxes: a, train_masks: b, teachers: "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "not plain YAML"),
        ("- a", "found list"),
        ("titel: a", "no such key titel"),
        ("title: a", "key 'train_boxes' is missing"),
        (WITH + "{a: {config: c, wights: own}}}", "teachers: a: no such key wights"),
        (WITH + "{a: {weights: own}}}", "teachers: a: key 'config' is missing"),
        (WITH + "{a: {config: c, weights: mine}}}", "teachers: a: key 'weights': found 'mine'"),
        (WITH + "{a: 3}}", "teachers: a: found int"),
        (WITH + "{a: {config: c, images: -1}}}", "teachers: a: key 'images': found -1"),
        (WITH + "{a: {config: c, processes: 0}}}", "teachers: a: key 'processes': found 0"),
        (WITH + "{a: {config: c, opts: [SEED, 1]}}}", "teachers: a: key 'opts': .* in quotes"),
        (WITH + "{a: {config: c, stages: {b: c}}}}", "key 'config': belongs to one of its stages"),
        (WITH + "{a: {stages: {}}}}", "key 'stages': found {}, expected names and configs"),
        (WITH + "{a: {stages: {student: c}}}}", "stages: found the name 'student', expected one"),
        (WITH + "{a: {stages: {b: {weights: own}}}}}", "stages: b: key 'config' is missing"),
        (WITH + "{a: {config: c, labels: [y]}}}", "key 'labels': the plan has no segmentor"),
        (WITH + "{a: {config: c, segmentor: s}}}", "key 'segmentor': found no 'labels'"),
        (WITH + "{a: {student: s, opts: [SEED, '1']}}}", "teachers: a: key 'config' is missing"),
        (WITH + "{a: {student: {opts: []}}}}", "a: student: key 'config' is missing"),
        (
            WITH.replace(", student: e", "") + "{a: c}}",
            "key 'student' is missing, which the plan's",
        ),
        (ALONE + "{a: {config: c, weights: detector}}}", "key 'weights': the plan has no 'detec"),
        (ALONE + "{a: c}, segmentor: s}", "key 'val' is missing, which the plan's students need"),
        (ALONE + "{a: {student: s}}}", "teachers: a: key 'student': the plan has no 'val'"),
        (WITH + "[a]}", "key 'teachers': found .'a'., expected names and configs"),
        ("show: [[]]", r"key 'show': found \[\[]], expected a list of commands, each"),
        ("title: [a]", "key 'title': found .'a'., expected text"),
        ("custom: [[a, b]]", "key 'custom': .* expected a list of .name, JSON file"),
        ("title: 2020-99-99", "not plain YAML"),
        ("[" * 5000, "not plain YAML"),
    ],
)
def test_a_bad_plan_is_one_line(tmp_path, text, message):
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_plan(tmp_path / "plan.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_plan(tmp_path / "absent.yaml")


def test_the_plans_of_the_project_load():
    plans = sorted(Path("configs/plans").glob("*.yaml"))
    assert plans
    for path in plans:
        plan = load_plan(path, {"data": "data", "output": "out"})
        stages = [stage for row in plan.teachers.values() for stage in row.in_turn.values()]
        students = [s for p in (plan, *plan.teachers.values()) for s in (p.student, p.segmentor)]
        configs = [each.config for each in (*stages, *filter(None, students))]
        for config in filter(None, (plan.detector, *configs)):
            assert Path(config).is_file()


def test_the_plans_of_the_documentation_load(tmp_path):
    alone, more = re.findall("```yaml\n(.*?)```", Path("docs/compare.md").read_text(), re.DOTALL)
    for text, student in ((alone, False), (alone + more, True)):
        (tmp_path / "plan.yaml").write_text(text)
        plan = load_plan(tmp_path / "plan.yaml", {"data": "data"})
        assert len(plan.teachers) == 3 and bool(plan.student) == student


def test_masks_alone_are_judged_without_a_student(tmp_path, tool):
    write_dataset(tmp_path / "data")
    plan = tmp_path / "plan.yaml"
    files = f"{tmp_path}/data/boxes.json, {tmp_path}/data"
    teachers = "{filled box: configs/baselines/filled_box.yaml}}"
    plan.write_text(ALONE + f"{teachers[:-1]}, custom: [[a, {files}], [b, {files}]]}}")
    out = tmp_path / "out"
    ended = tool("quickstart", "--plan", plan, "--output", out)
    assert ended.status == 0
    results = json.loads((out / "results.json").read_text())
    assert list(results["rows"]) == ["filled box"] and results["detector"] == {}
    row = results["rows"]["filled box"]
    assert row["proxy_mIoU"] == row["proxy_IoU75"] == 1 and "AP" not in row
    table = ended.out.partition("written:")[0]
    assert "| masks from   |   proxy mIoU |   IoU@75 |" in table and "AP" not in table
    assert {path.name for path in out.glob("*.png")} == {"teachers.png"}


def test_demo_all_goes_on_where_the_demo_ended():
    names = {"data": "data", "output": "out"}
    demo = load_plan("configs/plans/quickstart.yaml", names)
    every = load_plan("configs/plans/all.yaml", names)
    first = dict(list(every.teachers.items())[: len(demo.teachers)])
    assert list(first) == list(demo.teachers)
    assert replace(every, title=demo.title, teachers=first) == demo
    assert len(every.teachers) > len(demo.teachers)

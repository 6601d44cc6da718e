"""The comparison of teachers, on a checkout whose tools only write what is asked of them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from wsis.engine.comparison import TRUE_MASKS, Comparison, StepError, format_results, true_masks
from wsis.engine.plan import Plan, TeacherPlan, load_plan
from wsis.errors import ConfigError
from wsis.parallel import cores

TRAIN = """
import json, pathlib, sys
keys = dict(zip(sys.argv[4::2], sys.argv[5::2]))
out = pathlib.Path(keys["OUTPUT_DIR"])
(out / "inference").mkdir(parents=True)
masks = {"mask": 40.0, "proxy": 10.0}.get(keys.get("WSIS.SUPERVISION"), 1.0)
scores = {"AP": masks, "AP50": 2 * masks, "AP75": masks / 2}
(out / "inference" / "results.json").write_text(json.dumps({"VAL": {"bbox": scores, "segm": scores}}))
(out / "model_final.pth").touch()
"""
GENERATE = """
import pathlib, sys
keys = dict(zip(sys.argv[4::2], sys.argv[5::2]))
folder = pathlib.Path(keys["OUTPUT_DIR"]) / "proxy"
folder.mkdir(parents=True)
(folder / "BOXES.json").write_text("{}")
"""
EVALUATE = """
import json, pathlib, sys
quality = {"overall": {"mIoU": 0.5}, "status": {"ok": 3}}
pathlib.Path(sys.argv[sys.argv.index("--output") + 1]).write_text(json.dumps(quality))
"""

WITH = "{title: t, train_boxes: a, train_masks: b, val: c, detector: d, student: e, teachers: "


@pytest.fixture
def names(request):
    return [f"{request.node.name}_{kind}" for kind in ("boxes", "masks", "val")]


@pytest.fixture
def comparison(tmp_path, names):
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
    teachers["box + CRF"] = TeacherPlan("fill.yaml", "detector")
    custom = [[name, str(tmp_path / "data.json"), ""] for name in names]
    plan = Plan("test", *names, "student.yaml", "student.yaml", teachers, custom=custom)
    return Comparison(plan, checkout, tmp_path / "out")


def with_teachers(comparison, jobs=1, **teachers):
    plan = replace(comparison.plan, teachers=teachers)
    return Comparison(plan, comparison.checkout, comparison.output, jobs)


def test_every_row_is_scored_against_the_true_masks(comparison):
    results = comparison.run()
    assert list(results["rows"]) == [TRUE_MASKS, "filled box", "box + CRF"]
    assert results["rows"][TRUE_MASKS]["share"] == 1
    row = results["rows"]["box + CRF"]
    assert (row["proxy_mIoU"], row["AP"], row["AP50"], row["share"]) == (0.5, 10, 20, 0.25)
    assert row["status"] == {"ok": 3}
    assert json.loads((comparison.output / "results.json").read_text()) == results
    command = results["commands"]["box_CRF-student"]
    assert str(comparison.proxy_file("box + CRF")) in command[-1]  # DATASETS.CUSTOM
    command = results["commands"]["box_CRF-proxies"]
    detector = comparison.output / "detector" / "model_final.pth"
    assert command[command.index("MODEL.WEIGHTS") + 1] == str(detector)
    table = format_results(results)
    assert "| box + CRF" in table
    assert "0.25" in table


def test_a_teacher_of_fewer_images_is_held_against_true_masks_of_the_same(comparison, names):
    boxes, masks, _ = names
    data = Path(comparison.custom[0][1])
    document = json.loads(data.read_text())
    for i in (1, 2):
        image = {"id": i, "file_name": f"{i}.png", "height": 9, "width": 9}
        document["images"].append(image)
        box = {"id": i, "image_id": i, "category_id": 1, "bbox": [0, 0, 5, 5]}
        document["annotations"].append(box)
    data.write_text(json.dumps(document))
    (comparison.checkout / "datasets").mkdir()
    tool = "datasets/take_images.py"
    (comparison.checkout / tool).write_text(Path(tool).read_text())
    generate = comparison.checkout / "tools" / "generate_proxy_masks.py"
    generate.write_text(generate.read_text().replace(f"{boxes}.json", f"{boxes}_1.json"))
    teacher = TeacherPlan("fill.yaml", "own", images=1, processes=2, opts=["SEED", "2"])
    few = with_teachers(comparison, few=teacher)
    results = few.run()
    assert list(results["rows"]) == [TRUE_MASKS, true_masks(1), "few"]
    assert results["rows"]["few"]["share"] == 0.25
    taken = json.loads((comparison.output / f"{boxes}_1.json").read_text())
    assert [each["id"] for each in taken["images"]] == [1]
    assert [each["id"] for each in taken["annotations"]] == [1]
    commands = results["commands"]
    assert f"('{boxes}_1',)" in commands["few-teacher"]
    proxies = commands["few-proxies"]
    weights = proxies[proxies.index("MODEL.WEIGHTS") + 1]
    assert weights == str(few.folder("few") / "teacher" / "model_final.pth")
    assert proxies[proxies.index("--num-gpus") + 1] == "2"
    assert proxies[-2:] == ["SEED", "2"]
    assert f"('{masks}_1',)" in commands[f"{few.folder(true_masks(1)).name}-student"]


def test_started_again_it_repeats_nothing(comparison):
    first = comparison.run()
    for tool in (comparison.checkout / "tools").iterdir():
        tool.write_text("raise SystemExit('called again')")
    again = with_teachers(comparison, **comparison.plan.teachers)
    assert again.run()["rows"] == first["rows"]


def test_a_step_that_fails_stops_with_its_last_line_and_is_tried_again(comparison):
    tool = comparison.checkout / "tools" / "evaluate_proxy_masks.py"
    good = tool.read_text()
    tool.write_text("raise SystemExit('error: no such thing')")
    with pytest.raises(StepError, match="filled_box-quality failed .*error: no such thing"):
        comparison.run()
    assert not (comparison.output / "results.json").exists()
    tool.write_text(good)
    again = with_teachers(comparison, **comparison.plan.teachers)
    assert again.run()["rows"]["filled box"]["AP"] == 10


def test_rows_side_by_side_are_those_one_after_another(comparison, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    tool = comparison.checkout / "tools" / "train_net.py"
    threads = "import os\nprint(os.environ.get('OMP_NUM_THREADS', 'all'))\n"
    tool.write_text(threads + tool.read_text())
    alone = comparison.run()
    several = Comparison(comparison.plan, comparison.checkout, tmp_path / "several", jobs=2)
    assert several.run()["rows"] == alone["rows"]
    logs = several.output / "logs"
    assert (logs / "detector.txt").read_text() == "all\n"
    assert (logs / "filled_box-student.txt").read_text() == f"{max(1, cores() // 2)}\n"


def test_a_row_that_fails_stops_those_not_yet_begun(comparison):
    tool = comparison.checkout / "tools" / "generate_proxy_masks.py"
    tool.write_text("raise SystemExit('error: no such thing')")
    teachers = {f"row {i}": TeacherPlan("fill.yaml") for i in range(20)}
    with pytest.raises(StepError, match="-proxies failed .*error: no such thing"):
        with_teachers(comparison, jobs=2, **teachers).run()
    assert len(list((comparison.output / "logs").glob("*-proxies.txt"))) < 10


def test_a_folder_of_another_plan_is_refused(comparison):
    command = ["tools/evaluate_proxy_masks.py", "--output"]
    comparison.step("a", [*command, str(comparison.output / "x")])
    with pytest.raises(ConfigError, match="step a was made by another plan"):
        comparison.step("a", [*command, "y"])


def test_what_is_missing_is_said_before_any_work(comparison, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    config = comparison.checkout / "fill.yaml"
    for name, text in (
        ("BoxCRF", "needs pydensecrf"),
        ("RetinaNet", r"fill\.yaml: RetinaNet is not a teacher"),
    ):
        config.write_text(f"MODEL:\n  META_ARCHITECTURE: {name}\n")
        with pytest.raises(ConfigError, match=text):
            comparison.run()
    config.unlink()
    with pytest.raises(ConfigError, match=r"fill\.yaml: no such config file"):
        comparison.run()
    assert not comparison.output.exists()


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
        (WITH + "[a]}", "key 'teachers': found .'a'., expected names and configs"),
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
        for config in (plan.detector, plan.student, *(t.config for t in plan.teachers.values())):
            assert Path(config).is_file()


def test_demo_all_goes_on_where_the_demo_ended():
    names = {"data": "data", "output": "out"}
    demo = load_plan("configs/plans/quickstart.yaml", names)
    every = load_plan("configs/plans/all.yaml", names)
    first = dict(list(every.teachers.items())[: len(demo.teachers)])
    assert list(first) == list(demo.teachers)
    assert replace(every, title=demo.title, teachers=first) == demo
    assert len(every.teachers) > len(demo.teachers)

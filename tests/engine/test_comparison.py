"""The comparison of teachers, on a checkout whose tools only write what is asked of them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import wsis.engine.comparison
from tests import noise  # noqa: F401  # registers a teacher of tags
from tests.engine.fake_checkout import make_comparison, with_teachers
from wsis.engine.comparison import Comparison
from wsis.engine.plan import StagePlan, TeacherPlan, TrainingPlan
from wsis.engine.plan_files import TRUE_MASKS, true_masks
from wsis.engine.steps import StepError
from wsis.errors import ConfigError
from wsis.modeling.recorded_rcnn import FROZEN
from wsis.parallel import cores
from wsis.report.comparison import format_results


@pytest.fixture
def names(request):
    return [f"{request.node.name}_{kind}" for kind in ("boxes", "masks", "val")]


@pytest.fixture
def comparison(tmp_path, names, monkeypatch):
    """On a disk with room for any record."""
    room = SimpleNamespace(free=1e13)
    monkeypatch.setattr(wsis.engine.comparison.shutil, "disk_usage", lambda folder: room)
    return make_comparison(tmp_path, names)


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
    comparison.run()
    generate = comparison.checkout / "tools" / "generate_proxy_masks.py"
    generate.write_text(generate.read_text().replace(f"{boxes}.json", f"{boxes}_1.json"))
    teacher = TeacherPlan("fill.yaml", ["SEED", "2"], "own", processes=2, images=1)
    few = with_teachers(comparison, **comparison.plan.teachers, few=teacher)
    results = few.run()  # a row that is added leaves the steps of the others as they are
    assert list(results["rows"])[-2:] == [true_masks(1), "few"]
    assert results["rows"]["few"]["share"] == 0.25
    taken = json.loads((comparison.output / f"{boxes}_1.json").read_text())
    assert [each["id"] for each in taken["images"]] == [1]
    assert [each["id"] for each in taken["annotations"]] == [1]
    commands = results["commands"]
    assert f"('{boxes}_1',)" in commands["few-teacher"]
    proxies = commands["few-proxies"]
    weights = str(few.folder("few") / "teacher" / "model_final.pth")
    assert proxies[-4:] == ["SEED", "2", "MODEL.WEIGHTS", weights]
    assert proxies[proxies.index("--num-gpus") + 1] == "2"
    assert f"('{masks}_1',)" in commands[f"{few.folder(true_masks(1)).name}-student"]


def value(command, key):
    """The last one wins, as on a tool's command line."""
    return command[len(command) - command[::-1].index(key)]


def three_stages(comparison, **row):
    """A row whose stages hand each other weights, labels and maps."""
    start = ["MODEL.WEIGHTS", "{detector.weights}"]
    maps = ["DATASETS.CUSTOM", "[['{dataset}', '{one.score_maps}/cam', '{json}']]"]
    stages = {
        "one": StagePlan("tags.yaml", start, "own"),
        "two": StagePlan("semantic.yaml", ["MODEL.WEIGHTS", "{one.weights}"], "own"),
        "three": StagePlan("fill.yaml", [*maps, "MODEL.WEIGHTS", "{two.weights}"]),
    }
    return with_teachers(comparison, chain=TeacherPlan(stages=stages), **row)


def test_stages_see_what_earlier_ones_made(comparison, names):
    chain = three_stages(comparison)
    results = chain.run()
    assert results["rows"]["chain"]["share"] == 0.25
    commands, folder = results["commands"], chain.folder("chain")
    steps = [name for name in commands if name.startswith("chain-")]
    generated = [f"chain-{name}proxies" for name in ("one-", "")]
    scored = ["chain-quality", "chain-student"]
    assert sorted(steps) == sorted(["chain-one", "chain-two", *generated, *scored])
    own = str(folder / "one" / "model_final.pth")
    detector = str(chain.output / "detector" / "model_final.pth")
    assert value(commands["chain-one"], "MODEL.WEIGHTS") == detector
    assert value(commands["chain-one-proxies"], "MODEL.WEIGHTS") == own
    assert value(commands["chain-two"], "MODEL.WEIGHTS") == own
    last = commands["chain-proxies"]
    assert value(last, "MODEL.WEIGHTS") == str(folder / "two" / "model_final.pth")
    maps, data = folder / "one" / "score_maps" / names[0] / "cam", comparison.custom[0][1]
    assert value(last, "DATASETS.CUSTOM") == f"[['{names[0]}', '{maps}', '{data}']]"
    assert value(last, "OUTPUT_DIR") == str(folder)


def test_a_semantic_student_is_judged_beside_the_masks(comparison, names):
    """The second row writes no masks; its student has a config and a start of its own."""
    both = TeacherPlan("fill.yaml", labels=["y"])
    own = TrainingPlan("semantic.yaml", ["MODEL.WEIGHTS", "{teacher.weights}"])
    maps = TeacherPlan("fill.yaml", weights="own", labels=["y"], segmentor=own)
    rows = {"both": both, "none": TeacherPlan("fill.yaml"), "MAPS_ONLY": maps}
    semantic = with_teachers(comparison, segmentor=TrainingPlan("semantic.yaml"), **rows)
    results = semantic.run()
    rows, commands = results["rows"], results["commands"]
    assert [rows[name].get("mIoU") for name in rows] == [70, 31, None, 31]
    assert rows["both"]["mIoU_share"] == 31 / 70 and rows["both"]["AP"] == 10
    assert "AP" not in rows["MAPS_ONLY"] and not semantic.predictions("MAPS_ONLY").exists()
    labels = semantic.folder("both") / "pseudo_labels" / names[0] / "y"
    name = f"{names[0]}_both_labels"
    entry = [name, comparison.custom[0][1], "", {"y": str(labels)}]
    command = commands["both-semantic"]
    assert value(command, "DATASETS.CUSTOM_SEM_SEG") == repr([entry])
    assert value(command, "DATASETS.TRAIN") == f"('{name}',)"
    assert value(command, "MODEL.SEGMENTOR.LABELS") == "('y',)"
    start = semantic.folder("MAPS_ONLY") / "teacher" / "model_final.pth"
    assert value(commands["MAPS_ONLY-semantic"], "MODEL.WEIGHTS") == str(start)
    bound = commands["true_masks-semantic"]
    assert value(bound, "DATASETS.TRAIN") == f"('{names[1]}',)"
    assert value(bound, "WSIS.SUPERVISION") == "mask"
    table = format_results(results).splitlines()
    assert [cell.strip() for cell in table[0].split("|")[-3:-1]] == ["student mIoU", "share"]
    cells = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in table}
    assert [cell.strip() for cell in cells["MAPS_ONLY"]] == ["-"] * 5 + ["31.0", "0.44"]
    assert cells["none"][-1].strip() == "-"


def write_recordable(checkout):
    """A student on a frozen detector."""
    (checkout / "tools" / "record_rois.py").touch()
    model = {"MASK_ON": True, "ROI_HEADS": {"NAME": "StandardROIHeads"}}
    values = {"WSIS": {"FREEZE": list(FROZEN)}, "MODEL": model, "SOLVER": {"MAX_ITER": 9}}
    (checkout / "student.yaml").write_text(json.dumps({**values, "SEED": 5}))


def test_students_on_a_frozen_detector_learn_from_one_record(comparison, tmp_path, monkeypatch):
    """But one whose detector sees the images otherwise, and one that takes more steps."""
    write_recordable(comparison.checkout)
    other = {"sizes": ["INPUT.MIN_SIZE_TRAIN", "(9,)"], "longer": ["SOLVER.MAX_ITER", "10"]}
    opts = {"same": [], "weighted": ["MODEL.ROI_MASK_HEAD.SCORE_MODE", "weight"], **other}
    students = {name: TrainingPlan("student.yaml", own) for name, own in opts.items()}
    rows = {name: TeacherPlan("fill.yaml", student=own) for name, own in students.items()}
    commands = with_teachers(comparison, **rows).run()["commands"]
    assert value(commands["rois"], "DATASETS.TRAIN") == f"('{comparison.plan.train_boxes}',)"
    folder = value(commands["rois"], "OUTPUT_DIR")
    for row in ("true_masks", "same", "weighted"):
        command = commands[f"{row}-student"]
        assert value(command, "MODEL.META_ARCHITECTURE") == "RecordedRCNN"
        assert value(command, "MODEL.ROI_MASK_HEAD.RECORD") == folder
    assert not any("RecordedRCNN" in commands[f"{row}-student"] for row in other)
    monkeypatch.setattr(wsis.engine.comparison, "SHARE_OF_DISK", 0.0)
    assert with_teachers(comparison, **rows).run()["commands"] == commands
    plan = with_teachers(comparison, **rows).plan
    small = Comparison(plan, comparison.checkout, tmp_path / "small")
    assert not any("rois" in name for name in small.run()["commands"])


def test_students_of_several_seeds_have_a_record_each_and_their_mean(comparison):
    write_recordable(comparison.checkout)
    train = comparison.checkout / "tools/train_net.py"  # AP of the boxes' student: 4 + seed
    train.write_text(train.read_text().replace('"proxy": 10.0', '"proxy": 4.0 + int(SEED)'))
    train.write_text(
        "import sys; SEED = ([5] + sys.argv)[sys.argv.index('SEED') + 2 if "
        "'SEED' in sys.argv else 0]\n" + train.read_text()
    )
    rows = {"three": TeacherPlan("fill.yaml", seeds=3), "one": TeacherPlan("fill.yaml")}
    results = with_teachers(comparison, **rows).run()
    commands = results["commands"]
    for suffix, seed in (("", None), ("_seed2", "6"), ("_seed3", "7")):
        for row in ("true_masks", "three"):
            command = commands[f"{row}-student{suffix}"]
            folder = str(comparison.output / f"rois{suffix}")
            assert value(command, "MODEL.ROI_MASK_HEAD.RECORD") == folder
            assert ("SEED" in command) == bool(seed) and command[-1] == (seed or command[-1])
        assert commands[f"rois{suffix}"][-1] == (seed or commands["rois"][-1])
    assert [name for name in commands if name.startswith("one-student")] == ["one-student"]
    row = results["rows"]["three"]
    assert row["AP"] == 10 and [seed["AP"] for seed in row["seeds"]] == [9, 10, 11]
    assert row["share"] == 0.25 and "10.0 (9.0 - 11.0)" in format_results(results)


def test_a_row_without_masks_and_labels_is_refused(comparison):
    with pytest.raises(StepError, match="MAPS_ONLY: no .* was made, and the row names no labels"):
        with_teachers(comparison, MAPS_ONLY=TeacherPlan("fill.yaml")).run()


def test_started_again_it_repeats_nothing(comparison):
    first = comparison.run()
    for tool in (comparison.checkout / "tools").iterdir():
        tool.write_text("raise SystemExit('called again')")
    again = with_teachers(comparison, **comparison.plan.teachers)
    assert again.run()["rows"] == first["rows"]


def test_what_a_plan_shows_is_made_before_the_trainings(comparison):
    picture = str(comparison.output / "picture.json")
    show = [["tools/evaluate_proxy_masks.py", "--output", picture]]
    shows = Comparison(replace(comparison.plan, show=show), comparison.checkout, comparison.output)
    (comparison.checkout / "tools/train_net.py").write_text("raise SystemExit('error: later')")
    comparison.output.mkdir()
    with pytest.raises(StepError, match="step detector failed"):
        shows.run()
    assert Path(picture).exists()


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


def test_a_row_reads_the_proxies_of_earlier_ones_and_waits_for_them(comparison):
    """The earlier rows take their time, and the jobs would be enough for all."""
    tool = comparison.checkout / "tools" / "generate_proxy_masks.py"
    slow = "import ast, time\ntime.sleep(0.3)\nread = keys.get('MODEL.FUSION.FILES', '[]')\n"
    slow += "assert all(pathlib.Path(path).exists() for path in ast.literal_eval(read))\nfolder ="
    tool.write_text(tool.read_text().replace("folder =", slow, 1))
    files = ["MODEL.FUSION.FILES", "['{row_1.proxy}','{a_b.proxy}']"]
    rows = {name: TeacherPlan("fill.yaml") for name in ("row 1", "other", "a + b")}
    rows["fused"] = TeacherPlan("fill.yaml", files)
    plan = with_teachers(comparison, jobs=4, **rows)
    assert plan.needs("fused") == ["row 1", "a + b"] and plan.needs("a + b") == []
    command = plan.run()["commands"]["fused-proxies"]
    expected = [str(plan.proxy_file(name)) for name in ("row 1", "a + b")]
    assert value(command, "MODEL.FUSION.FILES") == str(expected).replace(", ", ",")
    early = {"fused": rows["fused"], "row 1": rows["row 1"], "a + b": rows["a + b"]}
    few = rows | {"row 1": replace(rows["row 1"], images=1)}
    for wrong in (early, few):
        with pytest.raises(ConfigError, match="nothing before it is named {row_1.proxy}"):
            with_teachers(comparison, **wrong).check()


def test_a_row_goes_on_from_the_student_of_another_one(comparison):
    """The first row is a student alone, and tells later ones no masks."""
    own = TrainingPlan("student.yaml", ["SEED", "3"])
    again = TeacherPlan("fill.yaml", ["MODEL.WEIGHTS", "{from-boxes.student}"])
    start = TrainingPlan("student.yaml", ["MODEL.WEIGHTS", "{again.student}"])
    rows = {"from-boxes": TeacherPlan(student=own), "again": again}
    rows["third"] = TeacherPlan("fill.yaml", student=start)
    plan = with_teachers(comparison, jobs=3, **rows)
    assert [plan.needs(row) for row in rows] == [[], ["from-boxes"], ["again"]]
    results = plan.run()
    made, commands = results["rows"], results["commands"]
    assert made["from-boxes"] == {"AP": 1, "AP50": 2, "AP75": 0.5, "share": 1 / 40}
    assert made["again"]["proxy_mIoU"] == 0.5
    assert [step for step in commands if step.startswith("from-boxes")] == ["from-boxes-student"]
    alone = commands["from-boxes-student"]
    keys = ("DATASETS.TRAIN", "WSIS.SUPERVISION", "SEED")
    expected = [f"('{comparison.plan.train_boxes}',)", "box", "3"]
    assert [value(alone, key) for key in keys] == expected
    starts = {"again-proxies": "from-boxes", "third-student": "again"}
    for step, row in starts.items():
        weights = plan.folder(row) / "student" / "model_final.pth"
        assert value(commands[step], "MODEL.WEIGHTS") == str(weights)
    files = TeacherPlan("fill.yaml", ["MODEL.FUSION.FILES", "['{from-boxes.proxy}']"])
    with pytest.raises(ConfigError, match="nothing before it is named {from-boxes.proxy}"):
        with_teachers(comparison, **rows, files=files).check()


def test_a_row_that_fails_stops_those_not_yet_begun(comparison):
    tool = comparison.checkout / "tools" / "generate_proxy_masks.py"
    tool.write_text("raise SystemExit('error: no such thing')")
    teachers = {f"row {i}": TeacherPlan("fill.yaml") for i in range(20)}
    with pytest.raises(StepError, match="-proxies failed .*error: no such thing"):
        with_teachers(comparison, jobs=2, **teachers).run()
    assert len(list((comparison.output / "logs").glob("*-proxies.txt"))) < 10


def test_a_folder_of_another_plan_is_refused(comparison):
    command = ["tools/evaluate_proxy_masks.py", "--output"]
    comparison.steps.run("a", [*command, str(comparison.output / "x")])
    with pytest.raises(ConfigError, match="step a was made by another plan"):
        comparison.steps.run("a", [*command, "y"])


def test_a_step_of_a_config_that_has_changed_since_is_refused(comparison):
    config = comparison.checkout / "changed.yaml"
    config.write_text("SEED: 1")
    tool = comparison.checkout / "tools" / "noted.py"
    tool.write_text("")
    command = ["tools/noted.py", "--config-file", config.name]
    comparison.steps.run("a", command)
    config.write_text("# the same\nSEED: 1")
    comparison.steps.run("a", command)
    config.write_text("SEED: 2")
    with pytest.raises(ConfigError, match="changed.yaml has changed since step a was made"):
        comparison.steps.run("a", command)


@pytest.mark.parametrize(
    ("stages", "row", "message"),
    [
        ({"a": {"opts": ["SEED", "{b.weights}"]}}, {}, "nothing before it is named {b.weights}"),
        ({"a": {"opts": ["SEED", "{a.weights}"]}}, {}, "nothing before it is named {a.weights}"),
        ({"a": {"config": "semantic.yaml"}, "b": {}}, {}, "not a teacher, .* nothing to do"),
        ({"b": {}}, {"labels": ["x", "y"]}, "semantic.yaml: it learns from 1 label, found"),
        ({"b": {}}, {"segmentor": TrainingPlan("fill.yaml")}, "FilledBox is not a segmentor"),
    ],
)
def test_stages_that_cannot_run_are_said_before_any_work(comparison, stages, row, message):
    stages = {name: StagePlan(**{"config": "fill.yaml"} | keys) for name, keys in stages.items()}
    teacher = TeacherPlan(stages=stages, **{"labels": ["y"]} | row)
    with pytest.raises(ConfigError, match=message):
        with_teachers(comparison, segmentor=TrainingPlan("semantic.yaml"), a=teacher).run()
    assert not comparison.output.exists()


def test_a_dataset_that_no_step_makes_is_missed_before_any_work(comparison):
    names = {"gone": comparison.checkout / "gone.json", "made": comparison.output / "made.json"}
    for name, path in names.items():
        opts = ["DATASETS.CUSTOM", f"[['{name}','{path}','']]"]
        plan = with_teachers(comparison, a=TeacherPlan("fill.yaml", opts))
        if name == "made":
            plan.check()
        else:
            with pytest.raises(ConfigError, match=f"{path} for 'gone', which is not there"):
                plan.run()
    assert not comparison.output.exists()


def test_what_is_missing_is_said_before_any_work(comparison, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    config = comparison.checkout / "fill.yaml"
    for name, text in (
        ("BoxCRF", "needs pydensecrf"),
        ("RetinaNet", r"fill\.yaml: not a teacher"),
    ):
        config.write_text(f"MODEL:\n  META_ARCHITECTURE: {name}\n")
        with pytest.raises(ConfigError, match=text):
            comparison.run()
    config.unlink()
    with pytest.raises(ConfigError, match=r"fill\.yaml: no such config file"):
        comparison.run()
    assert not comparison.output.exists()

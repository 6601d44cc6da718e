"""Teachers side by side: proxy masks, students and their scores, for every row the same way.

A plan names the data, the configs and the teachers. It is carried out by the very commands that a
user would type, one process each, so what the table shows anyone can repeat step by step. Each
finished step leaves a mark; a plan that was stopped continues where it was.
"""

from __future__ import annotations

import logging
import platform
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar, cast

import torch
from detectron2.config import CfgNode

from wsis.config import load_cfg
from wsis.data.registration import register_custom
from wsis.engine.plan import DETECTOR, OWN, Plan, StagePlan, TeacherPlan, TrainingPlan, fill
from wsis.engine.plan_files import PlanFiles, final_weights, last_stage, true_masks
from wsis.engine.steps import CONFIG, StepError, Steps
from wsis.errors import ConfigError, counted
from wsis.evaluation import share_of_upper_bound
from wsis.modeling.method import method_of
from wsis.modeling.recorded_rcnn import record_bytes, same_record, why_not_recorded
from wsis.modeling.segmentor import Segmentor
from wsis.modeling.teacher import Maker
from wsis.parallel import cores
from wsis.structures.proxy_file import read_json, write_json_atomic

logger = logging.getLogger(__name__)

SHARE_OF_DISK = 0.25
"""What RoI features may take of the room that there is."""
T = TypeVar("T")
Task = tuple[str, Callable[[], T], Sequence[str]]
"""A name, what is done, and the names of the tasks that must be done before."""


class Comparison(PlanFiles):
    """Carries out a plan.

    Args:
        plan, output: see :class:`PlanFiles`.
        checkout: folder that holds ``tools/`` and ``configs/``.
        jobs: what is made at a time, each with its share of the cores: rows, which have nothing but the detector in
            common, records of RoI features, and the data beside the pictures that are shown.
    """

    def __init__(self, plan: Plan, checkout: Path, output: Path, jobs: int = 1) -> None:
        super().__init__(plan, output)
        self.checkout = checkout
        self.jobs = jobs
        self.steps = Steps(checkout, output)
        self.custom = [list(entry) for entry in plan.custom]

    def check(self) -> None:
        """Everything that can be known before work starts: the configs, and what each teacher needs.

        Raises:
            ConfigError: a config, a package or a dataset that a teacher needs is missing.
        """
        if self.plan.detector:
            load_cfg(self.checkout / self.plan.detector, self.plan.opts)
        if self.plan.student:
            self._cfg(self.plan.student, self.places(self.rows[0]))
        if self.plan.segmentor:
            self._semantic(self.plan.segmentor, self.places(self.rows[0]))
        for row, teacher in self.plan.teachers.items():
            for name, stage in teacher.in_turn.items():
                kind = self._generates(stage, self.places(row, name))
                if kind is not None:
                    kind.check_requirements()
                elif stage.weights != OWN or name == last_stage(teacher):
                    raise ConfigError(
                        f"{stage.config}: not a teacher, so there is nothing to do with it"
                    )
            if teacher.student:
                self._cfg(teacher.student, self.places(row, ""))
            student = teacher.segmentor or self.plan.segmentor
            if student and teacher.labels:
                number = self._semantic(student, self.places(row, "")).num_labels
                if len(teacher.labels) != number:
                    raise ConfigError(
                        f"{student.config}: it learns from {counted(number, 'label')}, found {teacher.labels} for {row}"
                    )

    def _cfg(self, training: TrainingPlan, places: dict[str, str]) -> CfgNode:
        cfg = load_cfg(self.checkout / training.config, fill(training.opts, places))
        for name, json_file, *_ in cfg.DATASETS.CUSTOM if not self.plan.prepare else ():
            path = Path(json_file)
            if not path.is_relative_to(self.output) and not path.exists():  # no step makes it
                raise ConfigError(
                    f"{training.config}: DATASETS.CUSTOM names {json_file} for {name!r}, which is not there; name it, "
                    "or take the row out of the plan"
                )
        return cfg

    def _generates(self, stage: StagePlan, places: dict[str, str]) -> type[Maker] | None:
        kind = method_of(self._cfg(stage, places))
        return kind if issubclass(kind, Maker) else None

    def _semantic(self, student: TrainingPlan, places: dict[str, str]) -> type[Segmentor]:
        cfg = self._cfg(student, places)
        kind = method_of(cfg)
        if issubclass(kind, Segmentor):
            return cast("type[Segmentor]", kind)
        name = cfg.MODEL.META_ARCHITECTURE
        raise ConfigError(f"{student.config}: {name} is not a segmentor")

    def run(self) -> dict[str, Any]:
        """All steps.

        Returns:
            What ``results.json`` in the output folder holds: ``title``, ``machine``, ``rows`` (row name to
            ``proxy_mIoU``, ``proxy_IoU75``, ``status``, the student's ``AP``, ``AP50``, ``AP75`` (means over its
            ``seeds``, whose own numbers are there) and their ``share``, all of a row with masks, and the semantic
            student's ``mIoU`` and its ``mIoU_share``), ``detector`` (its box AP; empty without one or without ``val``),
            ``commands`` and ``seconds`` per step.

        Raises:
            ConfigError: the output folder belongs to another plan.
            StepError: a command failed.
        """
        self.check()
        shown: list[Task[None]] = [("show", self._show, ())] if self.plan.show else []
        self._at_a_time([("data", self._prepare, ()), *shown])
        detector = self.output / "detector"
        boxes = self.plan.train_boxes
        if self.plan.detector:
            opts = self.plan.opts
            self._train(DETECTOR, self.plan.detector, self.custom, boxes, detector, opts)
        if self.plan.student:
            self._record(self.plan.student)
        rows = self._make_rows()
        steps = self.steps.done()
        results = {
            "title": self.plan.title,
            "machine": _machine(),
            "rows": rows,
            "detector": _scores(detector, self.plan.val)["bbox"] if self.plan.val else {},
            "seconds": {step["name"]: step["seconds"] for step in steps},
            "commands": {step["name"]: step["command"] for step in steps},
        }
        write_json_atomic(self.output / "results.json", results, indent=2)
        return results

    def _prepare(self) -> None:
        if self.plan.prepare:
            self.steps.run("data", self.plan.prepare)
        self._register()
        for name in self.rows:
            self._data(self.images(name))

    def _show(self) -> None:
        for number, command in enumerate(self.plan.show, start=1):
            self.steps.run(f"show-{number}", command)

    def _record(self, student: TrainingPlan) -> None:
        """What the frozen detector gives the mask heads of the plan's students, once for all rows of an image set,
        unless it takes too much room.
        """
        room = shutil.disk_usage(self.output).free * SHARE_OF_DISK
        tasks: list[Task[None]] = []
        for row in self.rows:
            cfg = self._student_cfg(row, student)
            if row in self.plan.teachers or why_not_recorded(cfg):
                continue
            boxes, _ = self.names(self.images(row))
            for number in range(self.seeds(row)):
                folder = self.record(row, number)
                if not self.steps.has(folder.name):
                    if record_bytes(cfg) >= room:
                        break
                    room -= record_bytes(cfg) * SHARE_OF_DISK
                weights = final_weights(self.output / DETECTOR)
                keys = {"DATASETS.TEST": "()", "MODEL.WEIGHTS": weights}
                command = self._command(
                    "record_rois", student.config, self.custom, boxes, folder, **keys
                )
                command += fill(student.opts, self.places(row, "")) + self.plan.opts
                command += _seed(cfg, number)
                tasks.append((folder.name, partial(self.steps.run, folder.name, command), ()))
        self._at_a_time(tasks)

    def _student_cfg(self, row: str, student: TrainingPlan) -> CfgNode:
        opts = fill(student.opts, self.places(row, ""))
        return load_cfg(self.checkout / student.config, [*opts, *self.plan.opts])

    def _on_record(self, row: str, cfg: CfgNode, number: int) -> bool:
        """Whether there is a record of a seed, and a row's student would see what the plan's has seen then."""
        student = self.plan.student if self.steps.has(self.record(row, number).name) else None
        return student is not None and same_record(cfg, self._student_cfg(row, student))

    def _make_rows(self) -> dict[str, dict[str, Any]]:
        """Every row with its share."""
        rows = self._at_a_time(
            [(name, partial(self._row, name), self.needs(name)) for name in self.rows]
        )
        for name, row in rows.items() if self.plan.student else ():
            bound = rows[true_masks(self.images(name))]
            for metric, share in (("AP", "share"), ("mIoU", "mIoU_share")):
                if metric in row:
                    row[share] = share_of_upper_bound(row[metric], bound[metric])
        return rows

    def _at_a_time(self, tasks: Sequence[Task[T]]) -> dict[str, T]:
        """As many tasks at a time as there are jobs, each with its share of the cores; when one fails, those that run
        are finished and no other is begun.
        """
        jobs = max(1, min(self.jobs, len(tasks)))
        if jobs > 1:
            self.steps.environment = {"OMP_NUM_THREADS": str(max(1, cores() // jobs))}
        pool = ThreadPoolExecutor(jobs)
        made: dict[str, Future[T]] = {}
        for name, task, before in tasks:  # begun in this order, so that none waits for one after it
            made[name] = pool.submit(_after, [made[each] for each in before], task)
        try:
            wait(made.values(), return_when=FIRST_EXCEPTION)
        finally:
            pool.shutdown(cancel_futures=True)
            self.steps.environment = {}
        return {name: task.result() for name, task in made.items() if not task.cancelled()}

    def _row(self, name: str) -> dict[str, Any]:
        bound = self.plan.student
        if bound is None or name in self.plan.teachers:
            return self._teacher_row(name, self.plan.teachers[name])
        images = self.images(name)
        _, masks = self._data(images)
        student = self._student(name, bound, self.custom, masks, "mask")
        row = {"proxy_mIoU": 1.0, "proxy_IoU75": 1.0, **student}
        of_same = [t for row, t in self.plan.teachers.items() if self.images(row) == images]
        semantic = self.plan.segmentor
        if semantic and any(teacher.labels for teacher in of_same):
            labels = ["truth"] * self._semantic(semantic, self.places(name)).num_labels
            supervision = {"WSIS.SUPERVISION": "mask"}
            row |= self._semantic_student(name, semantic, masks, labels, **supervision)
        return row

    def _data(self, images: int) -> tuple[str, str]:
        """The training data without and with masks, cut to the first images if there are to be fewer."""
        names = self.names(images)
        known = {entry[0] for entry in self.custom}
        for whole, name in zip((self.plan.train_boxes, self.plan.train_masks), names, strict=True):
            if name == whole or name in known:
                continue
            source, root = self.files(whole)
            path, _ = self.files(whole, images)
            command = ["datasets/take_images.py", "--json", source]
            self.steps.run(f"data-{name}", [*command, "--count", str(images), "--output", path])
            self.custom.append([name, path, root])
            self._register()
        return names

    def _register(self) -> None:
        cfg = load_cfg(None)
        cfg.DATASETS.CUSTOM = self.custom
        register_custom(cfg)

    def _teacher_row(self, name: str, teacher: TeacherPlan) -> dict[str, Any]:
        boxes, _ = self._data(self.images(name))
        folder, proxies = self.folder(name), self.proxy_file(name)
        for stage_name, stage in teacher.in_turn.items():
            self._stage(name, stage_name, stage)
        row: dict[str, Any] = {}
        json_file, root = self.files(self.plan.train_boxes, self.images(name))
        student = teacher.student or self.plan.student
        if student and not teacher.in_turn:
            row = self._student(name, student, self.custom, boxes, "box")
        elif proxies.exists():
            quality = folder / "proxy_quality.json"
            command = ["tools/evaluate_proxy_masks.py", "--proxy", str(proxies)]
            command += ["--gt", str(self.truth(name).json_file), "--output", str(quality)]
            self.steps.run(f"{folder.name}-quality", command)
            scores = read_json(quality)
            row = {f"proxy_{name}": scores["overall"][name] for name in ("mIoU", "IoU75")}
            row["status"] = scores["status"]
            if student:
                dataset = f"{boxes}_{folder.name}"
                custom = [*self.custom, [dataset, str(proxies), root]]
                row |= self._student(name, student, custom, dataset, "proxy")
        semantic = teacher.segmentor or self.plan.segmentor
        if semantic and teacher.labels:
            dataset = f"{boxes}_{folder.name}_labels"
            made = folder / "pseudo_labels" / boxes
            folders = {label: str(made / label) for label in teacher.labels}
            entry = [dataset, json_file, root, folders]
            keys = {"DATASETS.CUSTOM_SEM_SEG": repr([entry])}
            row |= self._semantic_student(name, semantic, dataset, teacher.labels, **keys)
        if not row:
            raise StepError(f"{name}: no {proxies} was made, and the row names no labels")
        return row

    def _stage(self, row: str, name: str, stage: StagePlan) -> None:
        """Trains and generates."""
        boxes, _ = self.names(self.images(row))
        places = self.places(row, name)
        opts, trained = fill(stage.opts, places), self.folder(row) / name
        if stage.weights == OWN:
            command = self._command(
                "train_net", stage.config, self.custom, boxes, trained, **{"DATASETS.TEST": "()"}
            )
            self.steps.run(f"{self.folder(row).name}-{name}", command + opts)
        if self._generates(stage, places) is None:
            return
        made = self.made(row, name)
        command = self._command("generate_proxy_masks", stage.config, self.custom, boxes, made)
        if stage.processes > 1:
            command[4:4] = ["--num-gpus", str(stage.processes)]
        source = {OWN: final_weights(trained), DETECTOR: places[f"{DETECTOR}.weights"]}
        if stage.weights:  # after the opts, which may name those that its training starts from
            opts += ["MODEL.WEIGHTS", source[stage.weights]]
        last = made == self.folder(row)
        step = f"{self.folder(row).name}-{'' if last else f'{name}-'}proxies"
        self.steps.run(step, command + opts)

    def _student(
        self, row: str, student: TrainingPlan, custom: list[Any], dataset: str, supervision: str
    ) -> dict[str, Any]:
        cfg = self._student_cfg(row, student)
        opts = fill(student.opts, self.places(row, "")) + self.plan.opts
        found = []
        for number in range(self.seeds(row)):
            folder = self.student(row, number)
            weights = final_weights(self.output / DETECTOR)
            keys = {"MODEL.WEIGHTS": weights, "WSIS.SUPERVISION": supervision}
            if self._on_record(row, cfg, number):
                keys["MODEL.META_ARCHITECTURE"] = "RecordedRCNN"
                keys["MODEL.ROI_MASK_HEAD.RECORD"] = str(self.record(row, number))
            step, words = f"{folder.parent.name}-{folder.name}", opts + _seed(cfg, number)
            self._train(step, student.config, custom, dataset, folder, words, **keys)
            scores = _scores(folder, self.plan.val)["segm"]
            found.append({metric: scores[metric] for metric in ("AP", "AP50", "AP75")})
        means = {metric: fmean(each[metric] for each in found) for metric in found[0]}
        return means | ({"seeds": found} if len(found) > 1 else {})

    def _semantic_student(
        self, row: str, student: TrainingPlan, dataset: str, labels: Sequence[str], **keys: str
    ) -> dict[str, Any]:
        """The mIoU of its first protocol."""
        folder = self.folder(row) / "semantic"
        keys["MODEL.SEGMENTOR.LABELS"] = repr(tuple(labels))
        opts = fill(student.opts, self.places(row, "")) + self.plan.opts
        step = f"{folder.parent.name}-semantic"
        self._train(step, student.config, self.custom, dataset, folder, opts, **keys)
        return {"mIoU": next(iter(_scores(folder, self.plan.val).values()))["mIoU"]}

    def _train(
        self,
        step: str,
        config: str,
        custom: list[Any],
        dataset: str,
        folder: Path,
        opts: Sequence[str] = (),
        **keys: str,
    ) -> None:
        keys = {"DATASETS.TEST": f"('{self.plan.val}',)" if self.plan.val else "()", **keys}
        command = self._command("train_net", config, custom, dataset, folder, **keys)
        self.steps.run(step, [*command, *opts])

    def _command(
        self, tool: str, config: str, custom: list[Any], dataset: str, folder: Path, **keys: str
    ) -> list[str]:
        keys = {"OUTPUT_DIR": str(folder), "DATASETS.TRAIN": f"('{dataset}',)", **keys}
        names = {dataset, *(entry[0] for entry in self.plan.custom)}  # not those of other rows
        seen = [entry for entry in custom if entry[0] in names]
        if seen:
            keys["DATASETS.CUSTOM"] = repr(seen)
        words = [text for pair in keys.items() for text in pair]
        return [f"tools/{tool}.py", "--resume", CONFIG, config, *words]


def _after(before: Sequence[Future[T]], task: Callable[[], T]) -> T:
    for other in before:
        other.result()
    return task()


def _seed(cfg: CfgNode, number: int) -> list[str]:
    """What gives a training one of its seeds; the first is the config's."""
    return ["SEED", str(max(cfg.SEED, 0) + number)] if number else []


def _scores(folder: Path, dataset: str) -> dict[str, Any]:
    return read_json(folder / "inference" / "results.json")[dataset]


def _machine() -> dict[str, Any]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {"cpu_cores": cores(), "device": device, **versions}

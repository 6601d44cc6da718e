"""Teachers side by side: proxy masks, students and their scores, for every row the same way.

A plan names the data, the configs and the teachers. It is carried out by the very commands that a
user would type, one process each, so what the table shows anyone can repeat step by step. Each
finished step leaves a mark; a plan that was stopped continues where it was.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch
from detectron2.modeling import META_ARCH_REGISTRY
from tabulate import tabulate

from wsis.config import load_cfg
from wsis.data.registration import get_source, register_custom
from wsis.data.source import CocoSource
from wsis.engine.plan import Plan, TeacherPlan
from wsis.errors import ConfigError, WsisError, counted
from wsis.evaluation import share_of_upper_bound
from wsis.modeling.teacher import Teacher
from wsis.parallel import cores
from wsis.structures.proxy_file import read_json, write_json_atomic

logger = logging.getLogger(__name__)

TRUE_MASKS = "true masks"


def true_masks(images: int = 0) -> str:
    """The row of the upper bound on so many training images; 0 = all."""
    return f"{TRUE_MASKS}, {counted(images, 'image')}" if images else TRUE_MASKS


class StepError(WsisError):
    """A command of the plan failed; its output stands above."""


class Comparison:
    """Carries out a plan.

    Args:
        plan: what to compare.
        checkout: folder that holds ``tools/`` and ``configs/``.
        output: folder of everything that is made.
        jobs: rows that are made at a time, each with its share of the cores; they have nothing but the detector in
            common.
    """

    def __init__(self, plan: Plan, checkout: Path, output: Path, jobs: int = 1) -> None:
        self.plan = plan
        self.checkout = checkout
        self.output = output
        self.jobs = jobs
        self.environment: dict[str, str] = {}
        self.custom = [list(entry) for entry in plan.custom]

    def check(self) -> None:
        """Everything that can be known before work starts: the configs, and what each teacher needs.

        Raises:
            ConfigError: a config or a package that a teacher needs is missing.
        """
        for config in (self.plan.detector, self.plan.student):
            load_cfg(self.checkout / config, self.plan.opts)
        for teacher in self.plan.teachers.values():
            cfg = load_cfg(self.checkout / teacher.config, teacher.opts)
            kind = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
            if not issubclass(kind, Teacher):
                name = cfg.MODEL.META_ARCHITECTURE
                raise ConfigError(f"{teacher.config}: {name} is not a teacher")
            kind.check_requirements()

    def run(self) -> dict[str, Any]:
        """All steps.

        Returns:
            What ``results.json`` in the output folder holds: ``title``, ``machine``, ``rows`` (row
            name to ``proxy_mIoU``, ``AP``, ``AP50``, ``AP75``, ``share``, ``status``), ``detector``
            (its box AP), ``commands`` and ``seconds`` per step.

        Raises:
            ConfigError: the output folder belongs to another plan.
            StepError: a command failed.
        """
        self.check()
        if self.plan.prepare:
            self.step("data", self.plan.prepare)
        self._register()
        detector = self.output / "detector"
        boxes = self.plan.train_boxes
        self._train("detector", self.plan.detector, self.custom, boxes, detector)
        weights = str(detector / "model_final.pth")
        for name in self.rows:
            self._data(self._images(name))
        rows = self._make_rows(weights)
        steps = [json.loads(p.read_text()) for p in sorted((self.output / "steps").glob("*.json"))]
        results = {
            "title": self.plan.title,
            "machine": _machine(),
            "rows": rows,
            "detector": _scores(detector, self.plan.val)["bbox"],
            "seconds": {step["name"]: step["seconds"] for step in steps},
            "commands": {step["name"]: step["command"] for step in steps},
        }
        write_json_atomic(self.output / "results.json", results, indent=2)
        return results

    def _make_rows(self, detector: str) -> dict[str, dict[str, Any]]:
        """Every row with its share; when one fails, those that run are finished and no other is begun."""
        if self.jobs > 1:
            self.environment = {"OMP_NUM_THREADS": str(max(1, cores() // self.jobs))}
        pool = ThreadPoolExecutor(self.jobs)
        made = {name: pool.submit(self._row, name, detector) for name in self.rows}
        try:
            wait(made.values(), return_when=FIRST_EXCEPTION)
        finally:
            pool.shutdown(cancel_futures=True)
        rows = {name: row.result() for name, row in made.items() if not row.cancelled()}
        for name, row in rows.items():
            bound = rows[true_masks(self._images(name))]
            row["share"] = share_of_upper_bound(row["AP"], bound["AP"])
        return rows

    def _row(self, name: str, detector: str) -> dict[str, Any]:
        if name in self.plan.teachers:
            return self._teacher_row(name, self.plan.teachers[name], detector)
        _, masks = self._data(self._images(name))
        return self._student(name, self.custom, masks, "mask", detector) | {"proxy_mIoU": 1.0}

    def folder(self, row: str) -> Path:
        """Where a row's files lie."""
        return self.output / row.replace(" + ", "_").replace(", ", "_").replace(" ", "_")

    def proxy_file(self, row: str) -> Path:
        """A row's proxy masks; of the true masks the file that has them."""
        if row not in self.plan.teachers:
            return Path(self.truth(row).json_file)
        boxes, _ = self._names(self._images(row))
        return self.folder(row) / "proxy" / f"{boxes}.json"

    def truth(self, row: str) -> CocoSource:
        """The true masks of the images that a row has."""
        return get_source(self._names(self._images(row))[1], bad_box="skip")

    @property
    def rows(self) -> list[str]:
        """Names of the rows, each after the upper bound that it is compared with."""
        names = [true_masks(self.plan.images)]
        for name in self.plan.teachers:
            names += [true_masks(self._images(name)), name]
        return list(dict.fromkeys(names))

    def _images(self, row: str) -> int:
        """How many training images a row has; 0 = all."""
        teachers = self.plan.teachers
        if row in teachers:
            return teachers[row].images or self.plan.images
        numbers = (self.plan.images, *(teacher.images for teacher in teachers.values()))
        return next(number for number in numbers if true_masks(number) == row)

    def _names(self, images: int) -> tuple[str, str]:
        """Names of the training data without and with masks."""
        names = self.plan.train_boxes, self.plan.train_masks
        return (f"{names[0]}_{images}", f"{names[1]}_{images}") if images else names

    def _data(self, images: int) -> tuple[str, str]:
        """The training data without and with masks, cut to the first images if there are to be fewer."""
        names = self._names(images)
        known = {entry[0] for entry in self.custom}
        for whole, name in zip((self.plan.train_boxes, self.plan.train_masks), names, strict=True):
            if name == whole or name in known:
                continue
            source = get_source(whole, bad_box="skip")
            path = str(self.output / f"{name}.json")
            command = ["datasets/take_images.py", "--json", str(source.json_file)]
            self.step(f"data-{name}", [*command, "--count", str(images), "--output", path])
            self.custom.append([name, path, source.image_root])
            self._register()
        return names

    def predictions(self, row: str) -> Path:
        """What a row's student predicts on the validation data: a COCO results file."""
        folder = self.folder(row) / "student" / "inference" / self.plan.val
        return folder / "coco_instances_results.json"

    def _register(self) -> None:
        cfg = load_cfg(None)
        cfg.DATASETS.CUSTOM = self.custom
        register_custom(cfg)

    def _teacher_row(self, name: str, teacher: TeacherPlan, detector: str) -> dict[str, Any]:
        boxes, _ = self._data(self._images(name))
        folder, proxies = self.folder(name), self.proxy_file(name)
        weights = {"MODEL.WEIGHTS": detector} if teacher.weights else {}
        if teacher.weights == "own":
            own, test = folder / "teacher", {"DATASETS.TEST": "()"}
            command = self._command("train_net", teacher.config, self.custom, boxes, own, **test)
            self.step(f"{folder.name}-teacher", command + teacher.opts)
            weights = {"MODEL.WEIGHTS": str(own / "model_final.pth")}
        command = self._command(
            "generate_proxy_masks", teacher.config, self.custom, boxes, folder, **weights
        )
        if teacher.processes > 1:
            command[4:4] = ["--num-gpus", str(teacher.processes)]
        self.step(f"{folder.name}-proxies", command + teacher.opts)
        quality = folder / "proxy_quality.json"
        command = ["tools/evaluate_proxy_masks.py", "--proxy", str(proxies)]
        command += ["--gt", str(self.truth(name).json_file), "--output", str(quality)]
        self.step(f"{folder.name}-quality", command)
        dataset = f"{boxes}_{folder.name}"
        root = get_source(boxes, bad_box="skip").image_root
        custom = [*self.custom, [dataset, str(proxies), root]]
        row = self._student(name, custom, dataset, "proxy", detector)
        scores = read_json(quality)
        return {**row, "proxy_mIoU": scores["overall"]["mIoU"], "status": scores["status"]}

    def _student(
        self, row: str, custom: list[Any], dataset: str, supervision: str, weights: str
    ) -> dict[str, Any]:
        folder = self.folder(row) / "student"
        keys = {"MODEL.WEIGHTS": weights, "WSIS.SUPERVISION": supervision}
        step = f"{folder.parent.name}-student"
        self._train(step, self.plan.student, custom, dataset, folder, **keys)
        scores = _scores(folder, self.plan.val)["segm"]
        return {metric: scores[metric] for metric in ("AP", "AP50", "AP75")}

    def _train(
        self, step: str, config: str, custom: list[Any], dataset: str, folder: Path, **keys: str
    ) -> None:
        keys = {"DATASETS.TEST": f"('{self.plan.val}',)", **keys}
        command = self._command("train_net", config, custom, dataset, folder, **keys)
        self.step(step, command + self.plan.opts)

    def _command(
        self, tool: str, config: str, custom: list[Any], dataset: str, folder: Path, **keys: str
    ) -> list[str]:
        keys = {"OUTPUT_DIR": str(folder), "DATASETS.TRAIN": f"('{dataset}',)", **keys}
        if custom:
            keys["DATASETS.CUSTOM"] = repr(custom)
        words = [text for pair in keys.items() for text in pair]
        return [f"tools/{tool}.py", "--resume", "--config-file", config, *words]

    def step(self, name: str, command: Sequence[str]) -> None:
        """Runs one command in its own process, unless its mark says that it is done.

        Raises:
            ConfigError: the mark is of another command.
            StepError: the command failed.
        """
        mark = self.output / "steps" / f"{name}.json"
        command = [os.fspath(part) for part in command]
        if mark.exists():
            done = json.loads(mark.read_text())
            if done["command"] != command:
                raise ConfigError(
                    f"{self.output}: step {name} was made by another plan; remove the folder or "
                    "choose another one with --output"
                )
            logger.info("%s: done before", name)
            return
        logger.info("%s: python %s", name, subprocess.list2cmdline(command))
        start = time.monotonic()
        log = self.output / "logs" / f"{name}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as stream:
            status = subprocess.run(
                [sys.executable, *command],
                cwd=self.checkout,
                env={**self.environment, **os.environ},
                stdout=stream,
                stderr=subprocess.STDOUT,
            ).returncode
        if status:
            tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise StepError(f"step {name} failed with status {status}: {''.join(tail)} (see {log})")
        seconds = round(time.monotonic() - start, 1)
        write_json_atomic(mark, {"name": name, "command": command, "seconds": seconds})


def _scores(folder: Path, dataset: str) -> dict[str, Any]:
    return read_json(folder / "inference" / "results.json")[dataset]


def _machine() -> dict[str, Any]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {"cpu_cores": cores(), "device": device, **versions}


def format_results(results: dict[str, Any]) -> str:
    """The table of a finished comparison."""
    rows = [
        [name, row["proxy_mIoU"], row["AP"], row["AP50"], row["AP75"], row["share"]]
        for name, row in results["rows"].items()
    ]
    head = ["masks from", "proxy mIoU", "student AP", "AP50", "AP75", "share"]
    formats = ("", ".3f", ".1f", ".1f", ".1f", ".2f")
    return tabulate(rows, head, tablefmt="github", floatfmt=formats, missingval="-")

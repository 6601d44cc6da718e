"""Where everything of a plan lies: rows, folders, names of the data, and what the opts of a stage may name."""

from __future__ import annotations

from pathlib import Path

from wsis.data.registration import get_source
from wsis.data.source import CocoSource
from wsis.engine.plan import DETECTOR, Plan, TeacherPlan
from wsis.errors import counted

TRUE_MASKS = "true masks"


def true_masks(images: int = 0) -> str:
    """The row of the upper bound on so many training images; 0 = all."""
    return f"{TRUE_MASKS}, {counted(images, 'image')}" if images else TRUE_MASKS


def last_stage(teacher: TeacherPlan) -> str:
    """Name of the stage that makes what the row is about."""
    return list(teacher.in_turn)[-1]


def final_weights(folder: Path) -> str:
    """The file that a training in a folder ends with."""
    return str(folder / "model_final.pth")


def _suffix(number: int) -> str:
    """Of the files of a seed that is not the first."""
    return f"_seed{number + 1}" if number else ""


class PlanFiles:
    """The places of a plan's results.

    Args:
        plan: what to compare.
        output: folder of everything that is made.
    """

    def __init__(self, plan: Plan, output: Path) -> None:
        self.plan = plan
        self.output = output

    def folder(self, row: str) -> Path:
        """Where a row's files lie."""
        return self.output / row.replace(" + ", "_").replace(", ", "_").replace(" ", "_")

    def proxy_file(self, row: str) -> Path:
        """A row's proxy masks; of the true masks the file that has them."""
        if row not in self.plan.teachers:
            return Path(self.truth(row).json_file)
        boxes, _ = self.names(self.images(row))
        return self.folder(row) / "proxy" / f"{boxes}.json"

    def seeds(self, row: str) -> int:
        """How many seeds a row's mask student has; on true masks as many as any row of the same images."""
        if row in self.plan.teachers:
            return self.plan.teachers[row].seeds
        images = self.images(row)
        of_same = (t.seeds for name, t in self.plan.teachers.items() if self.images(name) == images)
        return max(of_same, default=1)

    def student(self, row: str, number: int = 0) -> Path:
        """Where a row's mask student of one of its seeds lies."""
        return self.folder(row) / f"student{_suffix(number)}"

    def record(self, row: str, number: int = 0) -> Path:
        """Recorded RoI features of the images that a row has, as one of its seeds draws them, see
        :mod:`wsis.data.roi_record`.
        """
        images = self.images(row)
        return self.output / f"rois{f'_{images}' if images else ''}{_suffix(number)}"

    def truth(self, row: str) -> CocoSource:
        """The true masks of the images that a row has."""
        return get_source(self.names(self.images(row))[1], bad_box="skip")

    @property
    def rows(self) -> list[str]:
        """Names of the rows, each after the upper bound that it is compared with, if there are students."""
        if not self.plan.student:
            return list(self.plan.teachers)
        names = [true_masks(self.plan.images)]
        for name in self.plan.teachers:
            names += [true_masks(self.images(name)), name]
        return list(dict.fromkeys(names))

    def images(self, row: str) -> int:
        """How many training images a row has; 0 = all."""
        teachers = self.plan.teachers
        if row in teachers:
            return teachers[row].images or self.plan.images
        numbers = (self.plan.images, *(teacher.images for teacher in teachers.values()))
        return next(number for number in numbers if true_masks(number) == row)

    def names(self, images: int) -> tuple[str, str]:
        """Names of the training data without and with masks."""
        names = self.plan.train_boxes, self.plan.train_masks
        return (f"{names[0]}_{images}", f"{names[1]}_{images}") if images else names

    def files(self, whole: str, images: int = 0) -> tuple[str, str]:
        """JSON file and image folder of a dataset, or of its first images, which may still have to be made."""
        custom = {name: (json_file, root) for name, json_file, root in self.plan.custom}
        if whole not in custom:
            source = get_source(whole, bad_box="skip")
            custom[whole] = str(source.json_file), source.image_root
        json_file, root = custom[whole]
        return str(self.output / f"{whole}_{images}.json") if images else json_file, root

    def places(self, row: str, stage: str | None = None) -> dict[str, str]:
        """What the opts of a row's stage may name; of its students, who come after all stages, with ""."""
        images = self.images(row)
        boxes, _ = self.names(images)
        json_file, root = self.files(self.plan.train_boxes, images)
        places = {"dataset": boxes, "json": json_file, "images": root}
        places[f"{DETECTOR}.weights"] = final_weights(self.output / DETECTOR)
        for earlier in self.earlier(row):
            places |= self._of_row(earlier)
        teacher = None if stage is None else self.plan.teachers.get(row)
        for name in teacher.in_turn if teacher else ():
            if name == stage:
                break
            made = self.made(row, name)
            places[f"{name}.weights"] = final_weights(self.folder(row) / name)
            places[f"{name}.labels"] = str(made / "pseudo_labels" / boxes)
            places[f"{name}.score_maps"] = str(made / "score_maps" / boxes)
        return places

    def earlier(self, row: str) -> list[str]:
        """The rows of teachers before a row that have the same images."""
        names = list(self.plan.teachers)
        before = names[: names.index(row)] if row in names else []
        return [name for name in before if self.images(name) == self.images(row)]

    def _of_row(self, row: str) -> dict[str, str]:
        """What later rows may name of a row; one that is a student alone has no proxy masks."""
        name, student = self.folder(row).name, final_weights(self.student(row))
        proxy = {f"{name}.proxy": str(self.proxy_file(row))}
        return {f"{name}.student": student, **(proxy if self.plan.teachers[row].in_turn else {})}

    def needs(self, row: str) -> list[str]:
        """The earlier rows whose proxy masks or student a row names."""
        if row not in self.plan.teachers:
            return []
        teacher = self.plan.teachers[row]
        trainings = (*teacher.in_turn.values(), teacher.student, teacher.segmentor)
        opts = " ".join(text for training in trainings if training for text in training.opts)
        earlier = self.earlier(row)
        return [
            name for name in earlier if any(f"{{{place}}}" in opts for place in self._of_row(name))
        ]

    def made(self, row: str, stage: str) -> Path:
        """Where a stage puts what it generates."""
        last = stage == last_stage(self.plan.teachers[row])
        return self.folder(row) if last else self.folder(row) / stage

    def predictions(self, row: str) -> Path:
        """What a row's student predicts on the validation data: a COCO results file."""
        folder = self.student(row) / "inference" / self.plan.val
        return folder / "coco_instances_results.json"

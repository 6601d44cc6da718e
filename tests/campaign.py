"""Kills generation or training at random moments, continues it, and compares with a run that nobody disturbed.

    python -m tests.campaign generation --kills 200
    python -m tests.campaign tags --kills 200
    python -m tests.campaign training --kills 100

Generation, of masks or of the labels and score maps of tags, is started again on a random number of ranks and worker
processes after each kill; its files must be the same byte by byte. Training must use the same learning rate in every
iteration and end with the same weights.
"""

# ruff: noqa: T201  (its lines are what this command is for)

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import select
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import forkserver
from pathlib import Path

import torch
import torch.utils.tensorboard  # a training imports it late; here it is there for all of them
from detectron2.engine import HookBase
from detectron2.modeling import META_ARCH_REGISTRY

from tests.generating import in_a_process, outputs
from tests.noise import KINDS, make_cfg, write_data
from tests.tiny import teacher_config, write_dataset
from wsis.config import load_cfg
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisTrainer
from wsis.engine.generation import generate_proxy_masks
from wsis.engine.launch import _process_group

Setting = tuple[int, ...]


def finishes(child: int, errors: Path, seconds: float | None) -> bool:
    """Waits so long and then kills the child's group; returns whether the work was finished by then."""
    watched = os.pidfd_open(child)
    select.select([watched], [], [], seconds)
    os.close(watched)
    try:
        os.killpg(child, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # it has ended, or is not yet a group
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise AssertionError(f"the work ended in an error:\n{errors.read_text()}")
    return os.WIFEXITED(status)


def in_ranks(number: int, work: Callable[[], object], meeting: Path) -> None:
    """Does the work in this process and in so many less one copies of it, as the ranks of one run."""

    def as_rank(rank: int) -> None:
        with _process_group(rank, number, rank, number, f"file://{meeting}", "cpu"):
            work()

    if number == 1:
        work()
        return
    others = []
    for rank in range(1, number):
        other = os.fork()
        if not other:
            try:
                as_rank(rank)
            finally:
                os._exit(0)
        others.append(other)
    as_rank(0)
    for other in others:
        os.waitpid(other, 0)


def ready_for_workers() -> None:
    """One process from which the workers of all runs are forked, as starting it takes seconds. It may end with a run
    that is killed while asking for a worker, and is started again then.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["wsis.engine", "tests.noise", "tests.tiny"])
    end = time.monotonic() + 60
    while True:
        forkserver.ensure_running()
        try:
            trial = context.Process(target=int)  # it comes after all that was asked for before
            trial.start()
            trial.join()
            return
        except (OSError, EOFError):
            assert time.monotonic() < end
            time.sleep(0.1)


class Campaign:
    """Kills of a work at random moments, after which it is started again until it is finished.

    A campaign says what is started (``work``), how far a killed one was (``state``), what happened (``report``), and
    compares a finished one with the first and removes it (``compare``).

    Args:
        folder: for data and results.
        settings: with which it may be started, each of which is timed once.
    """

    def __init__(self, folder: Path, settings: Sequence[Setting]) -> None:
        self.folder = folder
        self.errors = folder / "error.txt"
        self.seconds: dict[Setting, float] = {}
        for setting in settings:
            began = time.monotonic()
            assert self.run(folder / "whole", setting, None)
            self.seconds[setting] = time.monotonic() - began
            self.compare(folder / "whole")

    def run(self, output: Path, setting: Setting, seconds: float | None) -> bool:
        """Starts or continues the work; returns whether it is finished after so many seconds."""
        output.mkdir(exist_ok=True)
        return finishes(in_a_process(self.work(output, setting), self.errors), self.errors, seconds)

    def kill(self, kills: int, chance: random.Random) -> str:
        """Kills so often, and lets the last work finish; returns what happened."""
        counts: Counter[str] = Counter()
        output = self.folder / "out"
        while counts["kills"] < kills or output.exists():
            setting = chance.choice(list(self.seconds))
            longest = 1.1 * self.seconds[setting]
            seconds = chance.uniform(0, longest) if counts["kills"] < kills else None
            if self.run(output, setting, seconds):
                self.compare(output)
                counts["finished"] += 1
                self.seconds[setting] *= 0.9  # what else the machine does may have ended
            else:
                counts["kills"] += 1
                counts[self.state(output)] += 1
                self.seconds[setting] *= 1.01
        return self.report(counts)


class Generation(Campaign):
    """Kills of generation; a setting is the numbers of ranks and of workers.

    Args:
        folder: for data and results.
        images: of the dataset; each takes a hundredth of a second.
        ranks, workers: the numbers to choose from.
        kind: of teacher, one of :data:`tests.noise.KINDS`.
    """

    def __init__(
        self,
        folder: Path,
        images: int = 40,
        ranks: tuple[int, ...] = (1, 2),
        workers: tuple[int, ...] = (0, 1, 2),
        kind: str = "NoiseTeacher",
    ) -> None:
        write_data(folder / "data", images)
        self.kind = kind
        self.model = META_ARCH_REGISTRY.get(kind)().eval()
        self.expected: dict[str, bytes] = {}
        super().__init__(folder, [(r, w) for r in ranks for w in workers])

    def work(self, output: Path, setting: Setting) -> Callable[[], None]:
        ranks, workers = setting
        if workers:
            ready_for_workers()
        (output / "slow").touch()
        keys = {"PROXY__NUM_WORKERS": workers, "MODEL__META_ARCHITECTURE": self.kind}
        cfg = make_cfg(self.folder / "data", output, **keys)
        self.model.trap = str(output)
        meeting = self.folder / "meeting"
        meeting.unlink(missing_ok=True)

        def work() -> None:
            forkserver._forkserver.ensure_running = lambda: None  # it is its parent's
            in_ranks(ranks, lambda: generate_proxy_masks(cfg, self.model, resume=True), meeting)

        return work

    def compare(self, output: Path) -> None:
        made = outputs(output)
        self.expected = self.expected or made
        names = made.keys() | self.expected.keys()
        other = sorted(name for name in names if made.get(name) != self.expected.get(name))
        assert KINDS[self.kind] in made and not other, f"{output}: differs: {other[:5]}"
        shutil.rmtree(output)

    def report(self, counts: Counter[str]) -> str:
        found = ", ".join(
            f"{counts[key]} {key}" for key in ("before the journal", "within it", "after the file")
        )
        return (
            f"{self.kind}: {counts['kills']} kills ({found}); {counts['finished']} runs finished, each equal to the "
            f"undisturbed one ({len(self.expected)} files, {sum(map(len, self.expected.values()))} bytes)"
        )

    def state(self, output: Path) -> str:
        if (output / KINDS[self.kind]).exists():
            return "after the file"
        journals = (output / "proxy").glob("*.jsonl") if (output / "proxy").exists() else ()
        return (
            "within it" if any(path.stat().st_size for path in journals) else "before the journal"
        )


class _NotesRates(HookBase):
    """Appends iteration and learning rate to a file, and makes the iteration last longer."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def before_step(self) -> None:
        rate = self.trainer.optimizer.param_groups[0]["lr"]
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(f"{self.trainer.iter} {rate!r}\n")
        time.sleep(0.01)


class Training(Campaign):
    """Kills of training.

    Args:
        folder: for data and results.
        iterations: of the training, with a checkpoint every third.
    """

    def __init__(self, folder: Path, iterations: int = 40) -> None:
        write_dataset(folder / "data")
        keys = {"SOLVER__MAX_ITER": iterations, "SOLVER__CHECKPOINT_PERIOD": 3}
        keys["SOLVER__STEPS"] = [iterations // 2, 3 * iterations // 4]
        self.config = teacher_config(folder, folder / "data", **keys)
        self.expected: tuple[dict[int, str], dict[str, torch.Tensor]] | None = None
        self.largest = 0.0
        super().__init__(folder, [()])
        assert len(self.expected[0]) == iterations
        assert len(set(self.expected[0].values())) >= 4, "warm-up and steps"

    def work(self, output: Path, setting: Setting) -> Callable[[], None]:
        cfg = load_cfg(str(self.config), ["OUTPUT_DIR", str(output)])
        prepare_datasets(cfg, cfg.DATASETS.TRAIN)

        def work() -> None:
            torch.manual_seed(0)
            trainer = WsisTrainer(cfg)
            trainer.register_hooks([_NotesRates(output / "rates.txt")])
            trainer.resume_or_load(True)
            trainer.train()

        return work

    def results(self, output: Path) -> tuple[dict[int, str], dict[str, torch.Tensor]]:
        """The learning rate of each iteration, the same whenever it was run, and the last weights."""
        rates: dict[int, str] = {}
        for line in (output / "rates.txt").read_text(encoding="utf-8").splitlines():
            iteration, rate = line.split()
            assert rates.setdefault(int(iteration), rate) == rate, f"iteration {iteration}: {rate}"
        weights = torch.load(output / "model_final.pth", weights_only=True)["model"]
        return rates, dict(weights)

    def compare(self, output: Path) -> None:
        found = self.results(output)
        self.expected = self.expected or found
        (rates, weights), (expected_rates, expected) = found, self.expected
        assert rates == expected_rates, f"{output}: learning rates differ"
        torch.testing.assert_close(weights, expected)
        torn = [*output.glob(".*.pth.*"), *output.glob(".last_checkpoint.*")]
        assert not torn, f"{output}: half a checkpoint is left"
        shutil.rmtree(output)
        off = (float((weights[n] - w).abs().max()) for n, w in expected.items())
        self.largest = max(self.largest, *off)

    def state(self, output: Path) -> str:
        return "checkpoint" if (output / "last_checkpoint").exists() else "nothing"

    def report(self, counts: Counter[str]) -> str:
        return (
            f"training: {counts['kills']} kills ({counts['checkpoint']} after a checkpoint); "
            f"{counts['finished']} trainings finished, learning rates equal in all of "
            f"{len(self.expected[0])} iterations, weights to {self.largest:.1e}"
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("what", choices=["generation", "tags", "training"])
    parser.add_argument("--kills", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    args = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="wsis-campaign-") as folder:
        kinds: dict[str, Callable[[Path], Campaign]] = {
            "generation": Generation,
            "tags": partial(Generation, kind="NoiseTagTeacher"),
            "training": Training,
        }
        print(kinds[args.what](Path(folder)).kill(args.kills, random.Random(args.seed)))
    print(f"{(time.monotonic() - began) / 60:.1f} minutes, seed {args.seed}")


if __name__ == "__main__":
    main()

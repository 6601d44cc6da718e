"""Kills generation or training at random moments, continues it, and compares with a run that nobody disturbed.

    python -m tests.campaign generation --kills 200
    python -m tests.campaign training --kills 100

Generation is started again on a random number of ranks and worker processes after each kill; its file must be the same
byte by byte. Training must use the same learning rate in every iteration and end with the same weights.
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
import traceback
from collections import Counter
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

import torch
import torch.utils.tensorboard  # a training imports it late; here it is there for all of them
from detectron2.config import CfgNode
from detectron2.engine import HookBase

from tests.noise import NoiseTeacher, make_cfg, write_data
from tests.tiny import teacher_config, write_dataset
from wsis.config import load_cfg
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisTrainer
from wsis.engine.generation import generate_proxy_masks
from wsis.engine.launch import _process_group


def start(work: Callable[[], object], errors: Path) -> int:
    """Does the work in a copy of this process, in a group of its own; exits with 1 if it raises, which is noted."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        work()
        status = 0
    except BaseException:  # noqa: BLE001  # the parent process tells
        errors.write_text(traceback.format_exc())
    finally:
        os._exit(status)


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


class Generation:
    """Kills of generation.

    Args:
        folder: for data and results.
        images: of the dataset; each takes a hundredth of a second.
        ranks, workers: the numbers to choose from.
    """

    def __init__(
        self,
        folder: Path,
        images: int = 40,
        ranks: tuple[int, ...] = (1, 2),
        workers: tuple[int, ...] = (0, 1, 2),
    ) -> None:
        self.folder = folder
        self.errors = folder / "error.txt"
        write_data(folder / "data", images)
        self.model = NoiseTeacher().eval()
        self.seconds: dict[tuple[int, int], float] = {}
        self.expected = b""
        for setting in [(r, w) for r in ranks for w in workers]:
            began = time.monotonic()
            assert self.run(folder / "whole", setting, None)
            self.seconds[setting] = time.monotonic() - began
            self.compare(folder / "whole")

    def run(self, output: Path, setting: tuple[int, int], seconds: float | None) -> bool:
        """Starts or continues a generation; returns whether it is finished after so many seconds."""
        ranks, workers = setting
        if workers:
            ready_for_workers()
        output.mkdir(exist_ok=True)
        (output / "slow").touch()
        cfg = make_cfg(self.folder / "data", output, PROXY__NUM_WORKERS=workers)
        self.model.trap = str(output)
        meeting = self.folder / "meeting"
        meeting.unlink(missing_ok=True)

        def work() -> None:
            forkserver._forkserver.ensure_running = lambda: None  # it is its parent's
            in_ranks(ranks, lambda: self.generate(cfg), meeting)

        return finishes(start(work, self.errors), self.errors, seconds)

    def generate(self, cfg: CfgNode) -> None:
        """One rank's work."""
        generate_proxy_masks(cfg, self.model, resume=True)

    def compare(self, output: Path) -> None:
        """Compares a finished run with the first, and removes it."""
        made = (output / "proxy/noise.json").read_bytes()
        self.expected = self.expected or made
        assert made == self.expected, f"{output}: the file differs"
        names = {path.name for path in (output / "proxy").iterdir() if path.suffix != ".jsonl"}
        assert names == {".lock", "noise.json"}, f"{output}: left behind: {names}"
        shutil.rmtree(output)

    def kill(self, kills: int, chance: random.Random) -> str:
        """Kills so often, and lets the last run finish; returns what happened."""
        counts: Counter[str] = Counter()
        output = self.folder / "out"
        while counts["kills"] < kills:
            setting = chance.choice(list(self.seconds))
            if self.run(output, setting, chance.uniform(0, 1.1 * self.seconds[setting])):
                self.compare(output)
                counts["finished"] += 1
            else:
                counts["kills"] += 1
                counts[self._state(output)] += 1
        assert self.run(output, chance.choice(list(self.seconds)), None)
        self.compare(output)
        counts["finished"] += 1
        found = ", ".join(
            f"{counts[key]} {key}" for key in ("before the journal", "within it", "after the file")
        )
        return (
            f"generation: {counts['kills']} kills ({found}); {counts['finished']} files finished, "
            f"each equal to the undisturbed one ({len(self.expected)} bytes)"
        )

    def _state(self, output: Path) -> str:
        if (output / "proxy/noise.json").exists():
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


class Training:
    """Kills of training.

    Args:
        folder: for data and results.
        iterations: of the training, with a checkpoint every third.
    """

    def __init__(self, folder: Path, iterations: int = 40) -> None:
        self.folder = folder
        self.errors = folder / "error.txt"
        write_dataset(folder / "data")
        keys = {"SOLVER__MAX_ITER": iterations, "SOLVER__CHECKPOINT_PERIOD": 3}
        keys["SOLVER__STEPS"] = [iterations // 2, 3 * iterations // 4]
        self.config = teacher_config(folder, folder / "data", **keys)
        began = time.monotonic()
        assert self.run(folder / "whole", None)
        self.seconds = time.monotonic() - began
        self.rates, self.weights = self.results(folder / "whole")
        assert len(self.rates) == iterations
        assert len(set(self.rates.values())) >= 4, "warm-up and steps"

    def run(self, output: Path, seconds: float | None) -> bool:
        """Starts or continues a training; returns whether it is finished after so many seconds."""
        cfg = load_cfg(str(self.config), ["OUTPUT_DIR", str(output)])
        prepare_datasets(cfg, cfg.DATASETS.TRAIN)
        output.mkdir(exist_ok=True)

        def work() -> None:
            torch.manual_seed(0)
            trainer = WsisTrainer(cfg)
            trainer.register_hooks([_NotesRates(output / "rates.txt")])
            trainer.resume_or_load(True)
            trainer.train()

        return finishes(start(work, self.errors), self.errors, seconds)

    def results(self, output: Path) -> tuple[dict[int, str], dict[str, torch.Tensor]]:
        """The learning rate of each iteration, the same whenever it was run, and the last weights."""
        rates: dict[int, str] = {}
        for line in (output / "rates.txt").read_text(encoding="utf-8").splitlines():
            iteration, rate = line.split()
            assert rates.setdefault(int(iteration), rate) == rate, f"iteration {iteration}: {rate}"
        weights = torch.load(output / "model_final.pth", weights_only=True)["model"]
        return rates, dict(weights)

    def compare(self, output: Path) -> float:
        """Compares a finished training with the undisturbed one, removes it, and returns the largest difference."""
        rates, weights = self.results(output)
        assert rates == self.rates, f"{output}: learning rates differ"
        torch.testing.assert_close(weights, self.weights)
        torn = [*output.glob(".*.pth.*"), *output.glob(".last_checkpoint.*")]
        assert not torn, f"{output}: half a checkpoint is left"
        shutil.rmtree(output)
        return max(float((weights[n] - w).abs().max()) for n, w in self.weights.items())

    def kill(self, kills: int, chance: random.Random) -> str:
        """Kills so often, and lets the last training finish; returns what happened."""
        counts: Counter[str] = Counter()
        largest = 0.0
        output = self.folder / "out"
        while counts["kills"] < kills:
            if self.run(output, chance.uniform(0, 1.1 * self.seconds)):
                largest = max(largest, self.compare(output))
                counts["finished"] += 1
                self.seconds *= 0.9  # what else the machine does may have ended
            else:
                counts["kills"] += 1
                self.seconds *= 1.01
                counts["checkpoint"] += (output / "last_checkpoint").exists()
        assert self.run(output, None)
        largest = max(largest, self.compare(output))
        return (
            f"training: {counts['kills']} kills ({counts['checkpoint']} after a checkpoint); "
            f"{counts['finished'] + 1} trainings finished, learning rates equal in all of {len(self.rates)} "
            f"iterations, weights to {largest:.1e}"
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("what", choices=["generation", "training"])
    parser.add_argument("--kills", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    args = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="wsis-campaign-") as folder:
        kind = Generation if args.what == "generation" else Training
        print(kind(Path(folder)).kill(args.kills, random.Random(args.seed)))
    print(f"{(time.monotonic() - began) / 60:.1f} minutes, seed {args.seed}")


if __name__ == "__main__":
    main()

"""What the tools share: arguments, every check of the input before any work, one line for the user's mistakes."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from torch import distributed as dist
from torch import nn

from wsis.config import find_config, load_cfg
from wsis.engine.checkpoint import WsisCheckpointer
from wsis.engine.journal import locked
from wsis.engine.launch import check_device, checks_here, keep_memory, under_torchrun
from wsis.engine.processes import datasets_of_the_first
from wsis.engine.run_data import (
    Purpose,
    check_data,
    dataset_names,
    leave_out_everywhere,
    prepare,
    remember_data,
)
from wsis.engine.short_words import add_short_words, apply_short_words, given_path
from wsis.engine.trainer import WsisTrainer
from wsis.errors import ConfigError, WsisError, counted
from wsis.modeling.method import method_of
from wsis.modeling.teacher import is_maker

logger = logging.getLogger(__name__)


def argument_parser(
    description: str | None = None, training: bool = False
) -> argparse.ArgumentParser:
    """Detectron2's arguments and the short words. Processes run on the CPU with ``MODEL.DEVICE cpu``, and those of one
    machine need no ``--dist-url`` to find each other.

    Args:
        description: the tool's docstring.
        training: whether it trains.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_short_words(parser, training)
    add = parser.add_argument
    add("--output", dest="output_dir", type=given_path, metavar="DIR", help="OUTPUT_DIR")
    add(
        "--config-file",
        default="",
        metavar="FILE",
        help="YAML file of the run, or name of one of wsis",
    )
    add("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR")
    add("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS on DATASETS.TEST")
    add(
        "--num-gpus",
        type=int,
        default=1,
        metavar="N",
        help="processes per machine: one for each GPU, or CPU processes with MODEL.DEVICE cpu",
    )
    add("--num-machines", type=int, default=1, metavar="N", help="number of machines")
    add("--machine-rank", type=int, default=0, metavar="R", help="which of them this one is")
    add(
        "--dist-url",
        default="auto",
        metavar="URL",
        help="where the processes of several machines meet, such as tcp://machine0:29500",
    )
    add(
        "opts",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="config keys that replace the file's, at the end of the command",
    )
    return parser


def setup(args: argparse.Namespace, purpose: Purpose) -> CfgNode:
    """Makes the config and checks everything that can be checked before work starts. Writes nothing.

    In a run of several processes it is called once per machine, before they are started; under ``torchrun`` by each,
    and the first of each machine reads the datasets and makes the checks that take time.

    Args:
        args: as :func:`argument_parser` parses them.
        purpose: "train" uses ``DATASETS.TRAIN`` and ``DATASETS.TEST``, "test" ``DATASETS.TEST``, and "generate"
            ``DATASETS.TRAIN``, where an image that cannot be read does not stop the others.

    Returns:
        The config, frozen, with the class numbers of the datasets; ``MODEL.DEVICE`` is cpu where the default, cuda, is
        not there.

    Raises:
        ConfigError, DataError: the first thing that is wrong.
    """
    if args.config_file:
        args.config_file = find_config(args.config_file)  # Detectron2 logs the file
    cfg = load_cfg(args.config_file or None, args.opts)
    apply_short_words(cfg, args)
    choose_device(cfg, args.opts)
    if purpose == "train":
        _check_solver(cfg, args)
    names = dataset_names(cfg, purpose)
    if not names:
        key, word = "DATASETS.TRAIN", "--json"
        if purpose == "test":
            key, word = "DATASETS.TEST", "--val-json"
        raise ConfigError(
            f"{key}: found nothing, expected the name of a dataset, or {word} FILE --images DIR"
        )
    with datasets_of_the_first():
        prepare(cfg, args, purpose)
    args.left_out = {}
    if checks_here():
        args.left_out = check_data(cfg, names, purpose)
        if purpose == "train":
            method_of(cfg).check_training_data(cfg)
            if cfg.PROXY.GENERATE_AFTER_TRAIN:
                _check_generation(cfg, args.resume)
        check_weights(cfg, purpose, resume=purpose != "generate" and args.resume)
    cfg.freeze()
    return cfg


def choose_device(cfg: CfgNode, opts: Sequence[str]) -> None:
    """Sets ``MODEL.DEVICE`` to cpu where the default, cuda, is not there.

    Raises:
        ConfigError: it is no device, or ``opts`` ask for a CUDA device that is not there.
    """
    on_gpu = cfg.MODEL.DEVICE.startswith("cuda")
    if on_gpu and not torch.cuda.is_available() and "MODEL.DEVICE" not in opts:
        logger.warning("No CUDA device: running on the CPU")
        cfg.MODEL.DEVICE = "cpu"
    check_device(cfg.MODEL.DEVICE)


def _check_solver(cfg: CfgNode, args: argparse.Namespace) -> None:
    for key, value, least in (
        ("SOLVER.MAX_ITER", cfg.SOLVER.MAX_ITER, 1),
        ("SOLVER.POLY_LR_HORIZON", cfg.SOLVER.POLY_LR_HORIZON, 0),
        ("DATALOADER.NUM_WORKERS", cfg.DATALOADER.NUM_WORKERS, 0),
    ):
        if value < least:
            raise ConfigError(f"{key}: found {value}, expected at least {least}")
    if not cfg.INPUT.MIN_SIZE_TRAIN:
        raise ConfigError("INPUT.MIN_SIZE_TRAIN: found nothing, expected at least one size")
    try:
        optimizer = WsisTrainer.build_optimizer(cfg, nn.Linear(1, 1))
        with _quiet():
            WsisTrainer.build_lr_scheduler(cfg, optimizer)
    except (ValueError, AssertionError) as error:  # how PyTorch and Detectron2 refuse values
        raise ConfigError(f"SOLVER: {' '.join(str(error).split())}") from error
    if cfg.SOLVER.AMP.ENABLED and not cfg.MODEL.DEVICE.startswith("cuda"):
        raise ConfigError(
            f"SOLVER.AMP.ENABLED: mixed precision needs a CUDA device, MODEL.DEVICE is {cfg.MODEL.DEVICE}"
        )
    processes = args.num_gpus * args.num_machines
    if under_torchrun():
        processes = int(os.environ["WORLD_SIZE"])
    if not cfg.SOLVER.REFERENCE_WORLD_SIZE and cfg.SOLVER.IMS_PER_BATCH % max(processes, 1):
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH: found {cfg.SOLVER.IMS_PER_BATCH}, expected a multiple of the "
            f"{counted(processes, 'process', 'processes')}"
        )


def _check_generation(cfg: CfgNode, resume: bool) -> None:
    if not is_maker(cfg):
        name = cfg.MODEL.META_ARCHITECTURE
        raise ConfigError(f"PROXY.GENERATE_AFTER_TRAIN: {name} makes no proxy masks: not a teacher")
    folder = os.path.join(cfg.OUTPUT_DIR, "proxy")
    if not resume and os.path.isdir(folder) and os.listdir(folder):
        raise ConfigError(
            f"PROXY.GENERATE_AFTER_TRAIN: {folder} holds proxy masks of other weights; set another OUTPUT_DIR, or "
            "delete it"
        )


def check_weights(cfg: CfgNode, purpose: Purpose, resume: bool = False) -> None:
    """Builds the model on the CPU and loads the weights into it, so that what does not fit shows before work starts.

    Args:
        cfg: with its class numbers.
        purpose: training takes what fits of pretrained weights; everything else needs all of them.
        resume: the last checkpoint of ``OUTPUT_DIR``, if there is one, takes the place of ``MODEL.WEIGHTS``.

    Raises:
        ConfigError: the model cannot be built, the weights are missing or do not fit, or there is nothing to train.
    """
    on_cpu = _on_cpu(cfg)
    with _quiet():
        try:
            model = WsisTrainer.build_model(on_cpu)
        except (KeyError, AssertionError) as error:  # how Detectron2 refuses a config
            text = " ".join(str(error.args[0] if error.args else "").split())
            if isinstance(error, KeyError) and "registry" not in text or not text:
                raise
            raise ConfigError(f"MODEL: {text}") from error
        if purpose == "train" and not any(p.requires_grad for p in model.parameters()):
            raise ConfigError(
                f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} has nothing to train"
            )
        checkpointer = WsisCheckpointer(
            model, cfg.OUTPUT_DIR, strict=purpose != "train", save_to_disk=False
        )
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    if purpose != "train":  # a training starts from random numbers that are drawn later
        _checked[:] = [(on_cpu.dump(), resume, model)]


_checked: list[tuple[str, bool, nn.Module]] = []
"""The model that :func:`check_weights` has built last in this process, and what it was called with."""


def _on_cpu(cfg: CfgNode) -> CfgNode:
    on_cpu = cfg.clone()
    on_cpu.defrost()
    on_cpu.MODEL.DEVICE = "cpu"
    return on_cpu


def checked_model(cfg: CfgNode, resume: bool = False) -> nn.Module:
    """The model of a config with all its weights, on ``MODEL.DEVICE``; the one that :func:`setup` has built to check
    them, where that was in this process.

    Args:
        cfg: from :func:`setup` for the purpose "test" or "generate".
        resume: as in :func:`check_weights`.

    Raises:
        ConfigError: the weights are missing or do not fit.
    """
    found, of_resume, model = _checked.pop() if _checked else ("", False, nn.Module())
    if (found, of_resume) == (_on_cpu(cfg).dump(), resume):
        return model.to(cfg.MODEL.DEVICE)
    model = WsisTrainer.build_model(cfg)
    checkpointer = WsisCheckpointer(model, cfg.OUTPUT_DIR, strict=True)
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No log lines but errors: what a trial has to say will be said again."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def only_training(cfg: CfgNode) -> Iterator[None]:
    """Keeps other trainings out of ``OUTPUT_DIR``, which is made if need be, while the main process is in the block.

    Raises:
        ConfigError: ``OUTPUT_DIR`` cannot be written.
        WsisError: another training is at work there.
    """
    with contextlib.ExitStack() as stack:
        if comm.is_main_process():
            with _output_errors(cfg):
                os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
                stack.enter_context(locked(Path(cfg.OUTPUT_DIR), "training is at work"))
        yield


@contextlib.contextmanager
def _output_errors(cfg: CfgNode) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"OUTPUT_DIR: {cfg.OUTPUT_DIR} cannot be written ({error.strerror})"
        ) from error


def start(cfg: CfgNode, args: argparse.Namespace, purpose: Purpose) -> None:
    """To be called first in each process: makes ``OUTPUT_DIR``, starts the logs, writes ``config.yaml``, sets the
    random seed, and makes the datasets known to this process.

    Args:
        cfg: from :func:`setup`.
        args: for the log.
        purpose: as in :func:`setup`.

    Raises:
        ConfigError: ``OUTPUT_DIR`` cannot be written.
    """
    with _output_errors(cfg):
        os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
        default_setup(cfg, args)
    if cfg.MODEL.DEVICE == "cpu":
        keep_memory()
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="wsis")
    thawed = cfg.clone()
    thawed.defrost()
    prepare(thawed, args, purpose)
    leave_out_everywhere(args)
    if purpose == "train" and comm.is_main_process():
        with _output_errors(cfg):
            remember_data(cfg, args.resume)


def run_tool(main: Callable[[], int | None]) -> NoReturn:
    """Runs a command-line tool and exits with what it returns. The user's mistake (:class:`WsisError`) is one line on
    stderr and its own exit status, a file that cannot be read or written one line and 2, Ctrl-C is 130, and where
    nobody reads on, as after ``| head``, it is 141 without a word; anything else is wsis's mistake and keeps its stack.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that is no UTF-8 must not end the tool
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = main() or 0
        sys.stdout.flush()
    except WsisError as error:
        # before the processes of torchrun form a group all find the same mistake, and one of each machine tells it
        if checks_here() or dist.is_initialized():
            sys.stderr.write(f"error: {_one_line(error)}\n")
        status = error.exit_status
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            sys.exit(141)
        if not error.filename or not error.strerror:
            raise
        sys.stderr.write(f"error: {error.filename}: {error.strerror}\n")
        status = WsisError.exit_status
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        status = 130
    sys.exit(status)


def _nobody_reads() -> bool:
    """Whether standard output is closed at its other end; if so, what is left of it goes nowhere."""
    end = select.poll()
    end.register(sys.stdout.fileno(), 0)
    closed = any(event & select.POLLERR for _, event in end.poll(0))
    if closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return closed


def _one_line(error: WsisError) -> str:
    """The error's text; of one that a loader's process raised, without the stack that PyTorch puts into it."""
    text = str(error)
    if "Traceback (most recent call last)" in text:
        text = text.strip().rsplit("\n", 1)[-1].partition("Error: ")[2]
    return " ".join(text.split())

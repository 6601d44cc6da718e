"""Training, on what the data room loads and the evaluation room scores."""

from __future__ import annotations

import logging
import math
import os
import weakref
from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from wsis.compat import cpu_ddp
from wsis.data.build import Batches, build_test_loader, training_categories
from wsis.data.fork import before_workers
from wsis.data.image_checks import BAD_IMAGE_CURE
from wsis.data.images import UnreadableImageError
from wsis.engine.checkpoint import WsisCheckpointer
from wsis.engine.freeze import freeze_modules
from wsis.engine.hooks import GenerateAfterTrain
from wsis.engine.launch import share_buffers
from wsis.engine.solver import build_optimizer, build_poly_schedule
from wsis.errors import ConfigError, WsisError
from wsis.evaluation import build_evaluator
from wsis.modeling.method import method_of
from wsis.structures.proxy_file import write_json_atomic

logger = logging.getLogger(__name__)


class WsisTrainer(DefaultTrainer):
    """Detectron2's trainer and hooks, with wsis's loaders, evaluators and checkpoints, on CPU and GPU, in one process
    or several; ``WSIS.FREEZE`` and ``PROXY.GENERATE_AFTER_TRAIN``.

    Attributes:
        resume: whether the training continues one, as told to :meth:`resume_or_load`.
        exit_status: what a tool should exit with after :meth:`train`.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.resume = False
        self.exit_status = 0
        with cpu_ddp():
            super().__init__(cfg)

    def resume_or_load(self, resume: bool = True) -> None:
        """Takes up the last checkpoint in ``OUTPUT_DIR`` with optimizer, schedule and iteration if there is one and
        ``resume`` is true; else only the weights of ``MODEL.WEIGHTS``.

        Raises:
            ConfigError: the file cannot be read or does not fit; or not all machines see the same checkpoint.
        """
        self.resume = resume
        super().resume_or_load(resume)
        starts = comm.all_gather(self.start_iter)
        if len(set(starts)) > 1:
            raise ConfigError(
                f"--resume: the processes would start from iterations {sorted(set(starts))}; OUTPUT_DIR "
                f"{self.cfg.OUTPUT_DIR} must be one folder that all machines share"
            )

    def build_hooks(self) -> list[HookBase | None]:
        """Detectron2's hooks, on wsis's checkpointer, and the generation of proxy masks at the end."""
        self.checkpointer = WsisCheckpointer(
            self.model,
            self.cfg.OUTPUT_DIR,
            categories=training_categories(self.cfg),
            trainer=weakref.proxy(self),
        )
        hooks = super().build_hooks()
        if self.cfg.PROXY.GENERATE_AFTER_TRAIN:
            hooks.append(GenerateAfterTrain(self.cfg))
        return hooks

    def train(self) -> Mapping[str, Any] | None:
        """Trains to the end, with evaluation on ``DATASETS.TEST``.

        Raises:
            WsisError: what ended the training, without the stack that Detectron2 would log; a full disk and losses that
                are no numbers among others.
        """
        if self.start_iter >= self.max_iter:
            logger.warning(
                "The training is finished (iteration %d of SOLVER.MAX_ITER %d); raise SOLVER.MAX_ITER to train on",
                self.start_iter,
                self.max_iter,
            )
            if self._is_complete():
                return None
        self._finish_what_was_killed()
        log = logging.getLogger("detectron2.engine.train_loop")
        log.addFilter(_not_for_users)
        try:
            return super().train()
        except UnreadableImageError as error:
            raise UnreadableImageError(f"{error}; {BAD_IMAGE_CURE}") from error
        except FloatingPointError as error:
            solver = self.cfg.SOLVER
            raise WsisError(
                f"the training has diverged in iteration {self.iter}, its losses or boxes are no finite numbers; lower "
                f"SOLVER.BASE_LR ({solver.BASE_LR:g}) or raise SOLVER.WARMUP_ITERS ({solver.WARMUP_ITERS})"
            ) from error
        except (OSError, RuntimeError) as error:
            reason = _file_error(error)
            if reason is None:
                raise
            raise WsisError(
                f"{reason.filename or self.cfg.OUTPUT_DIR}: {reason.strerror or reason}; the last checkpoint is kept: "
                "continue with --resume"
            ) from error
        finally:
            log.removeFilter(_not_for_users)

    def _finish_what_was_killed(self) -> None:
        """Writes the last weights of a training that was killed between its last periodic checkpoint and them: no step
        is left after which Detectron2 would.
        """
        path = os.path.join(self.cfg.OUTPUT_DIR, "model_final.pth")
        if self.start_iter >= self.max_iter and not os.path.isfile(path):
            self.checkpointer.save("model_final", iteration=self.max_iter - 1)

    def _is_complete(self) -> bool:
        """Whether a finished training has written all that it would: the last weights, and the scores on
        ``DATASETS.TEST``; a generation of proxy masks looks after itself.
        """
        wanted = ["model_final.pth"]
        if self.cfg.DATASETS.TEST and self.cfg.TEST.EVAL_PERIOD >= 0:
            wanted.append(os.path.join("inference", "results.json"))
        return not self.cfg.PROXY.GENERATE_AFTER_TRAIN and all(
            os.path.isfile(os.path.join(self.cfg.OUTPUT_DIR, name)) for name in wanted
        )

    def state_dict(self) -> dict[str, Any]:
        """With the optimizer, which Detectron2 0.6 leaves out."""
        return {**super().state_dict(), "_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The reverse of :meth:`state_dict`.

        Raises:
            ConfigError: the optimizer's state is of other parameters or another optimizer, or there is none.
        """
        try:
            super().load_state_dict(state_dict)
            self._trainer.load_state_dict(state_dict["_trainer"])
            optimizer = self._trainer.optimizer
            missing = optimizer.defaults.keys() - optimizer.param_groups[0].keys()
            if missing:  # of another optimizer, which PyTorch does not mind until the first step
                raise KeyError(min(missing))
        except (KeyError, ValueError) as error:
            raise ConfigError(
                f"--resume: the last checkpoint in {self.cfg.OUTPUT_DIR} is not of a training with this config "
                f"({' '.join(str(error).split())}); are WSIS.FREEZE and SOLVER the same?"
            ) from error

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The model on ``MODEL.DEVICE``, with the modules of ``WSIS.FREEZE`` frozen."""
        model = super().build_model(cfg)
        freeze_modules(model, cfg.WSIS.FREEZE)
        return model

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Batches:
        """See :meth:`wsis.modeling.method.Method.build_train_loader`."""
        before_workers()
        return method_of(cfg).build_train_loader(cfg)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> Optimizer:
        """See :func:`wsis.engine.solver.build_optimizer`."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
        """Detectron2's schedules, and ``WarmupPolyLR``, see :func:`wsis.engine.solver.build_poly_schedule`."""
        if cfg.SOLVER.LR_SCHEDULER_NAME == "WarmupPolyLR":
            return build_poly_schedule(cfg, optimizer)
        return super().build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> DataLoader:
        """See :func:`wsis.data.build.build_test_loader`."""
        return build_test_loader(cfg, dataset_name, method_of(cfg).test_mapper(cfg))

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """See :func:`wsis.evaluation.build_evaluator`."""
        return build_evaluator(cfg, dataset_name)

    @classmethod
    def test(
        cls, cfg: CfgNode, model: nn.Module, evaluators: list[DatasetEvaluator] | None = None
    ) -> Mapping[str, Any]:
        """Evaluates on every dataset of ``DATASETS.TEST`` and writes ``OUTPUT_DIR/inference/results.json``:
        ``{dataset: {task: {metric: number}}}``, null where a metric is not defined.

        All processes evaluate the model that the main one would save.

        Returns:
            The results; those of a single dataset without its name.
        """
        share_buffers(model)
        results = super().test(cfg, model, evaluators)
        if results and comm.is_main_process():
            names = cfg.DATASETS.TEST
            by_name = {names[0]: results} if len(names) == 1 else results
            path = os.path.join(cfg.OUTPUT_DIR, "inference", "results.json")
            write_json_atomic(path, _without_nan(by_name), indent=2)
        return results


def _without_nan(value: Any) -> Any:
    """Mappings as they are, numbers as floats, None for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {str(key): _without_nan(each) for key, each in value.items()}
    return float(value) if math.isfinite(value) else None


def _not_for_users(record: logging.LogRecord) -> bool:
    """Drops the stack of an error whose one line is meant for the user."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, WsisError | FloatingPointError) and _file_error(error) is None


def _file_error(error: BaseException | None) -> OSError | None:
    """The failure to read or write that an error comes from; PyTorch turns one of a checkpoint into another error."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error

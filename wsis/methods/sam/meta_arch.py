"""A promptable model as a Detectron2 meta-architecture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY

from wsis.config.params import read
from wsis.errors import ConfigError
from wsis.methods.sam.config import SAMParams
from wsis.methods.sam.masks import MaskRefiner, seed_maps
from wsis.methods.sam.prompts import Answers, ask
from wsis.methods.sam.weights import KEY, Promptable, load_promptable, load_transformers
from wsis.modeling.teacher import Refiner, Teacher, seed_from_inputs
from wsis.structures import Seed


@META_ARCH_REGISTRY.register()
class SAM(Teacher):
    """Asks SAM, SAM-HQ, SAM 2 or SAM 3's tracker for the object in each box."""

    needs_image = False  # its processor resizes the original itself
    needs_original_image = True
    result_keys = ("MODEL.SAM",)
    location_keys = (KEY,)
    result_packages = ("transformers",)

    @configurable
    def __init__(self, *, promptable: Promptable, params: SAMParams) -> None:
        """
        Args:
            promptable: the network, its processor, and what its files are.
            params: ``MODEL.SAM``.
        """
        super().__init__()
        self.network, self.processor, digests = promptable
        self.params = params
        self.inputs_sha256 = {f"{KEY} {name}": digest for name, digest in digests.items()}

    @classmethod
    def check_requirements(cls) -> None:
        """See :meth:`Teacher.check_requirements`."""
        load_transformers()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.SAM`` and the folder that it names.

        Raises:
            ConfigError: a value out of its range, or see :func:`wsis.methods.sam.weights.load_promptable`.
        """
        params = read(cfg, SAMParams)
        if cfg.MODEL.WEIGHTS:
            raise ConfigError(
                f"MODEL.WEIGHTS: found {cfg.MODEL.WEIGHTS}, expected nothing: SAM's weights are in the folder {KEY}"
            )
        return {"promptable": load_promptable(params.path), "params": params}

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Nothing: the weights belong to the folder that they were read from, and no checkpoint has them."""
        return {}

    def propose(self, batched_inputs: list[dict[str, Any]]) -> list[Seed]:
        """Logits at each box, see :meth:`Teacher.propose`."""
        return [self._seed(inputs) for inputs in batched_inputs]

    def _seed(self, inputs: dict[str, Any]) -> Seed:
        seed = seed_from_inputs(inputs)
        answers: Iterable[Answers] = ()
        if len(seed):
            options = self.params.boxes_together, self.params.second_pass
            image = inputs["original_image"]
            answers = ask(self.network, self.processor, image, seed.boxes, *options)
        seed.maps = seed_maps(answers, seed.boxes, (seed.height, seed.width))
        return seed

    def refiner(self) -> Refiner:
        """See :meth:`Teacher.refiner`."""
        return MaskRefiner(self.params.tidy.min_part)

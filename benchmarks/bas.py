"""What BAS costs: a training step, and a map of a known class, against the plain ways."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.timing import Row, interleave, timing_rows
from wsis.errors import ConfigError
from wsis.methods.bas import backbones
from wsis.methods.bas.losses import region_scores, suppression
from wsis.methods.bas.network import Activations, BASNetwork

NETWORKS = {
    "vgg16": backbones.tapped_vgg16,
    "mobilenet_v1": backbones.tapped_mobilenet,
    "resnet50": backbones.tapped_resnet50,
    "inception_v3": backbones.tapped_inception,
}


def benchmark_bas(
    network: str = "resnet50",
    classes: int = 200,
    batch: int = 4,
    size: int = 224,
    head_channels: int = 1024,
    repeats: int = 5,
) -> list[Row]:
    """A training step behind the trunk against one that copies the classifier and computes the maps of all classes; and
    the map of a known class against the whole network.

    ``difference`` is that of the gradient of all parameters (step; in double precision) or of the map from the plain
    way's, in units of its length.

    Args:
        network: vgg16, mobilenet_v1, resnet50 or inception_v3.
        classes: K.
        batch: images.
        size: side of the images in pixels.
        head_channels: of the classifier's head.
        repeats: rounds that count.
    """
    if network not in NETWORKS:
        raise ConfigError(f"--network: found {network}, expected one of {', '.join(NETWORKS)}")
    torch.manual_seed(0)
    model = BASNetwork(NETWORKS[network](), classes, head_channels)
    images, labels = torch.rand(batch, 3, size, size), torch.arange(batch) % classes
    return _steps(model, images, labels, repeats) + _inference(
        model.eval(), images, labels, repeats
    )


def _steps(model: BASNetwork, images: Tensor, labels: Tensor, repeats: int) -> list[Row]:
    own = torch.arange(len(labels)), labels

    def plain_pass(features: Tensor) -> Activations:
        foreground = model.foreground(features)[own][:, None]
        frozen = copy.deepcopy(model.classifier)
        erased = frozen(features.detach() * (1 - foreground))
        return Activations(model.classifier(features), foreground, erased)

    def step(run: Callable[[Tensor], Activations], shown: Tensor = images) -> dict[str, Tensor]:
        model.zero_grad()
        features = model.backbone.trunk(shown)
        logits, foreground, erased = run(features)
        scores, rest = logits.mean(dim=(2, 3)), erased.mean(dim=(2, 3))
        guided = region_scores(logits, foreground)
        loss = functional.cross_entropy(scores, labels) + 1.5 * foreground.mean()
        loss = loss + functional.cross_entropy(guided, labels)
        (loss + suppression(scores[own], rest[own]).mean()).backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    def behind_the_trunk(run: Callable[[Tensor], Activations]) -> Callable[[], None]:
        with torch.no_grad():
            features = model.backbone.trunk(images)

        def work() -> None:
            tapped = features.requires_grad_()
            logits, foreground, erased = run(tapped)
            loss = logits.mean() + foreground.mean() + region_scores(logits, foreground).mean()
            (
                loss + suppression(logits.mean((2, 3))[own], erased.mean((2, 3))[own]).mean()
            ).backward()

        return work

    def ours(features: Tensor) -> Activations:
        return model(features, labels)

    model.train()
    plain = "step behind the trunk: a deep copy, all maps (plain)"
    ways = {plain: plain_pass, "step behind the trunk: a functional call, one map": ours}
    whole = {
        "whole step: a deep copy, all maps (plain)": plain_pass,
        "whole step: a functional call, one map": ours,
    }
    for module in model.modules():  # both ways from the same statistics
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0
    model.double()  # in single precision both ways are as far from each other as each is from itself
    gradients = [step(way, images.double()) for way in ways.values()]
    theirs, found = (torch.cat([g.flatten() for g in each.values()]) for each in gradients)
    model.float()
    difference = float((found - theirs).norm() / theirs.norm())
    timed = {name: behind_the_trunk(way) for name, way in ways.items()}
    rows = timing_rows(interleave(timed, repeats), plain)
    steps = {name: (lambda way=way: step(way)) for name, way in whole.items()}
    rows += timing_rows(interleave(steps, repeats), next(iter(whole)))
    for row in rows:
        row["difference"] = 0.0 if "plain" in str(row["way"]) else difference
    return rows


@torch.no_grad()
def _inference(model: BASNetwork, images: Tensor, labels: Tensor, repeats: int) -> list[Row]:
    own = torch.arange(len(labels)), labels

    @torch.no_grad()
    def plain_way() -> Tensor:
        features = model.backbone.trunk(images)
        model.classifier(features)
        return model.foreground(features)[own][:, None]

    @torch.no_grad()
    def ours() -> Tensor:
        return model.foreground(model.backbone.trunk(images), labels)

    plain = "map of a known class: the whole network (plain)"
    ways = {plain: plain_way, "map of a known class: up to the tap, one map": ours}
    rows = timing_rows(interleave(ways, repeats), plain)
    maps = {name: way() for name, way in ways.items()}
    for row in rows:
        row["difference"] = float((maps[str(row["way"])] - maps[plain]).norm() / maps[plain].norm())
    return rows

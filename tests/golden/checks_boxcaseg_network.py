"""Recorded losses, heads, network, schedule and student's loss of BoxCaseg."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from detectron2.layers import ShapeSpec
from torch.nn import functional as F

from tests.golden.compare import Comparison, absolute, exact, relative
from tests.golden.frame import Arrays, cases, check, tags
from wsis.config import get_cfg
from wsis.engine.solver import build_poly_schedule
from wsis.layers.box_losses import line_maxima, smoothness_loss, tightness_loss
from wsis.methods.boxcaseg.config import BoxCasegParams
from wsis.methods.boxcaseg.losses import saliency_loss, weak_losses
from wsis.methods.boxcaseg.network import BoxCasegNetwork, FoldedNetwork, WeightTransfer
from wsis.modeling.proxy_mask_head import MaskTargets, ProxyMaskHead

LOSS, GRADIENT = 1e-6, 1e-7
PAIRWISE = ("logits", "loss", "grad")
JOINT = ("weakly", "labels", "out_weak", "out_full", "grad_out_weak", "grad_out_full") + tuple(
    f"loss_{part}" for part in ("total", "mil", "pairwise", "full")
)
STUDENT = (
    "mask_logits",
    "matched_labels",
    "positive_index",
    "mask_targets",
    "conf_pos",
    "kept",
) + (
    "loss",
    "grad_pos",
    "grad_abs_sum_elsewhere",
)


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(values))


def _part(arrays: Arrays, prefix: str) -> dict[str, torch.Tensor]:
    """The arrays whose names begin so, under the rest of their names."""
    return {
        name.removeprefix(prefix): _tensor(arrays[name])
        for name in arrays
        if name.startswith(prefix)
    }


@check(
    method="boxcaseg",
    prefix="mil_loss",
    arrays=(
        "logits",
        "labels",
        "pred_bags",
        "label_bags",
        "loss",
        "loss_per_sample",
        "grad_logits",
    ),
)
def boxcaseg_mil_loss(arrays: Arrays) -> list[Comparison]:
    """Bags, loss and gradient, ties included."""
    logits, labels = _tensor(arrays["logits"]).requires_grad_(), _tensor(arrays["labels"])
    per_sample = tightness_loss(logits, labels)
    (gradient,) = torch.autograd.grad(per_sample.mean(), logits)
    return [
        exact("pred_bags", line_maxima(logits).detach(), arrays["pred_bags"]),
        exact("label_bags", line_maxima(labels), arrays["label_bags"]),
        absolute("loss_per_sample", per_sample.detach(), arrays["loss_per_sample"], LOSS),
        absolute("loss", per_sample.mean().detach(), arrays["loss"], LOSS),
        absolute("grad_logits", gradient, arrays["grad_logits"], GRADIENT),
    ]


@check(method="boxcaseg", prefix="pairwise_loss", arrays=())
def boxcaseg_pairwise_loss(arrays: Arrays) -> list[Comparison]:
    """Every map's loss and gradient."""
    out = []
    for tag in tags(arrays, PAIRWISE):
        logits = _tensor(arrays[f"{tag}_logits"]).requires_grad_()
        loss = BoxCasegParams.pairwise_weight * smoothness_loss(logits).mean()
        (gradient,) = torch.autograd.grad(loss, logits)
        out.append(absolute(f"{tag}_loss", loss.detach(), arrays[f"{tag}_loss"], 1e-7))
        out.append(absolute(f"{tag}_grad", gradient, arrays[f"{tag}_grad"], 1e-8))
    return out


@check(method="boxcaseg", prefix="joint_objective", arrays=())
def boxcaseg_joint_objective(arrays: Arrays) -> list[Comparison]:
    """The three losses of a batch, and gradients through the upsampling; boxes without a salient sample too."""
    out = []
    for tag in tags(arrays, JOINT):
        salient = _tensor(arrays[f"{tag}_weakly"]) == 0
        labels = _tensor(arrays[f"{tag}_labels"])
        weak, full = (_tensor(arrays[f"{tag}_out_{n}"]).requires_grad_() for n in ("weak", "full"))
        tightness, smoothness = weak_losses(weak, labels)
        saliency = saliency_loss(full[: int(salient.sum())], labels[salient])
        total = tightness + smoothness + saliency
        gradients = torch.autograd.grad(total, (weak, full))
        found = {"total": total, "mil": tightness, "pairwise": smoothness, "full": saliency}
        for name, value in found.items():
            out.append(
                absolute(f"{tag}_loss_{name}", value.detach(), arrays[f"{tag}_loss_{name}"], LOSS)
            )
        for name, value in zip(("weak", "full"), gradients, strict=True):
            key = f"{tag}_grad_out_{name}"
            out.append(absolute(key, value, arrays[key], GRADIENT))
    return out


@check(
    method="boxcaseg",
    prefix="transfer",
    arrays=(
        "src_weight",
        "src_bias",
        "feature",
        "out",
        "transferred_weight",
        "grad_out",
        "grad_feature",
    ),
)
def boxcaseg_transfer(arrays: Arrays) -> list[Comparison]:
    """A predicted convolution, and all gradients."""
    weight, bias = _tensor(arrays["src_weight"]), _tensor(arrays["src_bias"])
    module = WeightTransfer(weight.shape[1])
    module.load_state_dict(_part(arrays, "sd/"))
    feature = _tensor(arrays["feature"]).requires_grad_()
    predicted, new_bias = module(weight, bias)
    answer = F.conv2d(feature, predicted[:, :, None, None], new_bias)
    answer.backward(_tensor(arrays["grad_out"]))
    out = [
        relative("transferred_weight", predicted.detach(), arrays["transferred_weight"], 1e-5),
        relative("out", answer.detach(), arrays["out"], 1e-5),
        relative("grad_feature", feature.grad, arrays["grad_feature"], 1e-5),
    ]
    for name, parameter in module.named_parameters():
        out.append(relative(f"gradp/{name}", parameter.grad, arrays[f"gradp/{name}"], 1e-5))
    return out


def _recorded_network(arrays: Arrays) -> BoxCasegNetwork:
    state = _part(arrays, "sd/")
    modules = [len(cases(arrays, f"sd/stage{i}.#.branches.0.0.conv1.weight")) for i in (2, 3, 4)]
    network = BoxCasegNetwork(
        arrays["channels"].tolist(),
        stage1_width=len(state["layer1.0.conv1.weight"]),
        blocks=len(cases(arrays, "sd/layer1.#.conv1.weight")),
        modules=modules,
        fcn_ratio=float(arrays["fcn_ratio"]),
    )
    network.load_state_dict(state)
    return network


@check(
    method="boxcaseg",
    prefix="hrnet_small",
    arrays=(
        "x",
        "f_index",
        "fcn_ratio",
        "channels",
        "sd/conv1.weight",
        "running_mean_transfer_bn_after",
    )
    + ("eval_weak", "eval_full", "eval_full_when_no_salient", "train_weak", "train_full"),
)
def boxcaseg_hrnet_small(arrays: Arrays) -> list[Comparison]:
    """Both heads in eval and train mode under the recorded names, gradients, and the network made for inference."""
    images, salient = _tensor(arrays["x"]), _tensor(arrays["f_index"])
    if not salient.any():  # the reference has its full head run on the first one then
        salient = torch.arange(len(images)) == 0
    network = _recorded_network(arrays).eval()
    with torch.no_grad():
        weak, full = network(images, salient)
        alone = network.full(network.features(images)[:1])
        folded = FoldedNetwork(network)(images[salient])
    found = {"eval_weak": weak, "eval_full": full, "eval_full_when_no_salient": alone}
    network.train()
    weak, full = network(images, salient)
    found |= {"train_weak": weak.detach(), "train_full": full.detach()}
    (full.flatten() * torch.linspace(-1, 2, full.numel())).sum().backward()
    out = [relative(name, value, arrays[name], 1e-4) for name, value in found.items()]
    out.append(relative("folded", folded, arrays["eval_full"], 1e-4))
    for name, expected in _part(arrays, "fullgrad/").items():
        gradient = network.get_parameter(name).grad
        gradient = torch.zeros_like(expected) if gradient is None else gradient
        out.append(relative(f"fullgrad/{name}", gradient, expected, 1e-3))
    mean = network.transfer_bn.running_mean
    key = "running_mean_transfer_bn_after"
    return [*out, relative(key, mean, arrays[key], 1e-4)]


@lru_cache
def _published_layout() -> dict[str, str]:
    """Names and shapes of the full-size network."""
    with torch.device("meta"):
        network = BoxCasegNetwork((48, 96, 192, 384))
    return {name: ",".join(map(str, value.shape)) for name, value in network.state_dict().items()}


@check(method="boxcaseg", prefix="hrnet_w48_state_dict_keys", arrays=("name", "shape"))
def boxcaseg_keys(arrays: Arrays) -> list[Comparison]:
    """All names and shapes of the published checkpoints."""
    layout = _published_layout()
    expected = dict(zip(arrays["name"].tolist(), arrays["shape"].tolist(), strict=True))
    return [
        exact("name", sorted(layout), sorted(expected)),
        exact("shape", [layout.get(name, "absent") for name in expected], list(expected.values())),
    ]


def _head(threshold: float) -> ProxyMaskHead:
    shape = ShapeSpec(channels=1, height=1, width=1)
    return ProxyMaskHead(
        shape, num_classes=1, conv_dims=[1], score_mode="threshold", score_threshold=threshold
    )


@check(method="boxcaseg", prefix="mask_head_loss", arrays=("threshold",))
def boxcaseg_mask_head_loss(arrays: Arrays) -> list[Comparison]:
    """The student's loss on recorded matches, targets and confidences."""
    out: list[Comparison] = []
    head = _head(float(arrays["threshold"]))
    for tag in tags(arrays, STUDENT):
        logits, index, scores, target = (
            _tensor(arrays[f"{tag}_{n}"])
            for n in ("mask_logits", "positive_index", "conf_pos", "mask_targets")
        )
        logits.requires_grad_()
        labels = _tensor(arrays[f"{tag}_matched_labels"])
        positive = torch.nonzero(labels > 0).flatten()
        weights = head.mask_weights(scores)
        classes, inside = labels[positive], target > 0
        targets = MaskTargets(classes, inside, torch.zeros_like(inside), scores)
        loss = head.loss(logits[positive], targets, weights)
        (gradient,) = torch.autograd.grad(loss, logits)
        chosen = gradient[positive, classes]
        elsewhere = gradient.abs().sum() - chosen.abs().sum()
        out += [
            exact(f"{tag}_positive_index", positive, index),
            exact(f"{tag}_kept", weights > 0, arrays[f"{tag}_kept"]),
            absolute(f"{tag}_loss", loss.detach(), arrays[f"{tag}_loss"], LOSS),
            absolute(f"{tag}_grad_pos", chosen, arrays[f"{tag}_grad_pos"], 1e-8),
            absolute(f"{tag}_elsewhere", elsewhere, arrays[f"{tag}_grad_abs_sum_elsewhere"], LOSS),
        ]
    return out


@check(method="boxcaseg", prefix="poly_lr", arrays=("base_lr", "max_iters", "iters", "lr"))
def boxcaseg_poly_lr(arrays: Arrays) -> list[Comparison]:
    """The schedule without warm-up."""
    rate, last = float(arrays["base_lr"]), int(arrays["max_iters"])
    return [absolute("lr", _rates(rate, last, arrays["iters"].tolist()), arrays["lr"], 1e-9)]


def _rates(rate: float, last: int, iterations: Sequence[int]) -> list[float]:
    cfg = get_cfg()
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS = last, 0
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    schedule = build_poly_schedule(cfg, optimizer)
    found = []
    for schedule.last_epoch in iterations:
        found += schedule.get_lr()
    return found

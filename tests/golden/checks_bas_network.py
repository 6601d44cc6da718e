"""Recorded passes of BAS: small tails with given weights, and the whole networks with weights made by a rule."""

from __future__ import annotations

import zlib
from ast import literal_eval
from collections import OrderedDict
from collections.abc import Iterator
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.inception import BasicConv2d
from torchvision.models.resnet import Bottleneck

from tests.golden.compare import Comparison, each, exact, relative
from tests.golden.frame import Arrays, check, tensor
from wsis.layers.tag_losses import exclusive_cross_entropy
from wsis.methods.bas import backbones
from wsis.methods.bas.backbones import TappedBackbone, conv_norm
from wsis.methods.bas.losses import region_scores, suppression
from wsis.methods.bas.network import BASNetwork, combined

FORWARD, GRADIENT, NETWORK, NORM = 1e-5, 1e-4, 1e-4, 5e-3
TERMS = ("frg", "bas", "area")
SEEDS = {"alpha": 0.2, "beta": 1.2}
"""Weights of the network of semantic seeds, which its files do not hold."""


class Step(NamedTuple):
    """One training step: its arrays by their recorded names, and its losses."""

    arrays: dict[str, Tensor]
    losses: dict[str, Tensor]

    def total(self, alpha: float, beta: float) -> Tensor:
        """The weighted sum."""
        cls, frg, bas, area = (self.losses[name] for name in ("cls", *TERMS))
        return cls + alpha * frg + bas + beta * area


def step(
    network: BASNetwork, features: Tensor, classes: Tensor, above: float, tags: Tensor | None = None
) -> Step:
    """A step on tapped features; with (B, K) tags that of semantic seeds."""
    found = network(features, classes)
    own = classes[:, None]
    score, erased = (maps.mean(dim=(2, 3)) for maps in (found.logits, found.erased))
    guided = region_scores(found.logits, found.foreground, detach=tags is not None)
    whole, rest = score.gather(1, own)[:, 0], erased.gather(1, own)[:, 0]
    share = suppression(whole, rest, above)
    area = found.foreground.mean(dim=(1, 2, 3))
    arrays = {"score_1": score, "score_2": guided, "S": whole, "S_bg": rest, "bas": share}
    arrays |= {"area": area, "M_fg": found.foreground}
    cls = (
        functional.cross_entropy(score, classes)
        if tags is None
        else exclusive_cross_entropy(score, tags)
    )
    losses = {"cls": cls, "frg": functional.cross_entropy(guided, classes)}
    return Step(arrays, losses | {"bas": share.mean(), "area": area.mean()})


def above_of(kind: str) -> float:
    """The constant where the background excites more."""
    return 0.0 if kind == "vgg" else 1.0


# small tails


def _chain(name: str, **modules: nn.Module) -> nn.Sequential:
    """Modules behind one name, after what halves the map."""
    return nn.Sequential(OrderedDict([(name, nn.Sequential(OrderedDict(modules)))]))


def _bottlenecks() -> nn.Sequential:
    down = nn.Sequential(nn.Conv2d(6, 12, 1, bias=False), nn.BatchNorm2d(12))
    return nn.Sequential(Bottleneck(6, 3, downsample=down), Bottleneck(12, 3))


def _depthwise(channels: int, stride: int) -> nn.Sequential:
    depthwise = conv_norm(channels, channels, 3, stride=stride, groups=channels)
    return nn.Sequential(*depthwise, *conv_norm(channels, 12, 1))


def small_tail(kind: str) -> nn.Sequential:
    """The stand-in of a network's tail."""
    if kind == "vgg":
        convs = [nn.Conv2d(channels, 8, 3, padding=1) for channels in (6, 8, 8)]
        layers = {"23": nn.MaxPool2d(2)}
        for place, conv in zip((24, 26, 28), convs, strict=True):
            layers |= {str(place): conv, str(place + 1): nn.ReLU()}
        return _chain("features", **layers)
    if kind == "mobilenet":
        return _chain("model", **{"1": _depthwise(6, 2), "2": _depthwise(12, 1)})
    if kind == "inception":
        conv = partial(BasicConv2d, kernel_size=3, padding=1)
        blocks = {"Mixed_7a": conv(6, 8, stride=2), "Mixed_7b": conv(8, 8), "Mixed_7c": conv(8, 8)}
        return nn.Sequential(OrderedDict(blocks))
    pool = [("pool", nn.MaxPool2d(2))] if kind == "resnet" else []
    return nn.Sequential(OrderedDict([*pool, ("layer4", _bottlenecks())]))


def small_network(kind: str, arrays: Arrays) -> BASNetwork:
    """The network of a file, whose trunk is never run."""
    backbone = TappedBackbone(nn.Conv2d(3, 6, 8, stride=8), small_tail(kind), stride=8)
    number = len(arrays["w.classifier_loc.0.weight"])
    network = BASNetwork(backbone, number, 0 if kind == "wsss" else 10)
    return load(network, recorded(arrays, "w."))


def chosen(maps: Tensor, scores: Tensor, classes: Tensor, number: int) -> Tensor:
    """The label's map (1), or the mean of those of the best."""
    if number > 1:
        return combined(maps, scores, number)
    return maps[torch.arange(len(maps)), classes][:, None]


def load(network: BASNetwork, weights: dict[str, Tensor]) -> BASNetwork:
    """The network with these weights of the release's names; all of its own but a small network's trunk."""
    ours = network.placed(weights) or {}
    missing, unexpected = network.load_state_dict(ours, strict=False)
    lost = [
        n for n in missing if not n.endswith("tracked") and not n.startswith("backbone.trunk.w")
    ]
    lost = [n for n in lost if n != "backbone.trunk.bias"]
    assert not lost and not unexpected and len(ours) == len(weights), (lost, unexpected)
    return network


def recorded(arrays: Arrays, prefix: str) -> dict[str, Tensor]:
    """Tensors of the names that begin so."""
    return {
        name.removeprefix(prefix): tensor(values)
        for name, values in arrays.items()
        if name.startswith(prefix)
    }


def _input(arrays: Arrays) -> Tensor:
    return tensor(arrays["feat"]).requires_grad_()


def small_step(kind: str, arrays: Arrays) -> Iterator[Comparison]:
    """Values, gradients of the total, and buffers after one step."""
    network, features = small_network(kind, arrays), _input(arrays)
    tags = tensor(arrays["labels"]) if kind == "wsss" else None
    classes = tensor(arrays["p_label" if kind == "wsss" else "label"])
    found = step(network, features, classes, above_of(kind), tags)
    names = [name for name in found.arrays if name in arrays]
    yield from each(arrays, {name: found.arrays[name] for name in names}, relative, FORWARD)
    yield from each(arrays, found.losses, relative, FORWARD, case="loss_{}")
    weights = {name: float(arrays.get(name, value)) for name, value in SEEDS.items()}
    total = found.total(**weights)
    yield relative("total", total, arrays["total"], FORWARD)
    total.backward()
    yield relative("grad_feat", features.grad, arrays["grad_feat"], GRADIENT)
    parameters = dict(network.named_parameters()) | dict(network.named_buffers())
    for prefix, tolerance in (("g.", GRADIENT), ("after.", FORWARD)):
        for name, value in (network.placed(recorded(arrays, prefix)) or {}).items():
            own = parameters[name].grad if prefix == "g." else parameters[name]
            yield relative(prefix + name, own, value, tolerance)


def single_terms(kind: str, arrays: Arrays) -> Iterator[Comparison]:
    """Gradients of one term alone."""
    classes = tensor(arrays["label"])
    for term in TERMS:
        network, features = small_network(kind, arrays), _input(arrays)
        step(network, features, classes, above_of(kind)).losses[term].backward()
        first = network.head[0].weight.grad
        gradient = features.grad
        norm = torch.zeros(()) if first is None else first.norm()
        got = {"loc": network.generator.weight.grad, "feat_mean": gradient.mean(dim=(2, 3))}
        got |= {"feat_norm": gradient.norm(), "cls_norm": norm}
        yield from each(arrays, got, relative, GRADIENT, case=f"grad{{}}_{term}")


@check(
    "bas",
    "amc_",
    "feat label score_1 score_2 S S_bg bas area M_fg loss_cls loss_frg loss_bas loss_area total alpha beta grad_feat"
    " eval_score eval_M_top1 eval_M_top2 eval_M_top# w.classifier_loc.0.weight g.classifier_loc.0.weight"
    " gradloc_frg gradloc_bas gradloc_area gradfeat_mean_frg gradfeat_mean_bas gradfeat_mean_area gradfeat_norm_frg"
    " gradfeat_norm_bas gradfeat_norm_area gradcls_norm_frg gradcls_norm_bas gradcls_norm_area",
)
@torch.enable_grad()
def bas_constraint(arrays: Arrays) -> Iterator[Comparison]:
    """Localisation on one of the four small tails, which the names of the weights tell."""
    kinds = {"conv5_1": "vgg", "model": "mobilenet", "Mixed_7a": "inception", "layer4": "resnet"}
    kind = next(
        kind for part, kind in kinds.items() if any(f"w.{part}." in name for name in arrays)
    )
    yield from small_step(kind, arrays)
    yield from single_terms(kind, arrays)
    network = small_network(kind, arrays).eval()
    features, classes = tensor(arrays["feat"]), tensor(arrays["label"])
    with torch.no_grad():
        scores = network.classifier(features).mean(dim=(2, 3))
        maps = network.foreground(features)
    yield relative("eval_score", scores, arrays["eval_score"], FORWARD)
    for number in (1, 2, scores.shape[1]):
        map_ = chosen(maps, scores, classes, number)
        yield relative(f"top {number}", map_, arrays[f"eval_M_top{number}"], FORWARD)


@check(
    "bas",
    "amc_wsss",
    "feat labels p_label score_1 score_2 S S_bg M_fg loss_cls loss_frg loss_bas loss_area total grad_feat"
    " infer_fused_01 w.classifier_cls.weight w.classifier_loc.0.weight g.classifier_cls.weight"
    " g.classifier_loc.0.weight",
)
def bas_seed_constraint(arrays: Arrays) -> Iterator[Comparison]:
    """Semantic seeds: several tags, one drawn positive."""
    yield from small_step("wsss", arrays)
    network = small_network("wsss", arrays).eval()
    with torch.no_grad():
        maps = network.foreground(tensor(arrays["feat"][:2]))
    yield relative("infer", maps[0] + maps[1].flip(-1), arrays["infer_fused_01"], FORWARD)


@check("bas", "topk_combination", "maps scores label M_top1 M_top2 M_top#")
def bas_topk(arrays: Arrays) -> Iterator[Comparison]:
    """The label's map, or the mean of the best."""
    maps, scores, classes = (tensor(arrays[name]) for name in ("maps", "scores", "label"))
    for name in arrays:
        if name.startswith("M_top"):
            got = chosen(maps, scores, classes, int(name.removeprefix("M_top")))
            yield relative(name, got, arrays[name], 1e-6)


# whole networks


def filled(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Values by the rule of the recorded files."""
    r = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("running_mean") or name.endswith("bias"):
        values = 0.1 * r.randn(*shape)
    elif name.endswith("running_var"):
        values = 0.5 + r.rand(*shape)
    elif len(shape) == 1:
        values = 0.5 + 0.5 * r.rand(*shape)
    else:
        values = r.randn(*shape) * np.sqrt(2 / np.prod(shape[1:]))
    return values.astype(np.float32)


BACKBONES = {
    "conv1_1": ("vgg", backbones.tapped_vgg16),
    "model.0": ("mobilenet", backbones.tapped_mobilenet),
    "Mixed_5b": ("inception", backbones.tapped_inception),
    "classifier_cls.weight": ("wsss", partial(backbones.tapped_resnet50, 16, pool=False)),
    "conv1": ("resnet", backbones.tapped_resnet50),
}


class Case(NamedTuple):
    """A whole network and what it is given.

    Attributes:
        shapes: of the parameters by the release's names, in the order of the file.
        seed, size: of the images.
        classes: label of each image.
        tags: of each image, for the network of semantic seeds, else empty.
    """

    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    seed: int
    size: tuple[int, int]
    classes: tuple[int, ...]
    tags: tuple[tuple[float, ...], ...] = ()

    def network(self) -> tuple[str, BASNetwork, dict[str, str]]:
        """Its kind, the network with its values, the release's names by ours."""
        sizes = dict(self.shapes)
        make = next(m for part, m in BACKBONES.items() if any(n.startswith(part) for n in sizes))
        for name, shape in self.shapes:
            if len(shape) == 1 and name.endswith("weight"):  # a batch norm
                place = name.removesuffix("weight")
                sizes |= {f"{place}running_{kind}": shape for kind in ("mean", "var")}
        kind, backbone = make
        number = sizes["classifier_loc.0.weight"][0]
        network = BASNetwork(backbone(), number, 0 if kind == "wsss" else 1024)
        load(network, {n: torch.from_numpy(filled(n, shape)) for n, shape in sizes.items()})
        return kind, network, network.placed({name: name for name in sizes}) or {}

    def step(self, kind: str, network: BASNetwork) -> Step:
        """A training step."""
        features = network.backbone.trunk(self.images())
        tags = torch.tensor(self.tags) if self.tags else None
        return step(network, features, torch.tensor(self.classes), above_of(kind), tags)

    def images(self) -> Tensor:
        """The random images."""
        r = np.random.RandomState(self.seed)
        images = r.randn(len(self.classes), 3, *self.size).astype(np.float32)
        return torch.from_numpy(images)


@cache
@torch.no_grad()
def values(case: Case) -> tuple[Step, dict[str, Tensor], dict[str, float]]:
    """A training step, what the network gives in evaluation, and norms of the buffers after the step."""
    kind, network, theirs = case.network()
    found = case.step(kind, network)
    buffers = {theirs[n]: float(b.norm()) for n, b in network.named_buffers() if n in theirs}
    _, network, _ = case.network()
    images, classes = case.images(), torch.tensor(case.classes)
    if kind == "wsss":
        images = torch.stack([images[0], images[0].flip(-1)])
    features = network.eval().backbone.trunk(images)
    maps = network.foreground(features)
    if kind == "wsss":
        return found, {"infer_fused": maps[0] + maps[1].flip(-1)}, buffers
    scores = network.classifier(features).mean(dim=(2, 3))
    one, every = (chosen(maps, scores, classes, n) for n in (1, maps.shape[1]))
    return found, {"eval_score": scores, "eval_M_gt": one, "eval_M_all": every}, buffers


@cache
def gradients(case: Case, alpha: float, beta: float) -> tuple[dict[str, float], int]:
    """Norms of the parameters' gradients by the release's names, and the number of parameters."""
    kind, network, theirs = case.network()
    case.step(kind, network).total(alpha, beta).backward()
    named = list(network.named_parameters())
    return {theirs[n]: float(p.grad.norm()) for n, p in named}, sum(p.numel() for _, p in named)


def whole_network(arrays: Arrays, case: Case, alpha: float, beta: float) -> Iterator[Comparison]:
    """The comparisons of a file."""
    found, evaluation, buffers = values(case)
    arrays_found = found.arrays | {f"loss_{name}": value for name, value in found.losses.items()}
    arrays_found |= {"total": found.total(alpha, beta)} | evaluation
    names = [name for name in arrays_found if name in arrays]
    yield from each(arrays, {name: arrays_found[name] for name in names}, relative, NETWORK)
    norms, number = gradients(case, alpha, beta)
    found_norms = np.array([norms[name] for name, _ in case.shapes])
    yield relative("grad_norms", found_norms, arrays["grad_norms"], NORM)
    if "buffer_names" in arrays:
        after = np.array([buffers[str(name)] for name in arrays["buffer_names"]])
        yield relative("buffers", after, arrays["buffer_norms_after"], NETWORK)
    if "n_params" in arrays:
        yield exact("n_params", number, arrays["n_params"])


def case_of(arrays: Arrays, size: tuple[int, int], label: str, **keys: tuple) -> Case:
    """The case of a file."""
    names, shapes = arrays["param_names"], arrays["param_shapes"]
    pairs = zip(map(str, names), (literal_eval(str(shape)) for shape in shapes), strict=True)
    classes = tuple(int(c) for c in arrays[label])
    return Case(tuple(pairs), int(arrays["image_seed"]), size, classes, **keys)


@check(
    "bas",
    "net_",
    "param_names param_shapes image_seed label alpha beta n_params score_1 score_2 S S_bg bas area M_fg loss_cls"
    " loss_frg total grad_norms buffer_names buffer_norms_after eval_score eval_M_gt eval_M_all",
)
def bas_network(arrays: Arrays) -> Iterator[Comparison]:
    """A network of localisation."""
    case = case_of(arrays, (224, 224), "label")
    yield from whole_network(arrays, case, float(arrays["alpha"]), float(arrays["beta"]))


@check(
    "bas",
    "net_resnet_wsss",
    "param_names param_shapes image_seed labels p_label score_1 S S_all S_bg M_fg loss_cls loss_frg loss_bas loss_area"
    " total grad_norms infer_fused",
)
def bas_seed_network(arrays: Arrays) -> Iterator[Comparison]:
    """The network of semantic seeds."""
    tags = tuple(tuple(float(v) for v in row) for row in arrays["labels"])
    case = case_of(arrays, (96, 128), "p_label", tags=tags)
    yield from whole_network(arrays, case, **SEEDS)
    yield relative("S_all", values(case)[0].arrays["S"], arrays["S_all"], NETWORK)

"""The constraint: who learns from which term, what is constant, and what every slip of it would change."""

import copy
from pathlib import Path

import pytest
import torch
from torch.func import functional_call

import tests
from tests.golden import checks_bas_network as recorded
from tests.golden.frame import read_arrays
from tests.methods.bas.tiny import make_network
from wsis.methods.bas import losses, network
from wsis.methods.bas.losses import erased_logits, region_scores, suppression
from wsis.methods.bas.network import class_convolution

DATA = Path(tests.__file__).parent / "golden" / "data" / "bas"
CLASSES = torch.tensor([0, 2, 1])


def features_of(net, requires_grad=True):
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    features = net.backbone.trunk(images).detach()
    return features.requires_grad_(requires_grad)


# what the mistakes of users of the conference code change


def with_features(classifier, features, foreground):
    frozen = {name: value.detach() for name, value in classifier.named_parameters()}
    frozen |= {name: value.clone() for name, value in classifier.named_buffers()}
    return functional_call(classifier, frozen, features * (1 - foreground))


def with_weights(classifier, features, foreground):
    buffers = {name: value.clone() for name, value in classifier.named_buffers()}
    return functional_call(classifier, buffers, features.detach() * (1 - foreground))


def with_live_norms(classifier, features, foreground):
    frozen = {name: value.detach() for name, value in classifier.named_parameters()}
    return functional_call(classifier, frozen, features.detach() * (1 - foreground))


def with_live_score(score, erased, above=1.0):
    whole, rest = score.relu(), erased.relu()
    return torch.where(rest > whole, above, rest / (whole + losses.EPSILON))


@pytest.mark.parametrize(
    ("where", "name", "slip", "seen"),
    [
        (network, "erased_logits", with_features, "grad_feat"),
        (network, "erased_logits", with_weights, "g.classifier_cls"),
        (network, "erased_logits", with_live_norms, "after."),
        (recorded, "suppression", with_live_score, "g.classifier_cls"),
    ],
    ids=["features", "weights", "norms", "score"],
)
def test_each_slip_shows_in_the_recorded_step(monkeypatch, where, name, slip, seen):
    arrays = read_arrays(DATA / "amc_mobilenet_cub.npz")
    assert all(found.passed for found in recorded.small_step("mobilenet", arrays))
    monkeypatch.setattr(where, name, slip)
    wrong = [found.name for found in recorded.small_step("mobilenet", arrays) if not found.passed]
    assert any(name.startswith(seen.replace("classifier_cls", "head")) for name in wrong), wrong


# who learns from what


@pytest.mark.parametrize(
    ("term", "classifier", "features"),
    [
        ("suppression", False, True),
        ("area", False, True),
        ("guidance", True, True),
        ("detached", False, True),
    ],
)
def test_who_learns(term, classifier, features):
    net = make_network()
    tapped = features_of(net)
    found = net(tapped, CLASSES)
    own = CLASSES[:, None]
    if term == "suppression":
        # as if the background excited the class half as much as the image, whatever these weights say
        erased = found.erased.mean(dim=(2, 3)).gather(1, own).square() + 0.1
        loss = suppression(2 * erased.detach() + 1, erased).mean()
    elif term == "area":
        loss = found.foreground.mean()
    else:
        guided = region_scores(found.logits, found.foreground, detach=term == "detached")
        loss = torch.nn.functional.cross_entropy(guided, CLASSES)
    loss.backward()
    gradients = [p.grad for p in net.classifier.parameters()]
    assert all((g is not None and bool(g.any())) == classifier for g in gradients)
    assert net.generator.weight.grad.any()
    assert bool(tapped.grad.any()) == features


def test_a_batch_without_suppression():
    score = torch.tensor([1.0, 2.0, -1.0, -1.0])
    erased = torch.tensor([2.0, -3.0, 0.5, -0.5], requires_grad=True)
    for above, expected in ((1.0, [1, 0, 1, 0]), (0.0, [0, 0, 0, 0])):
        share = suppression(score, erased, above)
        assert share.tolist() == expected
        (gradient,) = torch.autograd.grad(share.sum(), erased)
        assert not gradient.any()
    share = suppression(torch.tensor([4.0]), torch.tensor([1.0]))
    assert share.item() == pytest.approx(0.25)


def test_the_erased_branch_is_that_of_a_deep_copy():
    net = make_network(hidden=8)
    maps = net.foreground(features_of(net, False), CLASSES).detach()
    found = []
    for frozen in (erased_logits, lambda c, f, m: copy.deepcopy(c)(f.detach() * (1 - m))):
        foreground = maps.clone().requires_grad_()
        logits = frozen(net.classifier, features_of(net), foreground)
        (gradient,) = torch.autograd.grad(logits.square().sum(), foreground)
        found.append((logits, gradient))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    for module in net.classifier.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert not module.running_mean.any() and not module.num_batches_tracked


def test_one_channel_of_the_generator():
    net = make_network(classes=5)
    features = torch.rand(3, 16, 9, 7, dtype=torch.float64, requires_grad=True)
    net.double()
    whole = net.foreground(features)
    for maps in (
        net.foreground(features, CLASSES),
        torch.stack([net.class_maps(features, [c])[i] for i, c in enumerate(CLASSES.tolist())]),
    ):
        expected = whole[torch.arange(3), CLASSES][:, None]
        torch.testing.assert_close(maps, expected)
        weights = net.generator.weight, features
        for ours, theirs in zip(
            *(
                torch.autograd.grad(m.square().sum(), weights, retain_graph=True)
                for m in (maps, expected)
            ),
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs)
    one = class_convolution(features, torch.ones(3, 16, 1, 1).double())
    torch.testing.assert_close(one, features.sum(dim=1, keepdim=True))


def test_a_map_that_is_no_multiple_of_the_logits():
    with pytest.raises(ValueError, match="no multiple of the logits' size 3 x 3"):
        region_scores(torch.zeros(1, 2, 3, 3), torch.zeros(1, 1, 8, 8))

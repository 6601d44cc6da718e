"""The network: recorded values, any size, and its form for inference."""

from pathlib import Path

import pytest
import torch

from tests.golden.checks_boxcaseg_network import boxcaseg_hrnet_small
from tests.golden.frame import read_arrays
from wsis.methods.boxcaseg.losses import saliency_loss, weak_losses
from wsis.methods.boxcaseg.network import BoxCasegNetwork, FoldedNetwork

RECORDED = Path(__file__).parent / "data" / "hrnet_small.npz"
HEADS = ("last_layer", "fcn", "transfer1", "transfer2", "transfer_bn")
NO_SALIENT = torch.tensor([False, False])


def small(**kwargs):
    return BoxCasegNetwork((2, 4, 6, 8), stage1_width=2, blocks=1, modules=(1, 1, 1), **kwargs)


def trained(**kwargs):
    """With weights and statistics that leave no part without effect."""
    network = small(**kwargs)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var") or "bn" in name or ".1.weight" in name:
            torch.nn.init.uniform_(tensor.float(), 0.5, 1.5)
        if tensor.is_floating_point():
            tensor.add_(0.1 * torch.randn_like(tensor).abs())
    return network.eval()


def state_of(network, start=""):
    return {k: v.clone() for k, v in network.state_dict().items() if k.startswith(start)}


def norms_of(network):
    return [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]


def test_recorded_values_and_names():
    arrays = read_arrays(RECORDED)
    assert [str(c) for c in boxcaseg_hrnet_small(arrays) if not c.passed] == []
    network = BoxCasegNetwork((4, 6, 8, 10), stage1_width=4, blocks=1, modules=(1, 2, 1))
    expected = [name[3:] for name in arrays if name.startswith("sd/")]
    assert sorted(network.state_dict()) == sorted(expected)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (70, 41)])
def test_maps_have_stride_4(size):
    weak, full = small().eval()(torch.randn(2, 3, *size), torch.tensor([False, True]))
    expected = tuple(-(-side // 4) for side in size)
    assert weak.shape == (2, 1, *expected) and full.shape == (1, 1, *expected)


@torch.no_grad()
def test_the_full_head_is_for_salient_samples_and_blends_its_branches():
    torch.manual_seed(3)
    network, images, salient = (
        trained(),
        torch.randn(3, 3, 32, 36),
        torch.tensor([True, False, True]),
    )
    features, blends = network.features(images), []
    _, full = network(images, salient)
    assert torch.allclose(full, network.full(features)[salient], atol=1e-5)
    for network.fcn_ratio in (0.0, 0.25, 1.0):
        blends.append(network.full(features))
    own = network.fcn(features)
    assert torch.allclose(blends[2], own) and not torch.allclose(blends[0], own)
    assert torch.allclose(blends[1], 0.75 * blends[0] + 0.25 * blends[2], atol=1e-5)


def test_without_a_salient_sample_the_full_head_rests():
    network = small().train()
    before = state_of(network, HEADS[1:])
    weak, full = network(torch.randn(2, 3, 32, 32), NO_SALIENT)
    assert len(weak) == 2 and len(full) == 0
    for name, value in before.items():
        assert torch.equal(network.state_dict()[name], value), name


@pytest.mark.parametrize("elsewhere", [0, 3])
def test_shared_norms_do_not_wait_for_a_process_without_a_salient_sample(elsewhere, monkeypatch):
    """Every process takes part in the full head's norms, or none does."""
    network, calls = torch.nn.SyncBatchNorm.convert_sync_batchnorm(small()).train(), []
    monkeypatch.setattr("torch.distributed.all_reduce", lambda count: count.add_(elsewhere))
    for norm in (network.fcn[1], network.transfer_bn):
        monkeypatch.setattr(norm, "forward", lambda x, norm=norm: calls.append(norm) or x)
    with monkeypatch.context() as patch:
        patch.setattr("torch.distributed.is_initialized", lambda: True)
        patch.setattr("torch.nn.SyncBatchNorm.forward", torch.nn.BatchNorm2d.forward)
        _, full = network(torch.randn(2, 3, 32, 32), NO_SALIENT)
    assert full.shape == (0, 1, 8, 8) and len(calls) == (2 if elsewhere else 0)
    saliency_loss(full, torch.zeros(0, 1, 32, 32)).backward()
    reached = [parameter.grad is not None for parameter in network.full_parameters()]
    assert any(reached) == bool(elsewhere)
    assert not any(p.grad.any() for p in network.parameters() if p.grad is not None)


def test_who_learns_from_what():
    torch.manual_seed(0)
    network = small().train()
    labels, salient = torch.rand(4, 1, 32, 32).round(), torch.tensor([True, True, False, True])

    def gradients(of):
        network.zero_grad(set_to_none=True)
        of(*network(torch.randn(4, 3, 32, 32), salient)).backward()
        reached = [n for n, p in network.named_parameters() if p.grad is not None and p.grad.any()]
        return {name.split(".")[0] for name in reached}

    backbone = {name.split(".")[0] for name in network.state_dict()} - set(HEADS)
    by_masks = gradients(lambda weak, full: saliency_loss(full, labels[salient]))
    assert by_masks == backbone | set(HEADS[1:])
    by_boxes = gradients(lambda weak, full: sum(weak_losses(weak, labels)))
    assert by_boxes == backbone | {"last_layer"}


def test_batch_norms_have_the_published_momentum():
    assert {(norm.momentum, norm.eps) for norm in norms_of(small())} == {(0.01, 1e-5)}


@pytest.mark.parametrize("head", ["full", "weak"])
@torch.no_grad()
def test_folded_is_the_same_map_and_leaves_the_network_as_it_is(head):
    network, images = trained(fcn_ratio=0.6).train(), torch.randn(2, 3, 45, 32)
    state = state_of(network)
    folded = FoldedNetwork(network, head)
    found = folded(images)
    assert not norms_of(folded)
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert network.training and all(p.requires_grad for p in network.parameters())
    assert all(torch.equal(state[name], v) for name, v in network.state_dict().items())
    features = network.eval().features(images)
    expected = network.full(features) if head == "full" else network.last_layer(features)
    assert expected.std() > 1e-3
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5 * expected.abs().max())


def test_wide_networks_have_more_of_everything():
    with torch.device("meta"):
        count = sum(p.numel() for p in BoxCasegNetwork((48, 96, 192, 384)).parameters())
    assert count == pytest.approx(74.67e6, rel=1e-3)

import torch
from torch.nn import functional

from wsis.layers.deeplab import AtrousSum, CosineClassifier, cosine_scores, resize_scores


def test_scores_are_cosines_and_the_gradient_is_theirs():
    generator = torch.Generator().manual_seed(3)
    features, weight, towards = (
        torch.randn(size, generator=generator, dtype=torch.float64, requires_grad=True)
        for size in ((2, 5, 3, 4), (6, 5), (2, 6, 3, 4))
    )
    got = cosine_scores(features, weight)
    normal = (functional.normalize(each, dim=1) for each in (features, weight))
    plain = torch.einsum("ndhw,cd->nchw", *normal)
    torch.testing.assert_close(got, plain)
    ours, theirs = (torch.autograd.grad(e, (features, weight), towards) for e in (got, plain))
    torch.testing.assert_close(ours, theirs)


def test_a_feature_without_length_is_like_nothing():
    features = torch.zeros(1, 3, 2, 2, requires_grad=True)
    classifier = CosineClassifier(3, 4)
    scores = classifier(features)
    assert (scores == 0).all()
    scores.sum().backward()
    assert features.grad.isfinite().all() and classifier.weight.grad.isfinite().all()


def test_one_relu_after_the_sum_of_the_branches():
    head = AtrousSum(2, 3, rates=(1, 2))
    features = torch.randn(1, 2, 5, 6)
    plain = sum(
        functional.conv2d(features, branch.weight, padding=rate, dilation=rate)
        for branch, rate in zip(head.branches, (1, 2), strict=True)
    )
    torch.testing.assert_close(head(features), plain.relu())
    names = [name for name, _ in head.named_parameters()]
    assert (plain < 0).any() and names == ["branches.0.weight", "branches.1.weight"]


def test_corners_stay_corners():
    resized = resize_scores(torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]]]), (5, 7))
    assert resized[0, 0, [0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [1, 2, 3, 5]

import torch
from torch.nn import functional

from wsis.layers.deeplab import AtrousSum, CosineClassifier, cosine_scores, resize_scores


def test_scores_are_cosines_and_the_gradient_is_theirs():
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(2, 5, 3, 4, generator=generator, dtype=torch.float64)
    weight = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    features.requires_grad_()
    weight.requires_grad_()
    got = cosine_scores(features, weight)
    plain = torch.einsum(
        "ndhw,cd->nchw", functional.normalize(features, dim=1), functional.normalize(weight, dim=1)
    )
    torch.testing.assert_close(got, plain)
    towards = torch.randn(got.shape, generator=generator, dtype=torch.float64)
    for ours, theirs in zip(
        torch.autograd.grad(got, (features, weight), towards),
        torch.autograd.grad(plain, (features, weight), towards),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_a_feature_without_length_is_like_nothing():
    features = torch.zeros(1, 3, 2, 2, requires_grad=True)
    classifier = CosineClassifier(3, 4)
    scores = classifier(features)
    assert (scores == 0).all()
    scores.sum().backward()
    assert features.grad.isfinite().all() and classifier.weight.grad.isfinite().all()


def test_length_of_features_and_weights_does_not_count():
    features, weight = torch.rand(1, 4, 2, 3), torch.randn(5, 4)
    torch.testing.assert_close(
        cosine_scores(7 * features, 0.1 * weight), cosine_scores(features, weight)
    )


def test_one_relu_after_the_sum_of_the_branches():
    head = AtrousSum(2, 3, rates=(1, 2))
    features = torch.randn(1, 2, 5, 6)
    plain = sum(
        functional.conv2d(features, branch.weight, padding=rate, dilation=rate)
        for branch, rate in zip(head.branches, (1, 2), strict=True)
    )
    torch.testing.assert_close(head(features), plain.relu())
    assert (plain < 0).any() and [n for n, _ in head.named_parameters()] == [
        "branches.0.weight",
        "branches.1.weight",
    ]


def test_corners_stay_corners():
    resized = resize_scores(torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]]]), (5, 7))
    assert resized[0, 0, [0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [1, 2, 3, 5]

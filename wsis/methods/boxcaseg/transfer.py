"""Weights of one head, predicted from those of another."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NEGATIVE_SLOPE = 0.1
EXPANSION = 4


class WeightTransfer(nn.Module):
    """Predicts a 1x1 convolution from another one, row by row, without a gradient to the latter.

    W'_r = fc2(LeakyReLU(fc1(W_r))) for each row r, bias' = k bias + b.
    """

    def __init__(self, channels: int) -> None:
        """
        Args:
            channels: input channels of the convolutions.
        """
        super().__init__()
        self.k = nn.Parameter(torch.ones(1))
        self.b = nn.Parameter(torch.zeros(1))
        self.fc1 = nn.Linear(channels, EXPANSION * channels)
        self.fc2 = nn.Linear(EXPANSION * channels, channels)

    def forward(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of the other convolution.

        Args:
            weight: (O, C, 1, 1) or (O, C).
            bias: (O,).

        Returns:
            Of the same shapes.
        """
        rows = weight.detach().flatten(1)
        predicted = self.fc2(F.leaky_relu(self.fc1(rows), NEGATIVE_SLOPE))
        return predicted.view_as(weight), self.k * bias.detach() + self.b

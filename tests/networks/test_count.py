"""What is counted of a built module, next to what is known by hand."""

import torch
from torch import nn

from workbench.networks.count import saved_bytes


def test_what_a_backward_pass_needs_is_counted_once_without_the_weights():
    layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    images = torch.rand(2, 3, 8, 8)
    # The images, and what the ReLU gives: the ReLU and the second convolution keep the same tensor.
    assert saved_bytes(layers, lambda: layers(images)) == 4 * (images.numel() + 2 * 4 * 64)

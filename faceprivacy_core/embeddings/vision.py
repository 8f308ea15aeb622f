"""Features of a picture at five scales, for the multi-scale image inversion."""

from __future__ import annotations

from torch import Tensor, nn

from ..builtin.autoencoder import FaceAutoencoder, ResidualBlock


def autoencoder_features(autoencoder: FaceAutoencoder, images: Tensor) -> list[Tensor]:
    """Return the encoder's features at five depths, shallow to deep.

    Args:
        autoencoder: The built-in model's; its encoder has at least three residual blocks.
        images: (N, 3, S, S) in [0, 1].

    Returns:
        Five of (N, T, C): T places of the picture at each depth.
    """
    found, h = [], images * 2.0 - 1.0
    for layer in list(autoencoder.enc)[:-1]:
        h = layer(h)
        if isinstance(layer, ResidualBlock | nn.Conv2d):
            found.append(h.flatten(2).transpose(1, 2))
    return found[-5:]

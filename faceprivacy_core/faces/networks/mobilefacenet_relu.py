"""MobileFaceNet with ReLU units, as in the package facesdk."""

from __future__ import annotations

from torch import Tensor, nn

STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
"""Widening factor, channels, blocks and first stride of each stage (Chen et al. 2018, table 1)."""


def _conv_unit(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6())


class _Separable(nn.Module):
    """A filter for each channel, then a mix of the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.depthwise(x)).relu()
        return self.bn2(self.pointwise(x)).relu()


class _Bottleneck(nn.Module):
    """Widen, filter each channel, narrow; with a shortcut where the size stays."""

    def __init__(self, inputs: int, outputs: int, factor: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * factor
        self.conv = nn.Sequential(
            _conv_unit(inputs, hidden, 1),
            _conv_unit(hidden, hidden, 3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return x + y if self.has_shortcut else y


class _GlobalDepthwise(nn.Module):
    """One 7 x 7 filter for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.depthwise(x))


class MobileFaceNetRelu(nn.Module):
    """Embed aligned faces; (B, 3, 112, 112) to (B, 128), not normalised.

    Parameter names are those of the published checkpoint.

    Source: Chen, Liu, Gao and Han (2018), MobileFaceNets; units as in facesdk 0.0.8 (MIT).
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _conv_unit(3, 64, 3, stride=2)
        self.dw_conv = _Separable(64)
        blocks: list[nn.Module] = []
        width = 64
        for factor, channels, count, stride in STAGES:
            for index in range(count):
                blocks.append(_Bottleneck(width, channels, factor, stride if index == 0 else 1))
                width = channels
        self.features = nn.Sequential(*blocks)
        self.conv2 = _conv_unit(128, 512, 1)
        self.gdconv = _GlobalDepthwise(512)
        self.conv3 = nn.Conv2d(512, 128, 1)
        self.bn = nn.BatchNorm2d(128)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.features(self.dw_conv(self.conv1(x))))
        return self.bn(self.conv3(self.gdconv(x))).flatten(1)

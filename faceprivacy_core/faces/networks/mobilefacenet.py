"""MobileFaceNet as FaceX-Zoo trains it."""

from __future__ import annotations

from torch import Tensor, nn


class _ConvUnit(nn.Module):
    """Convolution and batch normalisation, with a PReLU unless it is linear."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        linear: bool,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.prelu = nn.Identity() if linear else nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(self.bn(self.conv(x)))


class _Bottleneck(nn.Module):
    """Widen, filter each channel, narrow; with a shortcut where the size stays."""

    def __init__(self, inputs: int, outputs: int, hidden: int, *, stride: int) -> None:
        super().__init__()
        self.conv = _ConvUnit(inputs, hidden, 1, linear=False)
        self.conv_dw = _ConvUnit(hidden, hidden, 3, stride=stride, padding=1, groups=hidden, linear=False)
        self.project = _ConvUnit(hidden, outputs, 1, linear=True)
        self.has_shortcut = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.conv_dw(self.conv(x)))
        return x + y if self.has_shortcut else y


class _Stage(nn.Module):
    """Bottlenecks of one size in a row."""

    def __init__(self, channels: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.model = nn.Sequential(*[_Bottleneck(channels, channels, hidden, stride=1) for _ in range(blocks)])

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class MobileFaceNet(nn.Module):
    """Embed aligned faces; (B, 3, 112, 112) to (B, 512), not normalised.

    Parameter names are those of the published checkpoints.

    Source: Chen, Liu, Gao and Han (2018), MobileFaceNets, table 1; widths and the last
        layers as in FaceX-Zoo (Wang et al. 2021, Apache-2.0).
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _ConvUnit(3, 64, 3, stride=2, padding=1, linear=False)
        self.conv2_dw = _ConvUnit(64, 64, 3, padding=1, groups=64, linear=False)
        self.conv_23 = _Bottleneck(64, 64, 128, stride=2)
        self.conv_3 = _Stage(64, 128, 4)
        self.conv_34 = _Bottleneck(64, 128, 256, stride=2)
        self.conv_4 = _Stage(128, 256, 6)
        self.conv_45 = _Bottleneck(128, 128, 512, stride=2)
        self.conv_5 = _Stage(128, 256, 2)
        self.conv_6_sep = _ConvUnit(128, 512, 1, linear=False)
        self.conv_6_dw = _ConvUnit(512, 512, 7, groups=512, linear=True)
        self.linear = nn.Linear(512, 512, bias=False)
        self.bn = nn.BatchNorm1d(512)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2_dw(self.conv1(x))
        x = self.conv_3(self.conv_23(x))
        x = self.conv_4(self.conv_34(x))
        x = self.conv_5(self.conv_45(x))
        x = self.conv_6_dw(self.conv_6_sep(x))
        return self.bn(self.linear(x.flatten(1)))

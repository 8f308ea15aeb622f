"""Inception-ResNet-v1 as FaceNet uses it, batch normalisation folded into the convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class _ConvRelu(nn.Conv2d):
    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        same: bool = True,
    ) -> None:
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (sides[0] // 2, sides[1] // 2) if same else (0, 0)
        super().__init__(inputs, outputs, sides, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2)


class _Residual(nn.Module):
    """x + scale * mix(branches(x)), rectified unless it is the last block."""

    def __init__(
        self,
        branches: list[nn.Module],
        inputs: int,
        channels: int,
        scale: float,
        *,
        is_last: bool = False,
    ) -> None:
        super().__init__()
        for index, branch in enumerate(branches):
            self.add_module(f"Branch_{index}", branch)
        self.num_branches = len(branches)
        self.Conv2d_1x1 = nn.Conv2d(inputs, channels, 1)
        self.scale = scale
        self.is_last = is_last

    def forward(self, x: Tensor) -> Tensor:
        mixed = torch.cat([self.get_submodule(f"Branch_{index}")(x) for index in range(self.num_branches)], dim=1)
        y = x + self.scale * self.Conv2d_1x1(mixed)
        return y if self.is_last else y.relu()


class _Reduction(nn.Module):
    """Branches of stride 2 and a pooling, side by side."""

    def __init__(self, branches: list[nn.Module]) -> None:
        super().__init__()
        for index, branch in enumerate(branches):
            self.add_module(f"Branch_{index}", branch)
        self.num_branches = len(branches)
        self.pool = _pool()

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.get_submodule(f"Branch_{index}")(x) for index in range(self.num_branches)]
        return torch.cat([*parts, self.pool(x)], dim=1)


def _branch(**convs: nn.Module) -> nn.Sequential:
    branch = nn.Sequential()
    for name, conv in convs.items():
        branch.add_module(name, conv)
    return branch


def _block35() -> _Residual:
    branches: list[nn.Module] = [
        _branch(Conv2d_1x1=_ConvRelu(256, 32, 1)),
        _branch(Conv2d_0a_1x1=_ConvRelu(256, 32, 1), Conv2d_0b_3x3=_ConvRelu(32, 32, 3)),
        _branch(
            Conv2d_0a_1x1=_ConvRelu(256, 32, 1),
            Conv2d_0b_3x3=_ConvRelu(32, 32, 3),
            Conv2d_0c_3x3=_ConvRelu(32, 32, 3),
        ),
    ]
    return _Residual(branches, 96, 256, 0.17)


def _block17() -> _Residual:
    branches: list[nn.Module] = [
        _branch(Conv2d_1x1=_ConvRelu(896, 128, 1)),
        _branch(
            Conv2d_0a_1x1=_ConvRelu(896, 128, 1),
            Conv2d_0b_1x7=_ConvRelu(128, 128, (1, 7)),
            Conv2d_0c_7x1=_ConvRelu(128, 128, (7, 1)),
        ),
    ]
    return _Residual(branches, 256, 896, 0.10)


def _block8(scale: float, *, is_last: bool = False) -> _Residual:
    branches: list[nn.Module] = [
        _branch(Conv2d_1x1=_ConvRelu(1792, 192, 1)),
        _branch(
            Conv2d_0a_1x1=_ConvRelu(1792, 192, 1),
            Conv2d_0b_1x3=_ConvRelu(192, 192, (1, 3)),
            Conv2d_0c_3x1=_ConvRelu(192, 192, (3, 1)),
        ),
    ]
    return _Residual(branches, 384, 1792, scale, is_last=is_last)


def _down(inputs: int, outputs: int) -> _ConvRelu:
    return _ConvRelu(inputs, outputs, 3, stride=2, same=False)


def _mixed_6a() -> _Reduction:
    return _Reduction(
        [
            _branch(Conv2d_1a_3x3=_down(256, 384)),
            _branch(
                Conv2d_0a_1x1=_ConvRelu(256, 192, 1),
                Conv2d_0b_3x3=_ConvRelu(192, 192, 3),
                Conv2d_1a_3x3=_down(192, 256),
            ),
        ]
    )


def _mixed_7a() -> _Reduction:
    return _Reduction(
        [
            _branch(Conv2d_0a_1x1=_ConvRelu(896, 256, 1), Conv2d_1a_3x3=_down(256, 384)),
            _branch(Conv2d_0a_1x1=_ConvRelu(896, 256, 1), Conv2d_1a_3x3=_down(256, 256)),
            _branch(
                Conv2d_0a_1x1=_ConvRelu(896, 256, 1),
                Conv2d_0b_3x3=_ConvRelu(256, 256, 3),
                Conv2d_1a_3x3=_down(256, 256),
            ),
        ]
    )


class InceptionResnetV1(nn.Module):
    """Embed face pictures; (B, 3, 160, 160) to (B, 512), not normalised.

    Module names follow the graph of the published model, so that its constants fit.

    Source: Szegedy, Ioffe, Vanhoucke and Alemi (2017), Inception-v4, figures 10 to 15;
        residual scales as in Schroff et al.'s FaceNet re-implementation (Sandberg, MIT).
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _branch(
            Conv2d_1a_3x3=_down(3, 32),
            Conv2d_2a_3x3=_ConvRelu(32, 32, 3, same=False),
            Conv2d_2b_3x3=_ConvRelu(32, 64, 3),
            MaxPool_3a_3x3=_pool(),
            Conv2d_3b_1x1=_ConvRelu(64, 80, 1),
            Conv2d_4a_3x3=_ConvRelu(80, 192, 3, same=False),
            Conv2d_4b_3x3=_down(192, 256),
        )
        self.Repeat = _branch(**{f"block35_{index}": _block35() for index in range(1, 6)})
        self.Mixed_6a = _mixed_6a()
        self.Repeat_1 = _branch(**{f"block17_{index}": _block17() for index in range(1, 11)})
        self.Mixed_7a = _mixed_7a()
        self.Repeat_2 = _branch(**{f"block8_{index}": _block8(0.20) for index in range(1, 6)})
        self.Block8 = _block8(1.0, is_last=True)
        self.Bottleneck = nn.Linear(1792, 512)

    def forward(self, x: Tensor) -> Tensor:
        x = self.Repeat(self.stem(x))
        x = self.Repeat_1(self.Mixed_6a(x))
        x = self.Block8(self.Repeat_2(self.Mixed_7a(x)))
        return self.Bottleneck(x.mean(dim=(2, 3)))

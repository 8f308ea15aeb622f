"""The losses agree with the metrics of the pack, and the graph interpreter with torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from training.openvino_ir import IrNetwork, load_ir


def layer(number: int, kind: str, data: str = "", inputs: int = 0, outputs: int = 1) -> str:
    """Write one layer of a graph."""
    ports = "".join(f'<port id="{i}"/>' for i in range(inputs))
    results = "".join(f'<port id="{inputs + i}"/>' for i in range(outputs))
    return (
        f'<layer id="{number}" name="n{number}" type="{kind}"><data {data}/>'
        f"<input>{ports}</input><output>{results}</output></layer>"
    )


def edge(source: int, port: int, target: int, target_port: int) -> str:
    """Write one connection."""
    return f'<edge from-layer="{source}" from-port="{port}" to-layer="{target}" to-port="{target_port}"/>'


def test_a_graph_runs_like_the_same_operations_in_torch_in_any_batch(tmp_path: Path):
    """Convolution, PReLU, a transposed convolution without overlap, a split, and a reshape by size."""
    generator = np.random.default_rng(0)
    kernel = generator.standard_normal((4, 2, 3, 3)).astype(np.float32)
    slope = np.array([0.2], np.float32)
    tile = generator.standard_normal((4, 1, 1, 2, 1)).astype(np.float32)
    axis, lengths = np.array(1, np.int64), np.array([1, 3], np.int64)
    index, zero = np.array([0], np.int64), np.array(0, np.int64)
    rest = np.array([-1], np.int64)
    blob, consts = b"", {}
    for number, value in ((1, kernel), (2, slope), (3, tile), (4, axis), (5, lengths), (6, index), (7, zero), (8, rest)):
        kind = "f32" if value.dtype == np.float32 else "i64"
        shape = ",".join(map(str, value.shape))
        consts[number] = f'element_type="{kind}" shape="{shape}" offset="{len(blob)}" size="{value.nbytes}"'
        blob += value.tobytes()
    window = 'strides="1,1" pads_begin="1,1" pads_end="1,1" dilations="1,1" auto_pad="explicit"'
    stretch = 'strides="2,1" pads_begin="0,0" pads_end="0,0" dilations="1,1" auto_pad="explicit"'
    layers = [
        layer(0, "Parameter", 'shape="1,2,5,5"'),
        *(layer(number, "Const", data) for number, data in consts.items()),
        layer(10, "Convolution", window, 2),
        layer(11, "PReLU", "", 2),
        layer(12, "GroupConvolutionBackpropData", stretch, 2),
        layer(13, "VariadicSplit", "", 3, 2),
        layer(14, "ShapeOf", 'output_type="i64"', 1),
        layer(15, "Gather", 'batch_dims="0"', 3),
        layer(16, "Concat", 'axis="0"', 2),
        layer(17, "Reshape", 'special_zero="true"', 2),
        layer(18, "Result", "", 1, 0),
    ]
    edges = [
        edge(0, 0, 10, 0), edge(1, 0, 10, 1), edge(10, 2, 11, 0), edge(2, 0, 11, 1), edge(11, 2, 12, 0), edge(3, 0, 12, 1),
        edge(12, 2, 13, 0), edge(4, 0, 13, 1), edge(5, 0, 13, 2), edge(0, 0, 14, 0), edge(14, 1, 15, 0), edge(6, 0, 15, 1),
        edge(7, 0, 15, 2), edge(15, 3, 16, 0), edge(8, 0, 16, 1), edge(13, 4, 17, 0), edge(16, 2, 17, 1), edge(17, 2, 18, 0),
    ]  # fmt: skip
    path = tmp_path / "net.xml"
    path.write_text(f"<net><layers>{''.join(layers)}</layers><edges>{''.join(edges)}</edges></net>", encoding="utf-8")
    path.with_suffix(".bin").write_bytes(blob)
    network = load_ir(path)
    x = torch.randn(3, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    hidden = F.prelu(F.conv2d(x, torch.from_numpy(kernel), padding=1), torch.from_numpy(slope))
    wide = F.conv_transpose2d(hidden, torch.from_numpy(tile)[:, 0], stride=(2, 1), groups=4)
    torch.testing.assert_close(network(x), wide[:, 1:].reshape(3, -1))
    packed = IrNetwork(path.read_text(encoding="utf-8"), network.constants())
    torch.testing.assert_close(packed(x), network(x))


@pytest.mark.weights
def test_the_perceptual_loss_is_the_metric():
    from faceprivacy_core.metrics.perceptual import load_perceptual
    from training.losses import load_perceptual_loss

    draw = np.random.default_rng(0)
    pair = [draw.integers(0, 256, (96, 96, 3), dtype=np.uint8) for _ in range(2)]
    images = [torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1 for picture in pair]
    with torch.no_grad():
        loss = load_perceptual_loss(torch.device("cpu"))(*images)
    # The metric enlarges each layer's map before averaging, so the means differ a little.
    assert float(loss) == pytest.approx(float(load_perceptual().compute_map(*pair).mean()), rel=0.02)


@pytest.mark.weights
def test_the_identity_loss_is_the_recognisers_similarity():
    from faceprivacy_core.faces.recognizers import DEFAULT_HELD_OUT, load_recognizer
    from training.losses import load_identity_loss
    from training.pictures import FacePool, step_generator
    from training.settings import DataSettings

    pictures = torch.randint(0, 256, (4, 3, 24, 24), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    smooth = F.interpolate(pictures.float(), scale_factor=6, mode="bicubic").clamp(0, 255).to(torch.uint8)
    views = FacePool(smooth, DataSettings(held_out=0)).draw(step_generator(0, 0), 2, 128, torch.device("cpu"))
    other = views.images.flip(2)
    loss = load_identity_loss(torch.device("cpu"))
    recognizer = load_recognizer("mobilefacenet-v1")
    assert recognizer.name not in DEFAULT_HELD_OUT
    with torch.no_grad():
        before, after = (recognizer.embed((images + 1) / 2, views.landmarks5) for images in (views.images, other))
        measured = loss(other, views.images, views.landmarks5)
    torch.testing.assert_close(measured, 1 - (before * after).sum(1), rtol=0, atol=0.05)

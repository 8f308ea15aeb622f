"""What is fuzzed: readers of the pack, and sound files of each kind from which spoiled ones come."""

from __future__ import annotations

import io
import json
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, features
from safetensors.torch import save

from faceprivacy_core.audit.files import audit_file
from faceprivacy_core.audit.secrets import Secrets
from faceprivacy_core.builtin.autoencoder import AutoencoderConfig, FaceAutoencoder
from faceprivacy_core.builtin.detail import DetailConfig, DetailHead
from faceprivacy_core.builtin.extra import EXTRA_FORMAT, EXTRA_VERSION, load_extra
from faceprivacy_core.builtin.model import FORMAT, FORMAT_VERSION, load_face_model, read_face_model_file
from faceprivacy_core.builtin.tokens import TokenConfig, TokenHead
from faceprivacy_core.commands.inspect import describe_header
from faceprivacy_core.commands.manifest import Manifest, manifest_name, read_entries
from faceprivacy_core.faces.people import People
from faceprivacy_core.faces.people_files import people_file, read_people
from faceprivacy_core.faces.recognizers import DEFAULT_SURROGATES
from faceprivacy_core.faces.select import parse_numbers
from faceprivacy_core.fingerprints import fingerprint, named_weights
from faceprivacy_core.inversions.files import read_inversion_file
from faceprivacy_core.keyed.container import unpack
from faceprivacy_core.keyed.decrypt import decrypt_faces
from faceprivacy_core.keyed.files import read_keyed
from faceprivacy_core.keyed.header import FaceHeader
from faceprivacy_core.keyed.keys import load_key
from faceprivacy_core.keyed.opening import open_faces
from faceprivacy_core.keyed.picture import KeyedPicture
from faceprivacy_core.model_folders import extra_folders
from faceprivacy_core.picture_files import read_picture_file
from faceprivacy_core.video.reading import Clip
from tests.support import audit as given_away
from tests.support.keyed import raw_key
from tests.support.spoiling import PNG_START
from tests.support.video import write_clip

VECTORS = Path(__file__).parents[1] / "vectors"


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        seeds: Makes sound files, from which spoiled ones come.
        read: Reads one file.
        suffix: Of the file's name.
    """

    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], object]
    suffix: str = ""


def picture(size: tuple[int, int] = (40, 28), mode: str = "RGB") -> Image.Image:
    """Draw a small picture."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    return Image.fromarray(np.stack([x * 6, y * 9, (x + y) * 3], -1).astype(np.uint8)).convert(mode)


def stored(kind: str, mode: str = "RGB", **options: object) -> bytes:
    """Encode the small picture."""
    stream = io.BytesIO()
    picture(mode=mode).save(stream, kind, **options)
    return stream.getvalue()


def metadata() -> bytes:
    """Return EXIF with places, names and devices."""
    base = given_away.BASE
    return given_away.exif({base.Artist: "Anna", base.Make: "Camera"}, {37510: b"ASCII\0\0\0comment"}, {2: (1.0, 2.0, 3.0)})


PICTURES: dict[str, Callable[[], list[bytes]]] = {
    "png": lambda: [
        *(stored("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")), stored("PNG", exif=metadata()),
        given_away.png(("prompt", '{"1": {"class_type": "A", "inputs": {}}}'), ("parameters", "a cat\nSteps: 20, Sampler: x")),
        given_away.png(("XML:com.adobe.xmp", "<x:xmpmeta/>"), compressed=True, international=True), interlaced(),
    ],
    "apng": lambda: [stored("PNG", save_all=True, append_images=[picture((30, 20))])],
    "jpeg": lambda: [
        stored("JPEG"), stored("JPEG", "L"), stored("JPEG", "CMYK"),
        stored("JPEG", progressive=True, exif=metadata(), dpi=(72, 72)),
        stored("JPEG", icc_profile=colours(), comment=b"hello"), stored("MPO", save_all=True, append_images=[picture()]),
    ],
    "webp": lambda: [
        stored("WEBP"), stored("WEBP", "RGBA", lossless=True), stored("WEBP", exif=metadata(), xmp=b"<x:xmpmeta/>"),
    ],
    "tiff": lambda: [
        *(stored("TIFF", mode) for mode in ("RGB", "RGBA", "L", "P", "1", "CMYK")), stored("TIFF", compression="tiff_lzw"),
        stored("TIFF", compression="jpeg"), stored("TIFF", compression="tiff_adobe_deflate"), stored("TIFF", exif=metadata()),
        stored("TIFF", save_all=True, append_images=[picture()], icc_profile=colours()),
    ],
    "gif": lambda: [
        stored("GIF"), stored("GIF", "L", comment=b"hi"), stored("GIF", save_all=True, append_images=[picture((9, 9))]),
    ],
    "bmp": lambda: [stored("BMP"), stored("BMP", "L"), stored("BMP", "1"), stored("BMP", "RGBA"), stored("DIB")],
    "avif": lambda: (
        [stored("AVIF"), stored("AVIF", "RGBA", exif=metadata())] if features.check("avif") else [b"\0\0\0\x1cftypavif"]
    ),
}  # fmt: skip


def interlaced() -> bytes:
    """Return the header and the first pixels of a PNG in seven passes."""
    header = struct.pack(">IIBBBBB", 9, 7, 8, 2, 0, 0, 1)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(400))), (b"IEND", b"")]
    made = PNG_START
    for kind, content in parts:
        made += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return made


def colours() -> bytes:
    """Return a colour profile."""
    from faceprivacy_core.clean_files import srgb_profile

    return srgb_profile()


def documents() -> list[bytes]:
    """Return workflows of both forms, and other JSON."""
    made = (
        [given_away.as_json(given_away.frontend_workflow(given_away.PASSPHRASE))]
        if hasattr(given_away, "frontend_workflow")
        else []
    )
    workflows = sorted((Path(__file__).parents[2] / "workflows").glob("*.json"), key=lambda path: path.stat().st_size)
    made += [path.read_bytes() for path in workflows[:3]]
    return [
        *made,
        b'{"1": {"class_type": "FacePrivacy_PrivacyKey", "inputs": {"name": "default", "password": "x"}}}',
        b'[[{"a": "b"}]]',
    ]


def vectors(pattern: str) -> Callable[[], list[bytes]]:
    """Return a maker of the frozen files with such names."""
    return lambda: [path.read_bytes() for path in sorted(VECTORS.glob(pattern))]


def containers() -> list[bytes]:
    """Return the payloads of the frozen pictures."""
    return [read_keyed(path)[1] for path in sorted(VECTORS.glob("v*/*.png"))]


def headers() -> list[bytes]:
    """Return the headers of the frozen pictures."""
    return [record.header.to_bytes() for container in containers() for record in unpack(container)]


def key_files() -> list[bytes]:
    """Return key files of both kinds."""
    line = "faceprivacy-key-1 " + "0f" * 32
    released = "faceprivacy-face-key-1 " + "0f" * 32 + "\nheader: " + "1e" * 32
    return [text.encode() for text in (line, f"# mine\n\n{line}\ndecrypt-in-server: yes\n", released)]


TINY_UNET = {
    "sample_size": 4, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "block_out_channels": [4, 8],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"], "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "norm_num_groups": 2, "cross_attention_dim": 8, "attention_head_dim": 2,
}  # fmt: skip
TINY_AUTOENCODER = {
    "side": 16, "latent_channels": 4, "patch": 2, "channels": [8, 8], "encoder_blocks": [1, 1], "style_channels": [4, 4, 4],
    "decoder_channels": [16, 16, 8, 8], "head_channels": 4,
}  # fmt: skip


@cache
def tiny_autoencoder() -> FaceAutoencoder:
    """Make the autoencoder of the tiny model."""
    shape = {name: tuple(value) if isinstance(value, list) else value for name, value in TINY_AUTOENCODER.items()}
    torch.manual_seed(0)
    return FaceAutoencoder(AutoencoderConfig(**shape))


def tiny_bank() -> dict[str, torch.Tensor]:
    """Return the tensors of two donors."""
    shapes = {"latents": (2, 4, 4, 4), "landmarks5": (2, 5, 2), "skin": (2, 3), "vectors.sface": (2, 8)}
    return {f"donors.{name}": torch.ones(shape) for name, shape in shapes.items()}


@cache
def model_files() -> list[bytes]:
    """Return a whole model file of the tiniest networks, the real header with few weights, and one without any."""
    from diffusers import UNet2DConditionModel

    tokens = {"latent_channels": 4, "channels": 4, "grids": [1, 2], "width": 8}
    config = {
        "name": "tiny", "resolution": 16, "autoencoder": TINY_AUTOENCODER, "unet": TINY_UNET, "tokens": tokens,
        "schedule": {"num_steps": 1000, "beta_start": 0.00085, "beta_end": 0.012}, "prediction": "v_prediction",
        "donors": {"sex": "wm", "age": "ao"},
    }  # fmt: skip
    parts = {
        "unet": UNet2DConditionModel(**TINY_UNET), "autoencoder": tiny_autoencoder(),
        "tokens": TokenHead(TokenConfig(4, 4, (1, 2), 8)),
    }  # fmt: skip
    whole = {f"{part}.{name}": value.half() for part, network in parts.items() for name, value in network.state_dict().items()}
    whole["tokens.p.weight"], whole["tokens.p.weight.scale"] = torch.ones(8, 4, dtype=torch.int8), torch.ones(8)
    whole |= tiny_bank()
    few = {"unet.a": torch.zeros(2, 3), "unet.b": torch.zeros(4, dtype=torch.int8), "unet.b.scale": torch.zeros(1)}
    known = {"format": FORMAT, "version": FORMAT_VERSION}
    return [
        save(whole, known | {"config": json.dumps(config)}),
        save(few, known | {"config": json.dumps(read_face_model_file().config)}),
        save(few, {"format": FORMAT, "version": "1", "config": "{}"}),
        save({}, known | {"config": '{"tokens": {}, "autoencoder": {}}'}),
    ]


@cache
def extra_files() -> list[bytes]:
    """Return a file of what belongs to the tiny model."""
    head = DetailHead(DetailConfig(8, 16, (4, 4), 4))
    shape = {"channels": 8, "side": 16, "widths": [4, 4], "hidden": 4}
    belongs = fingerprint(named_weights(tiny_autoencoder()))
    config = {"detail": shape, "traits": ["woman"], "donors": {"sex": "wm", "age": "ao"}, "autoencoder": belongs}
    tensors = {f"detail.{name}": value.half() for name, value in head.state_dict().items()}
    tensors |= {"traits.woman.weight": torch.zeros(4, 4, 4), "traits.woman.bias": torch.zeros(1)} | tiny_bank()
    return [save(tensors, {"format": EXTRA_FORMAT, "version": EXTRA_VERSION, "config": json.dumps(config)})]


def people_files() -> list[bytes]:
    """Return saved people."""
    rows = {name: torch.eye(2, 16) for name in DEFAULT_SURROGATES}
    return [people_file(Path("a.fpperson"), People(rows)).content]


def run_lists() -> list[bytes]:
    """Return the list of a run: one input done, one begun, one failed."""
    with tempfile.TemporaryDirectory() as folder, Manifest(Path(folder), {"command": "cloak"}) as manifest:
        path = Path(folder) / "a.png"
        path.write_bytes(b"a")
        manifest.add([("a", path), ("b", path), ("c", path)])
        for name in ("a", "b"):
            manifest.begin(name, path, owns=True)
        manifest.finish("a", [path])
        manifest.fail("c", path, "no face")
        return [manifest.path.read_bytes()]


@cache
def clips() -> list[bytes]:
    """Return clips of four frames in containers of both families."""
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.mp4", "a.mkv"):
            path = Path(folder) / name
            write_clip(path, [np.full((32, 48, 3), 60 * index, np.uint8) for index in range(4)])
            made.append(path.read_bytes())
    return made


def read_container(path: Path) -> None:
    """Open a payload with a key that sealed some of them."""
    records = unpack(path.read_bytes())
    for record in records:
        describe_header(record.header, len(record.blob))
    height, width = records[0].header.height, records[0].header.width
    if height * width < 10**6:
        open_faces(KeyedPicture(np.zeros((height, width, 3), np.uint8), records), raw_key())


def read_keyed_picture(path: Path) -> None:
    """Open a picture in mode exact."""
    decrypt_faces(KeyedPicture.from_container(*read_keyed(path)), raw_key())


def read_key(path: Path) -> None:
    """Load a key file."""
    path.chmod(0o600)
    load_key(path.stem, folder=path.parent, environ={})


def read_text(path: Path) -> None:
    """Read what is typed as numbers of faces."""
    parse_numbers(path.read_bytes().decode("latin-1"))


def audit(path: Path) -> None:
    """Audit a file; nothing may be raised at all."""
    audit_file(path, SECRETS)


def read_model(path: Path) -> None:
    """Load a model file with its donors."""
    load_face_model(path).donors  # noqa: B018 - it is built when it is asked for


def read_list(path: Path) -> None:
    """Read the list of a run, and go on with it."""
    with tempfile.TemporaryDirectory() as folder:  # the database keeps a journal beside it
        own = Path(shutil.copy(path, Path(folder) / manifest_name((1, 1))))
        list(read_entries(own))
        with Manifest(own.parent, {"command": "cloak"}) as manifest:
            for name in ("a", "b", "c", "d"):
                entry = manifest.find(name)
                if entry is not None:
                    manifest.is_whole(entry, own)


def read_clip(path: Path) -> None:
    """Read all frames of a clip."""
    with Clip(path) as clip:
        for _ in clip.frames():
            pass


SECRETS = Secrets([("known", "0f" * 32)])
TARGETS: dict[str, Target] = {
    **{f"picture {kind}": Target(seeds, read_picture_file, "." + kind) for kind, seeds in PICTURES.items()},
    **{f"audit {kind}": Target(seeds, audit, "." + kind) for kind, seeds in PICTURES.items()},
    "audit json": Target(documents, audit, ".json"),
    "audit keyed": Target(vectors("v*/*.png"), audit, ".png"),
    "audit sidecar": Target(containers, audit, ".fprv"),
    "audit inversion": Target(vectors("v*/*.fpinv"), audit, ".fpinv"),
    "audit person": Target(people_files, audit, ".fpperson"),
    "audit key": Target(key_files, audit, ".key"),
    "keyed picture": Target(vectors("v*/*.png"), read_keyed_picture, ".png"),
    "container": Target(containers, read_container, ".fprv"),
    "header": Target(headers, lambda path: FaceHeader.from_bytes(path.read_bytes())),
    "inversion": Target(vectors("v*/*.fpinv"), lambda path: read_inversion_file(path, raw_key()), ".fpinv"),
    "key": Target(key_files, read_key, ".key"),
    "model": Target(model_files, read_model, ".safetensors"),
    "model extra": Target(extra_files, lambda path: load_extra(path, tiny_autoencoder()), ".safetensors"),
    "person": Target(people_files, read_people, ".fpperson"),
    "run list": Target(run_lists, read_list, ".sqlite"),
    "clip": Target(clips, read_clip, ".mp4"),
    "extra paths": Target(
        lambda: [b"a:\n  base_path: /x\n  faceprivacy: |\n    one\n    two\n", b"[1, {a: b}]"], extra_folders, ".yaml"
    ),
    "numbers": Target(lambda: [b"0, 1,2", b"17"], read_text),
}  # fmt: skip

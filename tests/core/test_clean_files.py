"""Files that hold pixels and nothing else."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceprivacy_core.audit.files import audit_file
from faceprivacy_core.audit.secrets import Secrets
from faceprivacy_core.clean_files import FileKind, encode_clean
from faceprivacy_core.errors import InputError

# What decoders say of any file; `timestamp` is the end of a WebP's only frame, in milliseconds.
KNOWN = {
    "jfif",
    "jfif_version",
    "jfif_unit",
    "jfif_density",
    "srgb",
    "icc_profile",
    "loop",
    "background",
    "duration",
    "timestamp",
}
EVERY_KIND = pytest.mark.parametrize("kind", FileKind)


@pytest.fixture
def picture() -> np.ndarray:
    y, x = np.mgrid[0:48, 0:64]
    return np.stack([x * 4 % 256, y * 5 % 256, (x + y) % 256], axis=-1).astype(np.uint8)


@EVERY_KIND
@pytest.mark.parametrize("is_tagged", [True, False])
def test_nothing_but_pixels_is_in_the_file(picture: np.ndarray, kind: FileKind, is_tagged: bool, tmp_path: Path):
    path = tmp_path / f"protected{kind.suffix}"
    path.write_bytes(encode_clean(picture, kind, is_tagged=is_tagged))
    report = audit_file(path, Secrets())
    assert (list(report.findings), report.problems) == ([], [])
    with Image.open(path) as opened:
        opened.load()
        assert opened.format == kind.value.upper()
        assert set(opened.info) <= KNOWN
        assert ("icc_profile" in opened.info or "srgb" in opened.info) == is_tagged
        assert not opened.getexif()


@pytest.mark.parametrize(("kind", "quality"), [(FileKind.PNG, 5), (FileKind.WEBP, 100)])
def test_lossless_kinds_keep_every_pixel(picture: np.ndarray, kind: FileKind, quality: int):
    with Image.open(io.BytesIO(encode_clean(picture, kind, quality=quality))) as opened:
        np.testing.assert_array_equal(np.asarray(opened.convert("RGB")), picture)


@EVERY_KIND
def test_the_same_picture_gives_the_same_bytes_at_another_time(picture: np.ndarray, kind: FileKind):
    first = encode_clean(picture, kind)
    time.sleep(1.1)  # the date in a profile counts seconds
    assert encode_clean(picture, kind) == first


@pytest.mark.parametrize("quality", [0, 101])
def test_a_quality_out_of_range_is_refused(picture: np.ndarray, quality: int):
    with pytest.raises(InputError, match="1 to 100"):
        encode_clean(picture, FileKind.JPEG, quality=quality)

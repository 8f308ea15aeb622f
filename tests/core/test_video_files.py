"""Clips as files: what is read is what was written, and what cannot be read as it is meant is refused by name."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from faceprivacy_core.errors import InputError
from faceprivacy_core.types import Picture
from faceprivacy_core.video.package import load_av
from faceprivacy_core.video.reading import Clip, ClipFrame
from faceprivacy_core.video.writing import Box, ClipSettings, ClipWriter, Codec
from tests.support.clips import background
from tests.support.video import read_clip, write_clip

SECRETS = {"title": "Alice at home", "location": "+48.1370+011.5750/", "comment": "private"}


def pictures(count: int, width: int = 96, height: int = 64) -> list[Picture]:
    """Return frames that tell which way is up and which one they are."""
    frames = []
    for index in range(count):
        frame = background(width, height, 4).copy()
        frame[:16, :16] = (250, 20, 20)
        frame[-16:, 8 * index : 8 * index + 8] = (20, 20, 250)
        frames.append(frame)
    return frames


def copy(source: Path, target: Path, settings: ClipSettings | None = None, **part: float) -> None:
    """Read a clip and write it again, as the pack does."""
    settings = settings or ClipSettings()
    with Clip(source) as clip, ClipWriter(target, clip, settings, part.get("start")) as writer:
        for item in clip.items(part.get("start"), part.get("end"), sound=settings.sound):
            if isinstance(item, ClipFrame):
                writer.write(item.pixels, item.time, item.length)
            else:
                writer.write_sound(item)


def read(path: Path, **part: float) -> list[ClipFrame]:
    with Clip(path) as clip:
        return list(clip.frames(**part))


def test_frames_times_and_sound_come_through_and_names_and_places_do_not(tmp_path: Path):
    source = write_clip(tmp_path / "in.mp4", pictures(8), sound=True, metadata=SECRETS, pixel="yuv420p")
    copy(source, tmp_path / "out.mp4")
    before, after = read_clip(source), read_clip(tmp_path / "out.mp4")
    assert set(SECRETS.values()) & set(before.said.values())
    assert after.times == before.times
    assert after.lengths == before.lengths
    assert after.sound == before.sound
    assert len(after.sound) > 5
    assert not set(SECRETS.values()) & set(after.said.values())
    content = (tmp_path / "out.mp4").read_bytes()
    assert not any(secret.encode() in content for secret in [*SECRETS.values(), "in.mp4"])
    for one, other in zip(before.pictures, after.pictures, strict=True):
        assert np.abs(one.astype(int) - other).mean() < 3


def test_frames_of_a_variable_rate_keep_their_times_and_a_still_its_length(tmp_path: Path):
    times, lengths = [0, 4, 30, 31, 200], [4, 26, 1, 169, 1000]
    source = write_clip(tmp_path / "in.mp4", pictures(5), times=times, lengths=lengths)
    copy(source, tmp_path / "out.mp4")
    held = read_clip(tmp_path / "out.mp4")
    assert held.times == [time / 100 for time in times]
    assert held.lengths[-1] == pytest.approx(10.0, abs=0.02)
    still = write_clip(tmp_path / "still.mp4", pictures(1), lengths=[1000])
    copy(still, tmp_path / "still_out.mp4")
    assert read_clip(tmp_path / "still_out.mp4").lengths == [10.0]


@pytest.mark.parametrize(("width", "height", "pixel"), [(97, 65, "yuv444p"), (96, 64, "yuv420p")])
def test_sizes_are_kept_odd_ones_too(tmp_path: Path, width: int, height: int, pixel: str):
    source = write_clip(tmp_path / "in.mp4", pictures(3, width, height))
    copy(source, tmp_path / "out.mp4")
    held = read_clip(tmp_path / "out.mp4")
    assert held.pictures[0].shape == (height, width, 3)
    assert held.pixel == pixel


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_clip_is_read_and_written_upright(tmp_path: Path, rotation: int):
    upright = pictures(3)
    stored = [np.ascontiguousarray(np.rot90(frame, -rotation // 90)) for frame in upright]
    source = write_clip(tmp_path / "in.mp4", stored, rotation=rotation)
    assert read_clip(source).rotation % 360 == rotation
    for frame, true in zip(read(source), upright, strict=True):
        assert frame.pixels.shape == true.shape
        assert np.abs(frame.pixels.astype(int) - true).mean() < 4
    copy(source, tmp_path / "out.mp4")
    held = read_clip(tmp_path / "out.mp4")
    assert held.rotation == 0
    assert np.abs(held.pictures[0].astype(int) - upright[0]).mean() < 4


def test_a_lossless_codec_keeps_frames_to_the_rounding_of_colours(tmp_path: Path):
    source = write_clip(tmp_path / "in.mp4", pictures(3), sound=True)
    settings = ClipSettings(Codec.FFV1)
    assert settings.container is Box.MKV
    copy(source, tmp_path / "out.mkv", settings)
    read_once, read_again = read(source), read(tmp_path / "out.mkv")
    assert len(read_clip(tmp_path / "out.mkv").sound) > 1
    for one, other in zip(read_once, read_again, strict=True):
        assert np.abs(one.pixels.astype(int) - other.pixels).max() <= 3


def test_a_part_begins_at_zero_and_takes_its_sound(tmp_path: Path):
    source = write_clip(tmp_path / "in.mp4", pictures(10), sound=True)
    copy(source, tmp_path / "part.mp4", start=0.3, end=0.7)
    whole, part = read_clip(source), read_clip(tmp_path / "part.mp4")
    assert part.times == [0.0, 0.1, 0.2, 0.3]
    assert 0 < len(part.sound) < len(whole.sound)
    copy(source, tmp_path / "silent.mp4", ClipSettings(sound=False))
    assert read_clip(tmp_path / "silent.mp4").sound == []


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    return str(caught.value)


def test_what_is_no_clip_is_refused(tmp_path: Path):
    (tmp_path / "text.mp4").write_text("Dear reader, this is no clip.\n" * 40, encoding="ascii")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hostname\n", encoding="ascii")
    for name in ("text", "empty", "list"):
        assert "is none that can be read" in refused(tmp_path / f"{name}.mp4")
    assert "no such file" in refused(tmp_path / "gone.mp4")


def test_pictures_of_an_unknown_kind_and_of_huge_sizes_are_refused_before_a_frame_is_decoded(tmp_path: Path):
    sound = write_clip(tmp_path / "sound.mp4", pictures(2)).read_bytes()
    (tmp_path / "unknown.mp4").write_bytes(sound.replace(b"avc1", b"zzzz"))
    assert "of a known kind" in refused(tmp_path / "unknown.mp4")
    sound = write_clip(tmp_path / "sound.mkv", pictures(2, 320, 300), codec="ffv1", pixel="bgr0").read_bytes()
    (tmp_path / "huge.mkv").write_bytes(sound.replace(b"\xb0\x82\x01\x40\xba\x82\x01\x2c", b"\xb0\x82\x20\x00\xba\x82\x20\x00"))
    assert "at most 8192 x 4320 pixels, " in refused(tmp_path / "huge.mkv")


@pytest.mark.parametrize(("curve", "name"), [(16, "PQ"), (18, "HLG")])
def test_high_dynamic_range_is_refused_by_name(tmp_path: Path, curve: int, name: str):
    source = write_clip(tmp_path / "hdr.mp4", pictures(2), codec="libx265", pixel="yuv420p10le", curve=curve)
    assert name in refused(source)


def test_a_damaged_end_is_refused_and_says_where_it_begins(tmp_path: Path):
    noise = np.random.default_rng(0)
    frames = [noise.integers(0, 255, (64, 96, 3), np.uint8) for _ in range(30)]
    source = write_clip(tmp_path / "whole.mkv", frames, codec="mpeg4", pixel="yuv420p")
    content = source.read_bytes()
    (tmp_path / "short.mkv").write_bytes(content[: len(content) // 2])
    message = refused(tmp_path / "short.mkv")
    assert "damaged from" in message
    end = float(message.split("--end ")[1].split(" ")[0])
    assert 0.3 < end < 2.5
    assert len(read(tmp_path / "short.mkv", end=end)) >= 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"quality": 60}, "quality from 0"), ({"codec": Codec.FFV1, "box": Box.MP4}, "--container mkv")],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object], message: str):
    with pytest.raises(InputError, match=message):
        ClipSettings(**wrong)


def test_sound_that_does_not_fit_is_refused(tmp_path: Path):
    source = write_clip(tmp_path / "in.avi", pictures(2), sound=True, codec="mpeg4", pixel="yuv420p", sound_codec="adpcm_ms")
    with pytest.raises(InputError, match="--container mkv, or --no-audio"):
        copy(source, tmp_path / "out.mp4")
    with pytest.raises(InputError, match="fits into MKV, got adpcm_ms"):
        copy(source, tmp_path / "out.mkv", ClipSettings(box=Box.MKV))
    copy(source, tmp_path / "silent.mp4", ClipSettings(sound=False))


def test_without_the_package_it_is_said_what_to_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match="pip install av"):
        load_av()

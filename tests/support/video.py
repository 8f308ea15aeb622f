"""Clip files made for tests, and what they hold when they are read again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from faceprivacy_core.types import Picture

RATE = 10
SOUND_RATE = 16000


def write_clip(
    path: Path,
    pictures: Iterable[Picture],
    *,
    times: Sequence[int] | None = None,
    lengths: Sequence[int] | None = None,
    sound: bool = False,
    rotation: int | None = None,
    pixel: str = "yuv444p",
    curve: int | None = None,
    metadata: dict[str, str] | None = None,
    codec: str = "libx264",
    sound_codec: str = "aac",
) -> Path:
    """Write frames, 10 a second where no times (in hundredths of a second) are given."""
    pictures = list(pictures)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=RATE)
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = pixel
        video.codec_context.time_base = Fraction(1, 100)
        video.codec_context.options = {"crf": "8"}
        video.codec_context.flags |= 1 << 8  # lengths of frames are kept
        video.codec_context.max_b_frames = 0
        if curve is not None:
            video.codec_context.color_trc = curve
            video.codec_context.color_primaries = 9
            video.codec_context.colorspace = 9
        if rotation is not None:
            video.set_display_rotation(rotation)
        container.metadata.update(metadata or {})
        audio = container.add_stream(sound_codec, rate=SOUND_RATE) if sound else None
        if audio is not None:
            audio.layout = "mono"
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = (10 * index if times is None else times[index]), Fraction(1, 100)
            frame.duration = 10 if lengths is None else lengths[index]
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            tone = (8000 * np.sin(0.2 * np.arange(len(pictures) * SOUND_RATE // RATE))).astype(np.int16)
            for start in range(0, len(tone), 1024):
                piece = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="s16", layout="mono")
                piece.sample_rate, piece.pts, piece.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
                container.mux(audio.encode(piece))
            container.mux(audio.encode(None))
    return path


@dataclass(frozen=True, eq=False)
class Held:
    """What a clip file holds.

    Attributes:
        pictures: Frames, (H, W, 3) uint8.
        times: Of the frames, seconds.
        lengths: How long each stands, seconds.
        sound: Bytes of the sound packets, in order.
        said: All metadata of file and streams.
        rotation: Degrees said in the file.
        codec, pixel: How frames are stored.
    """

    pictures: list[Picture]
    times: list[float]
    lengths: list[float]
    sound: list[bytes]
    said: dict[str, str]
    rotation: int
    codec: str
    pixel: str


def read_clip(path: Path) -> Held:
    """Read a clip with PyAV alone, without the code under test."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        frames, stands = [], {}
        for packet in container.demux(video):
            stands[packet.pts] = packet.duration or 0
            frames += packet.decode()
        said = dict(container.metadata)
        for stream in container.streams:
            said |= {f"{stream.type}.{key}": value for key, value in stream.metadata.items()}
        held = {"codec": video.codec_context.name, "pixel": video.codec_context.pix_fmt}
    with av.open(str(path)) as container:
        sound = [bytes(packet) for packet in container.demux(audio=0) if packet.size] if container.streams.audio else []
    return Held(
        [frame.to_ndarray(format="rgb24") for frame in frames],
        [round(float(frame.pts * frame.time_base), 4) for frame in frames],
        [round(float(stands.get(frame.pts, 0) * frame.time_base), 4) for frame in frames],
        sound, said, frames[0].rotation, **held,
    )  # fmt: skip

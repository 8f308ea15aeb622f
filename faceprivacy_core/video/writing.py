"""Writes clips: frames with their times, sound as it was, and no name, place, date or thumbnail."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..errors import InputError
from ..types import Picture
from .package import load_av
from .reading import BT601, BT709, Clip

LIMITED, FULL = 1, 2
KEEP_LENGTHS = 1 << 8
"""AV_CODEC_FLAG_FRAME_DURATION: encoders pass on how long a frame stands."""


class Codec(str, Enum):
    """How frames are stored."""

    H264 = "h264"
    H265 = "h265"
    AV1 = "av1"
    FFV1 = "ffv1"


class Box(str, Enum):
    """What holds the streams."""

    MP4 = "mp4"
    MKV = "mkv"


ENCODERS = {Codec.H264: "libx264", Codec.H265: "libx265", Codec.AV1: "libsvtav1", Codec.FFV1: "ffv1"}
QUALITIES = {Codec.H264: 18, Codec.H265: 21, Codec.AV1: 28, Codec.FFV1: 0}
"""Constant rate factors at which nobody sees a difference; smaller is better."""
BEST, WORST = 0, 51


@dataclass(frozen=True)
class ClipSettings:
    """How a clip is written.

    Attributes:
        codec: `FFV1` keeps every value of the frames it is given, in BT.601 or BT.709 with full colour.
        quality: Constant rate factor, 0 (best) to 51; None takes that of `QUALITIES`.
        box: Container; None takes MP4, and MKV for FFV1.
        sound: Copy the sound tracks.
    """

    codec: Codec = Codec.H264
    quality: int | None = None
    box: Box | None = None
    sound: bool = True

    def __post_init__(self) -> None:
        if self.quality is not None and not BEST <= self.quality <= WORST:
            raise InputError(f"Expected a quality from {BEST} (best) to {WORST}, got {self.quality}.")
        if self.codec is Codec.FFV1 and self.container is Box.MP4:
            raise InputError("Expected a container that holds FFV1, got MP4. Say --container mkv.")

    @property
    def container(self) -> Box:
        return self.box or (Box.MKV if self.codec is Codec.FFV1 else Box.MP4)


class ClipWriter:
    """Writes the frames and the sound of one clip; use it in a `with` statement.

    Args:
        path: File to write, over whatever stands there.
        clip: The clip whose frames are written: size, pixel shape, times and sound are its own.
        settings: How.
        start: Second of the read clip with which the written one begins.

    Raises:
        InputError: The container cannot hold a sound track, or there is no such encoder here.
    """

    def __init__(self, path: Path, clip: Clip, settings: ClipSettings, start: float | None = None) -> None:
        self._av = load_av()
        self._info = clip.info
        self._shift = round(Fraction(start or 0.0) / clip.info.time_base)
        options = {"fflags": "+bitexact"}
        if settings.container is Box.MP4:
            options["movflags"] = "+faststart"
        name = {Box.MP4: "mp4", Box.MKV: "matroska"}[settings.container]
        self._container = self._av.open(str(path), "w", format=name, options=options)
        try:
            self._video = self._add_video(settings)
            self._sound = {stream: self._add_sound(stream, settings) for stream in (clip.sound if settings.sound else [])}
        except BaseException:
            self._container.close()
            raise
        self._last: int | None = None

    def __enter__(self) -> ClipWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.finish()
        else:
            self._abandon()

    def write(self, pixels: Picture, time: int, length: int | None) -> None:
        """Write a frame.

        Args:
            pixels: (H, W, 3) uint8 RGB, upright.
            time, length: In the time base of the read clip; times must rise.
        """
        moment = time - self._shift
        if self._last is not None and moment <= self._last:
            raise InputError(
                f"Expected frames with rising times, got {moment} after {self._last}. Convert the clip to MP4 first."
            )
        self._last = moment
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        matrix = BT709 if self._info.is_709 else BT601[0]
        frame = frame.reformat(
            format=self._video.pix_fmt, src_colorspace=matrix, dst_colorspace=matrix, dst_color_range=self._range()
        )
        frame.pts, frame.time_base = moment, self._info.time_base
        if length:
            frame.duration = length
        self._mux(self._video.encode(frame))

    def write_sound(self, packet: Any) -> None:
        """Copy a packet of sound."""
        target = self._sound.get(packet.stream)
        if target is None or packet.dts is None:
            return
        shift = round(self._shift * self._info.time_base / packet.time_base)
        packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, target
        self._mux([packet])

    def finish(self) -> None:
        """Write what is left and close the file."""
        try:
            self._mux(self._video.encode(None))
        except BaseException:
            self._abandon()
            raise
        self._close()

    def _close(self) -> None:
        try:
            self._container.close()
        except (OSError, self._av.FFmpegError) as error:
            raise _failed(error) from None

    def _abandon(self) -> None:
        """Close a file that nobody will use; it may be too short to be closed well."""
        try:
            self._container.close()
        except (OSError, ValueError, self._av.FFmpegError):
            return

    def _mux(self, packets: list[Any]) -> None:
        try:
            for packet in packets:
                self._container.mux(packet)
        except (OSError, ValueError, self._av.FFmpegError) as error:
            raise _failed(error) from None

    def _add_video(self, settings: ClipSettings) -> Any:
        info = self._info
        try:
            stream = self._container.add_stream(ENCODERS[settings.codec], rate=info.rate)
        except (ValueError, self._av.FFmpegError, self._av.codec.codec.UnknownCodecError):
            raise InputError(
                f"Expected an encoder for {settings.codec.value}, there is none here. Choose another --codec."
            ) from None
        stream.width, stream.height = info.width, info.height
        is_odd = bool(info.width % 2 or info.height % 2)
        stream.pix_fmt = "yuv444p" if is_odd or settings.codec is Codec.FFV1 else "yuv420p"
        context = stream.codec_context
        context.time_base = info.time_base
        stream.time_base = info.time_base
        context.flags |= KEEP_LENGTHS
        context.max_b_frames = 0  # frames stored out of order lose how long the last one stands
        context.sample_aspect_ratio = info.aspect
        context.colorspace = BT709 if info.is_709 else BT601[0]
        context.color_range = self._range()
        if settings.codec is not Codec.FFV1:
            quality = QUALITIES[settings.codec] if settings.quality is None else settings.quality
            context.options = {"crf": str(quality)}
        return stream

    def _range(self) -> int:
        return FULL if self._info.is_full else LIMITED

    def _add_sound(self, stream: Any, settings: ClipSettings) -> Any:
        try:
            copied = self._container.add_stream_from_template(stream)
        except (ValueError, self._av.FFmpegError):
            other = "--container mkv, or " if settings.container is Box.MP4 else ""
            raise InputError(
                f"Expected a sound track that fits into {settings.container.value.upper()}, got {stream.codec_context.name}. "
                f"Say {other}--no-audio."
            ) from None
        copied.metadata.clear()
        return copied


def _failed(error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(
        f"Expected to write the clip, got: {reason}. Make room, choose another --codec or --container, or --no-audio."
    )

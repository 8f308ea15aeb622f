"""The one reader of clips: upright frames in RGB with their times. What cannot be read as it is meant is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..errors import InputError
from ..types import Picture
from .package import load_av

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,asf"
"""Containers that hold their streams themselves: never a list of other files or addresses."""

HDR = {16: "PQ (HDR10, Dolby Vision)", 18: "HLG"}
"""Transfer curves that are not mapped to standard range, by their number in ITU-T H.273."""
BT709, BT601, UNKNOWN = 1, (5, 6), 2
HD_HEIGHT = 720
"""Untagged frames of at least this height are BT.709 by custom, smaller ones BT.601."""
MAX_PIXELS = 8192 * 4320
SHORT_BY_S = 0.6
"""A clip that ends this much before it says it does has lost its end."""


@dataclass(frozen=True)
class ClipInfo:
    """What a clip says of itself.

    Attributes:
        width, height: Of the upright frames, pixels.
        turned: By how many degrees the stored frames are turned to stand upright, counter-clockwise.
        time_base: Unit of the frame times, seconds.
        rate: Frames a second on average; only to estimate.
        frames: How many there are; None when the file does not say.
        duration_s: Seconds; None when the file does not say.
        aspect: Width of a pixel over its height, as stored.
        is_709: Whether colours are stored by BT.709, otherwise BT.601.
        is_full: Whether they take the full range of numbers.
        has_sound: Whether there is a sound track.
    """

    width: int
    height: int
    turned: int
    time_base: Fraction
    rate: Fraction
    frames: int | None
    duration_s: float | None
    aspect: Fraction
    is_709: bool
    is_full: bool
    has_sound: bool


@dataclass(frozen=True, eq=False)
class ClipFrame:
    """One frame.

    Attributes:
        index: From 0, counted from the beginning of the chosen part.
        pixels: (H, W, 3) uint8 RGB, upright.
        time: In units of the clip's time base.
        length: How long it stands, in the same units; None when the file does not say.
        seconds: The time in seconds.
    """

    index: int
    pixels: Picture
    time: int
    length: int | None
    seconds: float


@dataclass(eq=False)
class Clip:
    """An open clip; close it, or use it in a `with` statement.

    Args:
        path: A file of one of `FORMATS`; its content decides which.

    Raises:
        InputError: There is no such file, it is no clip, or one that cannot be read as it is meant.
    """

    path: Path
    info: ClipInfo = field(init=False)

    def __post_init__(self) -> None:
        self._av = load_av()
        if not self.path.is_file():
            raise InputError(f"Expected a clip at {self.path}, there is no such file.")
        self._open()
        try:
            self.info = self._describe()
        finally:
            self._container.close()
        self._open()  # once more from the beginning: not every container finds back to it

    def _open(self) -> None:
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        try:
            self._container = self._av.open(str(self.path), options=options, metadata_errors="ignore")
        except (OSError, ValueError, self._av.FFmpegError):
            raise InputError(
                f"Expected a clip (MP4, MOV, MKV, WebM, AVI, MPEG), {self.path} is none that can be read. If a camera wrote "
                "it, it was not closed properly: a repair tool of the maker may mend it."
            ) from None
        try:
            self.video = self._picture_stream()
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    @property
    def sound(self) -> list[Any]:
        """Return the sound tracks."""
        return list(self._container.streams.audio)

    def frames(self, start: float | None = None, end: float | None = None) -> Iterator[ClipFrame]:
        """Read the frames that are seen from `start` on and before `end`, seconds; once.

        Raises:
            InputError: The file is damaged, or sizes change.
        """
        return (item for item in self.items(start, end) if isinstance(item, ClipFrame))

    def items(self, start: float | None = None, end: float | None = None, *, sound: bool = False) -> Iterator[Any]:
        """Read frames, and the packets of sound between them if asked for, in the order of the file."""
        first, last = start or -float("inf"), float("inf") if end is None else end
        lengths: dict[int, int] = {}
        wanted = [self.video, *(self.sound if sound else [])]
        index, stopped, reached = 0, False, 0.0
        try:
            for packet in self._container.demux(wanted):
                if packet.stream.type == "audio":
                    if packet.pts is not None and first <= float(packet.pts * packet.time_base) < last:
                        yield packet
                    continue
                if stopped:
                    continue
                if packet.pts is not None and packet.duration:
                    lengths[packet.pts] = packet.duration  # what decoders say of a last frame is not to be relied on
                for frame in packet.decode():
                    seconds, length = self._seconds(frame), lengths.pop(frame.pts, frame.duration) or None
                    reached = max(reached, seconds + float((length or 0) * self.info.time_base))
                    if seconds >= last:
                        stopped = True
                        break
                    if seconds >= first:
                        if frame.is_corrupt:
                            raise self._damaged(seconds)
                        yield self._convert(frame, index, seconds, length)
                        index += 1
                if stopped and not sound:
                    return
        except self._av.FFmpegError:
            if reached < last:
                raise self._damaged(reached) from None
            return
        known = self.info.duration_s
        if not stopped and known is not None and reached < min(known - SHORT_BY_S, last):
            raise self._damaged(reached)

    def _seconds(self, frame: Any) -> float:
        if frame.pts is None:
            raise InputError(f"Expected a time for every frame, {self.path} has frames without one. Convert it to MP4 first.")
        return float((frame.pts - (self.video.start_time or 0)) * self.info.time_base)

    def _damaged(self, seconds: float) -> InputError:
        return InputError(
            f"Expected a whole clip, {self.path} is damaged from {seconds:.2f} s on. Say --end {max(0.0, seconds - 0.05):.2f} "
            "to take what is before, or repair it."
        )

    def _convert(self, frame: Any, index: int, seconds: float, length: int | None) -> ClipFrame:
        rgb = frame.reformat(format="rgb24", src_colorspace=_matrix(self.info), dst_colorspace=_matrix(self.info)).to_ndarray()
        pixels = np.ascontiguousarray(np.rot90(rgb, self.info.turned // 90))
        if pixels.shape[:2] != (self.info.height, self.info.width):
            raise InputError(
                f"Expected frames of one size, {self.info.width} x {self.info.height}, {self.path} has one of "
                f"{pixels.shape[1]} x {pixels.shape[0]} at {seconds:.2f} s. Cut it there, and take the parts apart."
            )
        return ClipFrame(index, pixels, frame.pts - (self.video.start_time or 0), length, seconds)

    def _picture_stream(self) -> Any:
        """Return the moving pictures; a cover or thumbnail is none."""
        for stream in self._container.streams.video:
            if not int(stream.disposition) & int(self._av.stream.Disposition.attached_pic):
                context = stream.codec_context
                if context is None:
                    raise InputError(
                        f"Expected moving pictures of a known kind, {self.path} has others. Convert it to MP4 first."
                    )
                self._check_size(context.width, context.height)
                stream.thread_type = "AUTO"
                context.options = {"err_detect": "explode", "max_pixels": str(MAX_PIXELS)}
                return stream
        raise InputError(f"Expected moving pictures, {self.path} holds none.")

    def _check_size(self, width: int, height: int) -> None:
        if width * height > MAX_PIXELS:
            raise InputError(f"Expected frames of at most 8192 x 4320 pixels, {self.path} has {width} x {height}.")

    def _describe(self) -> ClipInfo:
        stream, context = self.video, self.video.codec_context
        if int(context.color_trc) in HDR:
            raise InputError(
                f"Expected a clip of standard dynamic range, {self.path} is {HDR[int(context.color_trc)]}. Convert it first "
                "(phones can export without HDR), or its colours would be wrong."
            )
        first = next(self._first_frames(), None)
        if first is None:
            raise InputError(f"Expected moving pictures, no frame of {self.path} can be read.")
        self._check_size(first.width, first.height)
        turned = round(first.rotation) % 360
        if turned % 90:
            raise InputError(f"Expected frames turned by a quarter or half, {self.path} says {turned} degrees. Turn it first.")
        width, height = (first.height, first.width) if turned % 180 else (first.width, first.height)
        matrix = int(first.colorspace)
        is_709 = matrix == BT709 or (matrix not in BT601 and first.height >= HD_HEIGHT)
        duration = stream.duration * stream.time_base if stream.duration else None
        if duration is None and self._container.duration:
            duration = self._container.duration / 1_000_000
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        return ClipInfo(
            width=width, height=height, turned=turned, time_base=stream.time_base, rate=rate, frames=stream.frames or None,
            duration_s=None if duration is None else float(duration), aspect=1 / aspect if turned % 180 else aspect,
            is_709=is_709, is_full=int(first.color_range) == 2, has_sound=bool(self.sound),
        )  # fmt: skip

    def _first_frames(self) -> Iterator[Any]:
        try:
            yield from self._container.decode(self.video)
        except self._av.FFmpegError:
            return


def _matrix(info: ClipInfo) -> int:
    return BT709 if info.is_709 else BT601[0]

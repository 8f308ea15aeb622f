"""Clips on the command line: options, and what is written of one."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..phrases.catalogue import ENGLISH, Phrases
from .console import has_bars, showable

if TYPE_CHECKING:
    from ..clips.protect import ClipProtection
    from ..protect import ProtectSettings
    from .batch import Tools

METHODS = ("new face", "blur", "mosaic", "solid")
FALLBACKS = ("blur", "mosaic", "solid", "error")
CODECS, BOXES, LOST = ("h264", "h265", "av1", "ffv1"), ("mp4", "mkv"), ("fill", "blur", "error")
SHEET = ".frames.jpg"


def add_clip_options(parser: Any) -> None:
    """Add the options that clips alone have."""
    group = parser.add_argument_group("clips", "MP4, MOV, MKV, WebM and others, when they are named one by one")
    group.add_argument("--start", type=float, metavar="S", help="first second that is written (default: the beginning)")
    group.add_argument("--end", type=float, metavar="S", help="second before which to end (default: the end)")
    group.add_argument(
        "--no-audio", action="store_true", help="leave the sound out; otherwise it is copied, and voices are known, too"
    )
    group.add_argument("--codec", choices=CODECS, default=CODECS[0], help="how frames are stored (default: %(default)s)")
    group.add_argument("--quality", type=int, metavar="CRF", help="0 (best) to 51 (default: no difference to be seen)")
    group.add_argument("--container", choices=BOXES, help="default: mp4; mkv for ffv1")
    group.add_argument(
        "--lost", choices=LOST, default=LOST[0],
        help="what becomes of a face between two frames in which it is found (default: %(default)s, the new face goes on)",
    )  # fmt: skip
    group.add_argument(
        "--max-gap", type=float, default=1.0, metavar="S", help="how long a face may be lost (default: %(default)s)"
    )
    group.add_argument(
        "--fallback", choices=FALLBACKS, default=FALLBACKS[0],
        help="for faces that are too small, or whose new face is still recognised (default: %(default)s)",
    )  # fmt: skip


def clip_request(args: argparse.Namespace, protect: ProtectSettings) -> ClipProtection:
    """Read what is wanted of a clip.

    Raises:
        InputError: A value is out of range, or a photo cannot be read.
    """
    from ..clips.protect import ClipProtection, Lost
    from ..faces.select import Which
    from ..protect import Fallback
    from ..video.writing import Box, ClipSettings, Codec
    from .choosing import read_references, refuse_for_clips

    refuse_for_clips(args)
    references, people = read_references(args.only_people or args.except_people or [])
    which = Which.ONLY_REFERENCE if args.only_people else Which.EXCEPT_REFERENCE if args.except_people else Which.ALL
    writing = ClipSettings(
        Codec(args.codec), args.quality, None if args.container is None else Box(args.container), sound=not args.no_audio
    )  # fmt: skip
    return ClipProtection(
        replace(protect, fallback=Fallback(args.fallback)), Lost(args.lost), args.max_gap, which,
        references, args.start, args.end, writing, people,
    )  # fmt: skip


def protect_clip(
    path: Path, target: Path, tools: Tools, request: ClipProtection, *, replace: bool = False, phrases: Phrases = ENGLISH
) -> str:
    """Protect one clip and write it with its report and contact sheet; nothing is written on failure.

    Args:
        path: The clip.
        target: Path of the results without ending.
        tools: Model, detector, recognisers.
        request: What is wanted.
        replace: Replace results that are there already.
        phrases: The language of the contact sheet and of what is said.

    Returns:
        What to say of it.
    """
    from ..clips.protect import draw_looks, find_people, write_protected
    from ..clips.report import ClipReport
    from ..files import NewFile, check_free, hidden_part, write_together
    from ..protect import DrawingTools, Method

    started = time.perf_counter()
    result, sheet, report_file = (_named(target, ending) for ending in (f".{request.writing.container.value}", SHEET, ".json"))
    if os.path.exists(result) and os.path.samefile(path, result):
        raise InputError(f"Expected another folder than that of the originals, or {result.name} would be overwritten.")
    if not replace:
        check_free([result, sheet, report_file])
    is_drawn = request.protect.method is Method.NEW_FACE
    with ExitStack() as stack:
        bars = _Bars(path.name)
        stack.callback(bars.close)
        found = find_people(path, request, tools.detector, tools.seen, tools.model.resolution, bars.advance)
        looks = (
            draw_looks(found, request, DrawingTools(tools.model, tools.seen, tools.detector), bars.advance) if is_drawn else {}
        )
        report = ClipReport(found, (*tools.seen, *tools.held_out), {one.name for one in tools.seen} if is_drawn else set())
        part = stack.enter_context(hidden_part(result))
        write_protected(path, part, found, looks, tools.seen if is_drawn else (), request, bars.advance, report.watch)
        bars.close()
        seconds = round(time.perf_counter() - started, 2)
        written = report.to_json_dict() | {"picture": path.name, "seconds": seconds}
        write_together(
            [
                NewFile(report_file, (json.dumps(written, indent=2) + "\n").encode("ascii")),
                NewFile(sheet, _jpeg(report.sheet(phrases))),
                NewFile(result, b"", part=part),
            ],
            replace=replace,
        )  # fmt: skip
    return f"{report.summary(phrases)}, {seconds:.0f} s"


def _named(target: Path, ending: str) -> Path:
    return target.with_name(target.name + ending)


def _jpeg(pixels: Any) -> bytes:
    from ..clean_files import FileKind, encode_clean

    return encode_clean(pixels, FileKind.JPEG, quality=88)


class _Bars:
    """One bar after the other, with the time that is left."""

    def __init__(self, name: str) -> None:
        self._name = showable(name, sys.stderr)
        self._bar: Any = None
        self._what = ""

    def advance(self, what: str, done: int, total: int | None) -> None:
        from tqdm import tqdm

        if what != self._what:
            self.close()
            self._what = what
            self._bar = tqdm(
                total=total,
                desc=f"{self._name}, {what}",
                leave=False,
                disable=not has_bars(),
                unit=" faces" if "drawing" in what else " frames",
            )
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

"""Clips made of the repository's sample picture: two people who move, turn, grow, pass each other, and a cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from faceprivacy_core.align import transform_points
from faceprivacy_core.faces.detect import load_detector
from faceprivacy_core.picture_files import read_picture_file
from faceprivacy_core.types import Face, FloatArray, Picture

SAMPLE = Path(__file__).parents[2] / "docs" / "samples" / "two_people.jpg"
REACH = 1.25
"""Half the side of a cut-out head, in heights of its face."""


@dataclass(frozen=True, eq=False)
class Head:
    """A head of the sample, cut out softly, with its face."""

    pixels: Picture
    weight: FloatArray
    face: Face


@dataclass(frozen=True, eq=False)
class Scene:
    """One frame: what is seen, and who is where, the last one in front."""

    picture: Picture
    people: tuple[int, ...]
    faces: tuple[Face, ...]


@cache
def heads() -> tuple[Head, Head]:
    """Return the two heads of the sample, left to right."""
    picture = read_picture_file(SAMPLE).pixels
    found = sorted(load_detector().detect(picture), key=lambda face: face.bbox_xyxy[0])
    return _head(picture, found[0]), _head(picture, found[1])


def _head(picture: Picture, face: Face) -> Head:
    x, y = (face.bbox_xyxy[0] + face.bbox_xyxy[2]) / 2, (face.bbox_xyxy[1] + face.bbox_xyxy[3]) / 2
    reach = int(REACH * face.height)
    padded = cv2.copyMakeBorder(picture, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    left, top = int(x), int(y)
    pixels = padded[top : top + 2 * reach, left : left + 2 * reach]
    v, u = np.mgrid[-1 : 1 : pixels.shape[0] * 1j, -1 : 1 : pixels.shape[1] * 1j]
    weight = np.clip((1.0 - np.hypot(u / 0.72, (v + 0.02) / 0.85)) / 0.12, 0.0, 1.0)
    shift = np.array([left - reach, top - reach])
    box = np.array(face.bbox_xyxy).reshape(2, 2) - shift
    return Head(pixels, weight, Face(0, tuple(map(float, box.ravel())), face.landmarks5 - shift, face.confidence))


def put(picture: Picture, head: Head, x: float, y: float, height: float, angle: float) -> tuple[Picture, Face]:
    """Put a head into a picture, its face `height` pixels high around (x, y), turned by `angle` degrees."""
    scale, turn = height / head.face.height, np.deg2rad(angle)
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = np.array(head.pixels.shape[1::-1]) / 2
    affine = np.column_stack([linear, (x, y) - linear @ middle])
    size = picture.shape[1::-1]
    ratio = cv2.INTER_AREA if scale < 0.7 else cv2.INTER_LINEAR
    source, weight = head.pixels, head.weight
    if scale < 0.7:  # warping does not average what it shrinks
        half = tuple(max(1, round(side * scale)) for side in source.shape[1::-1])
        source, weight = (cv2.resize(part, half, interpolation=ratio) for part in (source, weight))
        affine = affine @ np.array([[1 / scale, 0, 0], [0, 1 / scale, 0], [0, 0, 1.0]])
    laid = cv2.warpAffine(source, affine, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    over = cv2.warpAffine(weight, affine, size, flags=cv2.INTER_LINEAR)[..., None]
    whole = np.column_stack([linear, (x, y) - linear @ middle])
    points = transform_points(whole, head.face.landmarks5)
    box = transform_points(whole, np.array(head.face.bbox_xyxy).reshape(2, 2))
    face = Face(0, (*map(float, box.min(axis=0)), *map(float, box.max(axis=0))), points, 1.0)
    return (picture * (1 - over) + laid * over).round().astype(np.uint8), face


def background(width: int, height: int, seed: int) -> Picture:
    """Return a smooth picture without anybody."""
    coarse = np.random.default_rng(seed).uniform(60, 200, (5, 8, 3)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def walk(frames: int, *, width: int = 320, height: int = 180, cut: bool = True) -> Iterator[Scene]:
    """Let two people walk past each other, the second in front; after a cut in the middle they stand elsewhere."""
    first, second = heads()
    rooms = background(width, height, 1), background(width, height, 9)
    for index in range(frames):
        t = index / max(1, frames - 1)
        is_after = cut and index >= frames // 2
        s = t if not cut else (t * 2) % 1.0 if t < 1.0 else 1.0
        picture = rooms[1 if is_after else 0].copy()
        tall = 0.36 * height
        if is_after:
            places = ((0.72 - 0.1 * s, 0.5, 0.9, 8 * s), (0.25 + 0.1 * s, 0.45, 1.0, -6 * s))
        else:
            places = ((0.2 + 0.6 * s, 0.5, 0.9 + 0.1 * s, 10 * s - 5), (0.8 - 0.6 * s, 0.48, 1.05, 5 - 10 * s))
        faces = []
        for head, (x, y, size, angle) in zip((first, second), places, strict=True):
            picture, face = put(picture, head, x * width, y * height, size * tall, angle)
            faces.append(face)
        yield Scene(picture, (0, 1), tuple(faces))

"""One face through each of the papers' protocols."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.cloak_released import our_settings
from benchmarks.cloak_scenes import Judge, open_scene
from benchmarks.distributions import general_features
from benchmarks.gallery import embed_face
from benchmarks.keyed import PUBLISHED_STEPS, STEPS, through_png
from benchmarks.pictures import read_picture
from faceprivacy_core.cloak import RELEASED, cloak_faces
from faceprivacy_core.diffusion.model import Capability, LatentModel
from faceprivacy_core.faces.detect import YuNetDetector
from faceprivacy_core.faces.recognizers import TorchRecognizer
from faceprivacy_core.hide import HideSettings, hide_faces
from faceprivacy_core.keyed.checks import CoverCheck
from faceprivacy_core.keyed.decrypt import decrypt_faces
from faceprivacy_core.keyed.encrypt import EncryptSettings, encrypt_faces
from faceprivacy_core.keyed.header import RecoveryMode
from faceprivacy_core.keyed.keys import PrivacyKey
from faceprivacy_core.keyed.models import KeyedModel
from faceprivacy_core.keyed.picture import KeyedPicture
from faceprivacy_core.keyed.regions import claimed_pixels
from faceprivacy_core.masks import MaskSettings, draw_masks
from faceprivacy_core.metrics.fidelity import compute_psnr, compute_ssim
from faceprivacy_core.metrics.perceptual import PerceptualDistance
from faceprivacy_core.pixels import to_pixels, to_tensor

Pixels = NDArray[np.uint8]
Landmarks = NDArray[np.float64]
Cosines = dict[tuple[str, str], float]
Row = dict[str, Any]
"""`figures` by title, `judged` by recogniser and title, and `sets`: by title the features of the face before and after."""
FAR, STRICT = 0.01, 0.001


@dataclass(frozen=True, eq=False)
class Tools:
    """Everything that is loaded once."""

    model: LatentModel
    detector: YuNetDetector
    seen: Sequence[TorchRecognizer]
    judges: Sequence[TorchRecognizer]
    perceptual: PerceptualDistance
    keys: int

    def alike(self, pictures: Mapping[str, Pixels], landmarks: Landmarks, other: Path) -> dict[str, Cosines]:
        """Return for every judge the cosines of pictures of one face among each other and with another photo, `other`."""
        seen = {name: embed_face(pixels, self.detector, self.judges, landmarks) for name, pixels in pictures.items()}
        seen["other"] = embed_face(read_picture(other), self.detector, self.judges)
        return {
            judge.name: {
                (one, two): float(np.dot(seen[one][judge.name], seen[two][judge.name]))
                for one, two in itertools.permutations(seen, 2)
            }
            for judge in self.judges
        }

    def looks(self, pixels: Pixels) -> list[float]:
        """Return the features that Fréchet distances compare."""
        with torch.no_grad():
            return general_features(self.perceptual, to_tensor(pixels))[0].tolist()


def dodge(tools: Tools, path: Path, other: Path, settings: Any) -> Row:
    """Cloak one face; who takes it and another photo for two people, and what it looks like."""
    scene = open_scene(path, tools.detector)
    images = cloak_faces(scene.image, scene.faces, tools.model, tools.seen, settings, perceptual=tools.perceptual).images
    quality = Judge(tools.detector, tools.judges, tools.perceptual).quality(scene, images)
    pictures = {"original": scene.pixels, "cloaked": to_pixels(images)}
    alike = tools.alike(pictures, scene.faces.items[0].landmarks5, other)
    deceived = {judge.name: 100.0 * (alike[judge.name]["cloaked", "other"] < judge.thresholds[FAR]) for judge in tools.judges}
    title = "deceived at 1 in 100, another photo"
    return {
        "figures": {
            f"{title}, mean, %": float(np.mean(list(deceived.values()))),
            "PSNR, dB": quality["psnr_db"], "SSIM": quality["ssim"], "LPIPS": quality["lpips"],
        },
        "judged": {name: {f"{title}, %": value} for name, value in deceived.items()},
        "sets": {"Fréchet distance, AlexNet": [tools.looks(scene.view(scene.image)), tools.looks(scene.view(images))]},
    }  # fmt: skip


def hide(tools: Tools, path: Path, other: Path, settings: Any) -> Row:
    """Hide one face; who still takes it and the person for one, and how far it is from the looks of the person."""
    scene = open_scene(path, tools.detector)
    images = hide_faces(
        scene.image, scene.faces, tools.model, tools.seen, settings, detector=tools.detector,
        perceptual=lambda: tools.perceptual,
    ).images  # fmt: skip
    hidden = to_pixels(images)
    alike = tools.alike({"original": scene.pixels, "hidden": hidden}, scene.faces.items[0].landmarks5, other)
    judged = {}
    for judge in tools.judges:
        limit, of = judge.thresholds[STRICT], alike[judge.name]
        judged[judge.name] = {
            "recognised at 1 in 1,000, original, %": 100.0 * (of["hidden", "original"] >= limit),
            "recognised at 1 in 1,000, another photo, %": 100.0 * (of["hidden", "other"] >= limit),
            "not hidden: recognised, another photo, %": 100.0 * (of["original", "other"] >= limit),
        }
    return {
        "figures": {
            "LPIPS of the face crop": Judge(tools.detector, tools.judges, tools.perceptual).quality(scene, images)["lpips"],
            "face found, %": 100.0 * bool(tools.detector.detect(hidden)),
        },
        "judged": judged,
        "sets": {"Fréchet distance, AlexNet": [tools.looks(scene.view(scene.image)), tools.looks(scene.view(images))]},
    }


def reverse(tools: Tools, path: Path, other: Path, settings: Any) -> Row:
    """Encrypt one face with several keys and open the first; the published rule looks at no cover before it takes it."""
    scene, model = open_scene(path, tools.detector), KeyedModel(tools.model)
    mask = draw_masks(scene.faces, MaskSettings(grow=2.0))[:, None]
    check = None if settings.mode is RecoveryMode.SIGNFLIP else CoverCheck(tools.detector, tools.seen)
    keys = [PrivacyKey.from_bytes(bytes([number]) * 32) for number in range(1, tools.keys + 1)]
    keyed = [
        through_png(encrypt_faces(KeyedPicture(scene.pixels), scene.faces, mask, key, model, settings, check=check).picture)
        for key in keys
    ]
    recovered = decrypt_faces(keyed[0], keys[0], model).pixels
    inside = claimed_pixels(keyed[0].claims, *scene.pixels.shape[:2])
    pictures = {"original": scene.pixels, "recovered": recovered}
    covers = {f"cover {number}": picture.pixels for number, picture in enumerate(keyed)}
    alike = tools.alike(pictures | covers, scene.faces.items[0].landmarks5, other)
    judged = {}
    for judge in tools.judges:
        limit, of = judge.thresholds[STRICT], alike[judge.name]
        judged[judge.name] = {
            "cover: cosine to the original": float(np.mean([of[cover, "original"] for cover in covers])),
            "recovered: cosine to the original": of["recovered", "original"],
            "original: accepted, another photo, %": 100.0 * (of["original", "other"] >= limit),
            "cover: accepted, another photo, %": float(np.mean([100.0 * (of[cover, "other"] >= limit) for cover in covers])),
            "recovered: accepted, another photo, %": 100.0 * (of["recovered", "other"] >= limit),
        }
        if len(covers) > 1:
            pairs = [of[pair] for pair in itertools.combinations(covers, 2)]
            judged[judge.name]["cosine of two covers of one face"] = float(np.mean(pairs))
    error = np.abs(scene.pixels.astype(float) - recovered)[inside].mean() / 127.5
    views = {name: tools.looks(scene.view(to_tensor(pixels))) for name, pixels in {**pictures, **covers}.items()}
    return {
        "figures": {
            "recovered: PSNR, dB": compute_psnr(scene.pixels, recovered, inside),
            "recovered: SSIM": compute_ssim(scene.pixels, recovered, inside),
            "recovered: mean absolute error, of 2": float(error),
            "face found in the cover, %": 100.0 * bool(tools.detector.detect(keyed[0].pixels)),
            "face found in the recovered picture, %": 100.0 * bool(tools.detector.detect(recovered)),
        },
        "judged": judged,
        "sets": {
            "Fréchet distance of covers, AlexNet": [views["original"], views["cover 0"]],
            "Fréchet distance of recovered pictures, AlexNet": [views["original"], views["recovered"]],
        },
    }  # fmt: skip


PROTOCOLS: dict[str, Callable[[Tools, Path, Path, Any], Row]] = {"dodging": dodge, "hiding": hide, "reversible": reverse}


def ways_of(protocol: str, model: LatentModel) -> dict[str, Any]:
    """Return the settings of the paper and ours, by title."""
    if protocol == "dodging":
        return {"as released": our_settings(settings=RELEASED), "as shipped": our_settings()}
    if protocol == "hiding":
        ours = HideSettings() if Capability.DONORS in model.capabilities else HideSettings.published()
        return {"as published": HideSettings.published(refine=0, look_different=0.0), "as shipped": ours}
    return {
        "sign flip": EncryptSettings(RecoveryMode.SIGNFLIP, steps=PUBLISHED_STEPS, verify=False),
        "mode image": EncryptSettings(RecoveryMode.IMAGE, steps=STEPS, verify=False),
    }

"""`faceprivacy doctor`: say what is here, what is missing, and what to do about it."""

from __future__ import annotations

import argparse
import importlib.util
import platform
import sys
from collections.abc import Callable
from typing import Any

from .. import weights
from ..errors import FacePrivacyError
from ..model_folders import PACK, default_models_dir, fetch_command, model_folders
from ..terminal import typed
from .console import say
from .devices import best_device
from .models import is_present
from .version import find_version

MODULES = {
    "torch": "torch", "torchvision": "torchvision", "numpy": "numpy", "cryptography": "cryptography", "diffusers": "diffusers",
    "lpips": "lpips", "onnx": "onnx", "onnx2torch": "onnx2torch", "opencv-python-headless": "cv2", "pillow": "PIL",
    "platformdirs": "platformdirs", "pyyaml": "yaml", "safetensors": "safetensors", "scipy": "scipy", "tqdm": "tqdm",
}  # fmt: skip
"""What the package needs, and the module that shows whether it is there."""

TEST_SIDE_PX = 320


def add_parser(commands: Any) -> None:
    """Add this command to the program's parser."""
    parser = commands.add_parser(
        "doctor",
        help="say what is here, what is missing and what to do",
        description="Looks at packages, model files, folders and device, and lets the networks compute once. Changes nothing. "
        "The exit status is 0 when everything that is needed is here.",
    )
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Say the state of everything; 0 when nothing is missing."""
    say(f"faceprivacy {find_version()}, Python {platform.python_version()}, {platform.platform()}")
    say(f"Python: {sys.executable}")
    say(f"Package: {PACK / 'faceprivacy_core'}")
    missing = [name for name, module in MODULES.items() if importlib.util.find_spec(module) is None]
    say(f"Packages: {'all here' if not missing else 'missing: ' + ', '.join(missing)}")
    if missing:
        say(f"  Run: {_install_command(missing)}")
    absent = [file.key for file in weights.FILES if not any(is_present(file, folder) for folder in model_folders())]
    for folder in model_folders():
        say(f"Models folder: {folder}{'' if folder.is_dir() else ' (not there)'}")
    say(f"Model files: {'all here' if not absent else 'missing: ' + ', '.join(absent)}")
    if absent:
        say(f"  Run: {fetch_command(absent, default_models_dir())}")
    if missing or absent:
        return 1
    return 0 if _computes() else 1


def _computes() -> bool:
    say("Loading the networks for a self-test ...")
    device = best_device()
    say(f"Device: {device}")
    tests: tuple[tuple[str, Callable[[], str]], ...] = (
        ("detector", _test_detector),
        ("face model", lambda: _test_model(device)),
    )
    is_well = True
    for name, test in tests:
        try:
            say(f"Self-test of the {name}: {test()}")
        except (FacePrivacyError, RuntimeError, ImportError) as error:  # torch reports devices by RuntimeError
            say(f"Self-test of the {name}: failed. {error}")
            is_well = False
    return is_well


def _test_detector() -> str:
    import numpy as np

    from ..faces.detect import load_detector

    grey = np.full((TEST_SIDE_PX, TEST_SIDE_PX, 3), 128, dtype=np.uint8)
    return "well" if not load_detector().detect(grey) else "finds a face where there is none"


def _test_model(device: str) -> str:
    import torch

    from ..builtin.model import load_face_model

    model = load_face_model().to(device)
    side = model.resolution
    with torch.no_grad():
        picture = torch.zeros(1, 3, side, side, device=device)
        drawn = model.autoencoder.decode(model.autoencoder.encode(picture))
    return f"well, {model.model_name}" if bool(torch.isfinite(drawn).all()) else "computes what is not a number"


def _install_command(missing: list[str]) -> str:
    requirements = PACK / "requirements.txt"
    what = ["-r", str(requirements)] if requirements.is_file() else missing
    return typed([sys.executable, "-m", "pip", "install", *what])

"""What the recover workflow begins with: a protected picture and its saved inversion."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from devtools.paths import ROOT, SAMPLE_PHOTO
from devtools.workflow import Prompt
from tests.support.keys import key_environment

PROTECTED_PICTURE = "hidden_00001_.png"
SAVED_INVERSION = "inversion_00001_.fpinv"
QUICK = ("--steps", "4", "--strength", "0", "--inversion-steps", "6")
LIMIT_S = 240.0


def provide_inversion(base: Path, prompt: Prompt) -> None:
    """Anonymise the sample photo by command and place both files where the workflow looks for them.

    The key that the prompt names must be there.
    """
    files = [node["inputs"].get("file") for node in prompt.values()]
    output = base / "output"
    if f"{SAVED_INVERSION} [output]" not in files or (output / SAVED_INVERSION).is_file():
        return
    (key,) = [node["inputs"]["name"] for node in prompt.values() if node["class_type"] == "FacePrivacy_PrivacyKey"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "faceprivacy_core", "anonymize", str(SAMPLE_PHOTO), "--out", folder, *QUICK]
        line = [*command, "--save-inversion", "--key", key]
        environment = {**os.environ, **key_environment(base)}
        subprocess.run(line, cwd=ROOT, env=environment, check=True, timeout=LIMIT_S, capture_output=True)
        shutil.copy(Path(folder) / f"{SAMPLE_PHOTO.stem}.fpinv", output / SAVED_INVERSION)
        if not (output / PROTECTED_PICTURE).is_file():  # else the hide workflow wrote it, from the same photo
            shutil.copy(Path(folder) / f"{SAMPLE_PHOTO.stem}.png", output / PROTECTED_PICTURE)

"""Templates for a user's checkpoint run on tiny ones of the host's own classes, node by node, with their own links."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from devtools.paths import SAMPLE_PHOTO, WORKFLOWS
from devtools.workflow import Prompt, load_workflow, to_prompt
from tests.support.host_models import Checkpoint, tiny_checkpoint
from tests.support.host_scenes import Core
from tests.support.keys import FOLDER

pytestmark = [
    pytest.mark.weights, pytest.mark.slow, pytest.mark.usefixtures("inside_the_host"),
    pytest.mark.skipif("FACEPRIVACY_TEMPLATES" not in os.environ, reason="takes minutes: FACEPRIVACY_TEMPLATES=1"),
]  # fmt: skip

TEMPLATES = [
    f"Checkpoint - {what}"
    for what in (
        "Anonymize Faces", "Hide Identity", "Recover Faces", "Encrypt Faces", "Decrypt Faces", "Encrypt under Any Cover",
        "Cloak Faces",
    )
]  # fmt: skip
"""Each after the one whose result it opens."""
SMALL = {
    "FacePrivacy_FaceCrop": {"size": 64}, "FacePrivacy_MsiInversion": {"learn_steps": 2, "steps": 4},
    "KSampler": {"steps": 3}, "FacePrivacy_LoadFaceRecognizers": {"recognizers": "mobilefacenet-v1"},
    "FacePrivacy_KeyedEncrypt": {"size": 64, "steps": 3, "verify": False},
    "FacePrivacy_AdversarialLatent": {"size": 64, "iterations": 1, "attempts": 1, "require_protection": False},
}  # fmt: skip
"""What is cheaper than in the template; random weights draw no faces, so nothing is asked of looks."""
LOOKS = {"PreviewImage", "PreviewAny", "FacePrivacy_PrivacyReport", "FacePrivacy_SaveCleanImage"}


def _run(prompt: Prompt, host_nodes: ModuleType, checkpoint: Checkpoint) -> dict[str, tuple[Any, ...]]:
    """Run every node once, those first that others need; return outputs by class."""
    done: dict[str, tuple[Any, ...]] = {}

    def value(given: Any) -> Any:
        is_link = isinstance(given, list) and len(given) == 2 and given[0] in prompt
        return outputs(given[0])[given[1]] if is_link else given

    def outputs(key: str) -> tuple[Any, ...]:
        if key not in done:
            kind = prompt[key]["class_type"]
            given = {name: value(item) for name, item in (prompt[key]["inputs"] | SMALL.get(kind, {})).items()}
            done[key] = (
                (checkpoint.model, checkpoint.clip, checkpoint.vae)
                if kind == "CheckpointLoaderSimple"
                else _execute(kind, given)
            )
        return done[key]

    def _execute(kind: str, given: dict[str, Any]) -> tuple[Any, ...]:
        node = host_nodes.NODE_CLASS_MAPPINGS[kind]
        if kind in LOOKS:
            return tuple(given.values())
        if not hasattr(node, "define_schema"):
            return getattr(node(), node.FUNCTION)(**given)
        return node.PREPARE_CLASS_CLONE(None).execute(**given).args

    return {node["class_type"]: outputs(key) for key, node in prompt.items()}


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_the_templates_run_one_after_the_other(
    host_nodes: ModuleType,
    core: Core,
    object_info: dict[str, Any],
    family: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import folder_paths
    import torch

    monkeypatch.setenv("FACEPRIVACY_KEY_DIR", str(tmp_path / FOLDER))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    monkeypatch.setattr(core("nodes.keyed"), "CoverCheck", lambda *_: None)
    asyncio.run(host_nodes.init_builtin_extra_nodes())
    shutil.copy(SAMPLE_PHOTO, folder_paths.get_input_directory())
    checkpoint = tiny_checkpoint(family)
    for name in TEMPLATES:
        prompt = to_prompt(load_workflow(WORKFLOWS / f"{name}.json"), object_info)
        if name == "Checkpoint - Recover Faces":  # Save Clean Image is not run
            next(node for node in prompt.values() if node["class_type"] == "LoadImage")["inputs"]["image"] = SAMPLE_PHOTO.name
        found = _run(prompt, host_nodes, checkpoint)
        pictures = [
            found[kind][0] for kind in ("FacePrivacy_FacePaste", "FacePrivacy_KeyedDecrypt", "FacePrivacy_AdversarialLatent")
            if kind in found
        ] or [found["FacePrivacy_KeyedEncrypt"][1]]  # fmt: skip
        for picture in pictures:
            assert bool(torch.isfinite(picture).all()), name
            assert "LoadImage" not in found or not torch.equal(picture, found["LoadImage"][0]), name

"""Tiny checkpoints, written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.checkpoints import FAMILIES, write_checkpoint


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of tiny checkpoints of every family, as diffusers saves them."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {family: write_checkpoint(folder / f"tiny-{family}", family) for family in FAMILIES}

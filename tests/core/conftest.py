"""Tiny checkpoints, written once; few donors."""

from __future__ import annotations

from pathlib import Path

import pytest

from faceprivacy_core import auditions
from tests.support.checkpoints import FAMILIES, write_checkpoint


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of tiny checkpoints of every family, as diffusers saves them."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {family: write_checkpoint(folder / f"tiny-{family}", family) for family in FAMILIES}


@pytest.fixture(autouse=True)
def _few_donors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try few donors for every face: each costs a decode, and no law here depends on how many there are."""
    monkeypatch.setattr(auditions, "SHORT_LIST", 4)
    monkeypatch.setattr(auditions, "FINALISTS", 2)

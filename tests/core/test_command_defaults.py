"""Commands name their defaults again, because torch must not be loaded for `--help`; they are those of the settings."""

import argparse
from pathlib import Path
from types import ModuleType

import pytest

from faceprivacy_core.anonymize import AnonymizeSettings
from faceprivacy_core.cloak import CloakSettings
from faceprivacy_core.commands import anonymize, cloak, hide, main
from faceprivacy_core.hide import HideSettings


def _parsed(command: ModuleType) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers(dest="command"))
    return parser.parse_args([command.__name__.rpartition(".")[2], "in.png", "--out", "out"])


@pytest.mark.parametrize(("command", "settings"), [(anonymize, AnonymizeSettings()), (hide, HideSettings())])
def test_commands_that_draw_faces_anew_have_the_defaults_of_their_settings(
    command: ModuleType, settings: AnonymizeSettings | HideSettings
):
    found = _parsed(command)
    for name in ("steps", "noise", "strength", "seed"):
        assert getattr(found, name) == getattr(settings, name), name
    assert found.region == settings.mask.region.value
    if isinstance(settings, HideSettings):
        assert (found.look_different, found.refine) == (settings.look_different, settings.refine)


def test_cloak_has_the_defaults_of_its_settings():
    found, settings = _parsed(cloak), CloakSettings()
    assert (found.iterations, found.fidelity, found.seed) == (settings.attack.iterations, settings.fidelity, settings.seed)
    assert found.region == settings.mask.region.value
    assert settings.require_protection is not found.accept_unprotected


def test_cloak_refuses_an_impossible_fidelity_before_anything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    photo = Path(__file__).parents[2] / "docs" / "samples" / "portrait.jpg"
    assert main(["cloak", str(photo), "--out", str(tmp_path / "out"), "--fidelity", "-3"]) == 1
    assert "fidelity above 0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

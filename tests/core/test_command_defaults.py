"""Commands name their defaults again, because torch must not be loaded for `--help`; they are those of the settings."""

import argparse
from pathlib import Path
from types import ModuleType

import pytest

from faceprivacy_core.anonymize import AnonymizeSettings
from faceprivacy_core.cloak import CloakSettings
from faceprivacy_core.commands import anonymize, cloak, hide, main
from faceprivacy_core.donors import Age, DonorSettings, Sex
from faceprivacy_core.hide import HideSettings
from faceprivacy_core.masks import MaskSettings, Region
from faceprivacy_core.regenerate import FACES_AT_A_TIME


def _parsed(command: ModuleType, *arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers(dest="command"))
    return parser.parse_args([command.__name__.rpartition(".")[2], "in.png", "--out", "out", *arguments])


def test_hide_has_the_defaults_of_its_settings():
    found, settings = _parsed(hide), HideSettings()
    for name in ("steps", "seed", "candidates", "look_different", "refine"):
        assert getattr(found, name) == getattr(settings, name), name
    assert found.region == settings.mask.region.value


def test_hide_leaves_to_its_settings_what_depends_on_the_look(monkeypatch: pytest.MonkeyPatch):
    made = []
    monkeypatch.setattr(hide, "protect_files", lambda args, mask, method: 0)
    real = HideSettings.__post_init__
    monkeypatch.setattr(HideSettings, "__post_init__", lambda self: made.append(self) or real(self))
    for arguments in ([], ["--look", "person"], ["--noise", "0.3"]):
        hide.run(_parsed(hide, *arguments))
    batch = {"micro_batch": FACES_AT_A_TIME}
    hide.run(_parsed(hide, "--device", "cpu"))
    assert made[-1].micro_batch == 1  # memory of one face, whatever the crowd
    assert made[:3] == [HideSettings(**batch), HideSettings.published(**batch), HideSettings(noise=0.3, **batch)]


def test_anonymize_leaves_to_its_settings_what_is_not_given(monkeypatch: pytest.MonkeyPatch):
    """Steps, noise, strength and region depend on whose look is taken, so the command does not name them again."""
    made = []
    monkeypatch.setattr(anonymize, "protect_files", lambda args, mask, method, clip: 0)
    real = AnonymizeSettings.__post_init__
    monkeypatch.setattr(AnonymizeSettings, "__post_init__", lambda self: made.append(self) or real(self))
    given = ["--steps", "7", "--region", "whole head", "--candidates", "2", "--mix-traits", "--sex", "a man"]
    for arguments in ([], ["--look", "person"], given):
        anonymize.run(_parsed(anonymize, *arguments))
    batch = {"micro_batch": FACES_AT_A_TIME}
    anonymize.run(_parsed(anonymize, "--device", "cpu"))
    assert made[-1].micro_batch == 1  # memory of one face, whatever the crowd
    donors = DonorSettings(follow_traits=False, sex=Sex.MAN)
    changed = AnonymizeSettings(steps=7, mask=MaskSettings(Region.HEAD), candidates=2, donors=donors, **batch)
    assert made[:3] == [AnonymizeSettings(**batch), AnonymizeSettings.published(**batch), changed]


def test_anonymize_offers_every_sex_and_age_of_its_settings():
    assert tuple(choice.value for choice in Sex) == anonymize.SEXES
    assert tuple(choice.value for choice in Age) == anonymize.AGES


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

"""The language of reports, as somebody chose it in the settings of the frontend."""

from __future__ import annotations

from ..faceprivacy_core.model_folders import read_setting
from ..faceprivacy_core.phrases.catalogue import ENGLISH, LANGUAGES, Phrases, load_phrases
from . import _host

LANGUAGE_SETTING = "FacePrivacy.ReportLanguage"
"""The setting that `web/settings.js` adds to the host's."""


def report_phrases() -> Phrases:
    """Return the phrases that reports are written in; English where no language was chosen, or none that there is."""
    chosen = read_setting(_host.settings_file(), LANGUAGE_SETTING)
    return load_phrases(chosen) if chosen in LANGUAGES else ENGLISH


class WritesReports:
    """Of nodes that write a report: they run again when another language is chosen."""

    @classmethod
    def fingerprint_inputs(cls, **inputs: object) -> str:
        return report_phrases().language

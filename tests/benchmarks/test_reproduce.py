"""The papers' protocols: differences, averages, the table, and faces to which nothing was done."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import reproduce
from benchmarks.cloak_released import our_settings
from benchmarks.protocols import PROTOCOLS, Tools, dodge, reverse, ways_of
from benchmarks.published import ARCFACE, INCEPTION, PAPERS, Paper, difference
from faceprivacy_core.adversarial.objective import Weights
from faceprivacy_core.anonymize import Look
from faceprivacy_core.builtin.model import load_face_model
from faceprivacy_core.cloak import CloakSettings
from faceprivacy_core.diffusion.model import Capability
from faceprivacy_core.faces.detect import load_detector
from faceprivacy_core.faces.insightface_models import ARCFACE_SPECS
from faceprivacy_core.faces.recognizers import SPECS
from faceprivacy_core.keyed.encrypt import EncryptSettings
from faceprivacy_core.keyed.header import RecoveryMode
from tests.support.recognizer import ProjectionRecognizer

SAMPLE = Path(__file__).parents[2] / "docs" / "samples" / "portrait.jpg"
JUDGE = SimpleNamespace(name="judge", family=INCEPTION)


@pytest.mark.parametrize(
    ("measured", "stated", "expected"),
    [(21.0, 20.5, 0.5), (80.0, (85.0, 90.0), -5.0), (87.0, (85.0, 90.0), 0.0), (92.0, (85.0, 90.0), 2.0)],
)
def test_a_difference_to_a_range_is_that_to_its_nearer_end(measured: float, stated: object, expected: float):
    assert difference(measured, stated) == pytest.approx(expected)


def test_every_protocol_has_a_paper_and_families_are_those_of_recognisers_there_are():
    assert set(PAPERS) == set(PROTOCOLS)
    assert {spec.family for spec in ARCFACE_SPECS.values()} == {ARCFACE}
    assert INCEPTION in {spec.family for spec in SPECS}
    stated = {family for paper in PAPERS.values() for by_family in paper.by_family.values() for family in by_family}
    assert stated <= {ARCFACE, INCEPTION}


def test_the_papers_settings_stand_beside_ours():
    everything, donorless = (SimpleNamespace(capabilities=has) for has in (frozenset(Capability), frozenset()))
    assert [way.mode for way in ways_of("reversible", everything).values()] == [RecoveryMode.SIGNFLIP, RecoveryMode.IMAGE]
    assert ways_of("reversible", everything)["sign flip"].steps == 50
    released, shipped = ways_of("dodging", everything).values()
    assert (len(released.levels), len(shipped.levels)) == (3, 1)
    assert ways_of("hiding", everything)["as shipped"].look is Look.DONOR
    assert ways_of("hiding", donorless)["as shipped"].look is Look.PERSON, "a checkpoint brings no donors"


def test_the_table_has_the_papers_number_ours_and_the_difference_and_says_what_nobody_measured():
    rows = [
        {"figures": {"PSNR": value}, "judged": {"judge": {"cosine": value / 100}}, "sets": {"distance": [[0.0], [value]]}}
        for value in (20.0, 22.0)
    ]
    figures = reproduce.average(rows, [JUDGE])
    assert figures == {("PSNR", None): 21.0, ("cosine", "judge"): pytest.approx(0.21), ("distance", None): pytest.approx(443.0)}
    assert reproduce.average(rows[:1], [JUDGE]) == {("PSNR", None): 20.0, ("cosine", "judge"): 0.2}, "one face is no set"
    assert reproduce.average([], [JUDGE]) == {}
    paper = Paper("A paper", "Found somewhere.", {"PSNR": 20.7, "FID": 15.0}, {"cosine": {INCEPTION: 0.25}})
    text = reproduce.lay_out(paper, {"theirs": figures, "ours": {}}, {"judge": INCEPTION}, {"theirs": 2, "ours": 0})
    assert text.startswith("A paper. Found somewhere.\n\n|")
    assert "| | paper | theirs, 2 faces | ours, 0 faces |" in text
    assert "| PSNR | 20.7 | 21 (+0.3) | - |" in text
    assert "| cosine: judge | 0.25 | 0.21 (-0.04) | - |" in text
    assert "| distance | - | 443 | - |" in text
    assert "| FID | 15 | - | - |" in text


@pytest.mark.weights
def test_a_face_to_which_nothing_was_done_deceives_nobody_and_one_that_comes_back_whole_is_accepted():
    judge = ProjectionRecognizer()
    perceptual = SimpleNamespace(compute_map=lambda before, after: (before != after).astype(float))
    tools = Tools(load_face_model(), load_detector(), [judge], [judge], perceptual, 1)
    object.__setattr__(tools, "looks", lambda pixels: [float(pixels.mean())])
    nothing = dodge(tools, SAMPLE, SAMPLE, our_settings(0, CloakSettings(weights=Weights(1.0, 0.0))))
    assert nothing["judged"] == {"toy": {"deceived at 1 in 100, another photo, %": 0.0}}
    assert nothing["figures"]["LPIPS"] == 0.0
    before, after = nothing["sets"]["Fréchet distance, AlexNet"]
    assert before == after
    object.__setattr__(tools, "seen", ())
    back = reverse(tools, SAMPLE, SAMPLE, EncryptSettings(RecoveryMode.EXACT, steps=2, verify=False))
    assert back["figures"]["recovered: mean absolute error, of 2"] == 0.0
    assert back["judged"]["toy"]["recovered: cosine to the original"] == pytest.approx(1.0)
    assert back["judged"]["toy"]["recovered: accepted, another photo, %"] == 100.0
    assert back["judged"]["toy"]["cover: cosine to the original"] < 1.0
    cover, recovered = (back["sets"][f"Fréchet distance of {what}, AlexNet"] for what in ("covers", "recovered pictures"))
    assert cover[0] == recovered[0] == recovered[1] != cover[1]


def test_a_model_of_yours_has_an_origin_of_its_own(tmp_path: Path):
    folder = tmp_path / "checkpoint"
    (folder / "unet").mkdir(parents=True)
    file = folder / "unet" / "model.safetensors"
    file.write_bytes(b"weights")
    ours, file_alone, whole = (
        reproduce.origin_of("settings", SimpleNamespace(model=model, keys=2)) for model in (None, file, folder)
    )
    assert ours.model_sha256 != file_alone.model_sha256 == whole.model_sha256
    more_keys = reproduce.origin_of("settings", SimpleNamespace(model=None, keys=3))
    assert not ours.is_comparable(vars(more_keys))

"""The cloaking benchmark: its scenes, the released algorithm, the gain, its tables, and one face through it all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import cloak, cloak_ablation, cloak_cells, cloak_control, cloak_released, cloak_report, cloak_rows
from benchmarks.cloak_scenes import CHANGES, Scene, crop_scene
from faceprivacy_core.adversarial.levels import GRID_SIGMAS
from faceprivacy_core.adversarial.objective import Weights
from faceprivacy_core.builtin.model import FaceModel, load_face_model
from faceprivacy_core.cloak import CloakSettings, cloak_faces
from faceprivacy_core.images import crop_faces, place_crop
from faceprivacy_core.masks import MaskSettings, draw_masks
from faceprivacy_core.pixels import to_pixels, to_tensor
from tests.support.faces import one_face
from tests.support.recognizer import ProjectionRecognizer

SAMPLE = Path(__file__).parents[2] / "docs" / "samples" / "portrait.jpg"


class TrainableRecognizer(nn.Module):
    """The toy recogniser with a weight that could be trained."""

    def __init__(self) -> None:
        super().__init__()
        self.toy = ProjectionRecognizer()
        self.gain = nn.Parameter(torch.ones(16), requires_grad=False)

    def embed(self, images: Tensor, landmarks5: Tensor) -> Tensor:
        return nn.functional.normalize(self.toy.embed(images, landmarks5) * self.gain, dim=1)


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return load_face_model()


@pytest.fixture(scope="module")
def scene() -> Scene:
    """A picture of colours with a face of 180 pixels that is only said to be there."""
    coarse = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(5))
    pixels = to_pixels(nn.functional.interpolate(coarse, (240, 300), mode="bilinear"))
    faces, image = one_face(240, 300), to_tensor(pixels)
    return Scene(pixels, image, faces, draw_masks(faces, MaskSettings())[:, None], crop_faces(image, faces, 256)[1])


def test_the_aligned_crop_as_a_picture_holds_the_face_where_a_crop_has_it(scene: Scene):
    small = crop_scene(scene, 256)
    assert small.pixels.shape == (256, 256, 3)
    again = place_crop(small.faces.items[0], 256)
    torch.testing.assert_close(torch.from_numpy(again.crop_to_image), torch.eye(2, 3).double(), rtol=0, atol=1e-3)
    left, top, right, bottom = small.faces.items[0].bbox_xyxy
    x, y = small.landmarks5[0].T
    assert left < float(x.min()) < float(x.max()) < right
    assert top < float(y.min()) < float(y.max()) < bottom


def test_changed_copies_differ_and_keep_their_size(scene: Scene):
    assert len(CHANGES) == 3
    for change in CHANGES.values():
        changed = change(scene.pixels)
        assert changed.shape == scene.pixels.shape
        assert 0.1 < abs(changed.astype(float) - scene.pixels).mean() < 20.0


def test_the_released_algorithm_runs_as_many_rows_as_it_is_said_to(scene: Scene, model: FaceModel):
    small, recognizer, rows = crop_scene(scene, 256), TrainableRecognizer(), []
    count = model.denoiser.unet.register_forward_hook(lambda unet, inputs, output: rows.append(len(inputs[0])))
    processors = dict(model.denoiser.unet.attn_processors)
    target = [nn.functional.normalize(torch.ones(1, 16), dim=1)]
    try:
        done = cloak_released.cloak_as_released(
            small.image, small.landmarks5, model, [recognizer], target, iterations=3, learning_steps=2
        )
    finally:
        count.remove()
    inversion, learning, attack, render = 19, 3 * (2 + 1), 3 * 4 * 3, 4 * 3
    assert sum(rows) == inversion + learning + attack + render  # 19 + 63 + 360 + 12 at 30 iterations and 20 steps
    assert recognizer.gain.grad is not None, "The released code leaves these gradients on."
    assert all(p.grad is None for part in (model.denoiser.unet, model.autoencoder) for p in part.parameters())
    assert dict(model.denoiser.unet.attn_processors) == processors
    assert done.losses[-1] < done.losses[0]
    assert torch.equal(done.published * 255.0, (done.published * 255.0).round())
    assert not torch.equal(done.decoded, done.reference)


def test_without_an_attack_the_released_algorithm_gives_its_reconstruction(scene: Scene, model: FaceModel):
    small = crop_scene(scene, 256)
    target = [torch.ones(1, 16) / 4.0]
    done = cloak_released.cloak_as_released(
        small.image, small.landmarks5, model, [ProjectionRecognizer()], target, iterations=0, learning_steps=0
    )
    torch.testing.assert_close(done.decoded, done.reference, rtol=0, atol=1e-5)
    assert done.losses == []


def test_the_gain_starts_where_the_attack_did(scene: Scene, model: FaceModel):
    three = CloakSettings(levels=GRID_SIGMAS[:3], weights=Weights(1.0, 0.0))
    settings = cloak_released.our_settings(0, three)
    result = cloak_faces(scene.image, scene.faces, model, [ProjectionRecognizer()], settings)
    trajectory = cloak_ablation.invert_face(scene, model, result)
    torch.testing.assert_close(trajectory[-1], result.latents, rtol=0, atol=1e-4)
    moved = replace(result, latents=result.latents + 0.05)
    row = cloak_ablation.measure_purification(scene, model, settings, moved)
    assert 0.2 < row["gain_random"] < 2.0
    assert 0.2 < row["gain_attack"] < 2.0
    assert len(row["errors"]) == 3


@pytest.mark.parametrize(("shift", "gain"), [(0, 1.0), (1, 0.96159 / 0.99915)])
def test_a_model_that_always_sees_the_same_noise_has_the_gain_of_its_schedule(model: FaceModel, shift: int, gain: float):
    levels = cloak_released.released_levels(model)
    assert levels.sigmas[:4] == pytest.approx((0.04131, 0.22815, 0.34619, 0.45833), abs=1e-5)
    three = replace(levels, sigmas=levels.sigmas[:4])
    same_noise = SimpleNamespace(denoiser=lambda x, sigma, cond: x - 0.3 * sigma)
    result = SimpleNamespace(levels=three, conditions=SimpleNamespace(of=lambda k, faces: None))
    x = torch.rand(2, 4, 16, 16, dtype=torch.float64)
    clean = cloak_ablation.go_down(x, same_noise, CloakSettings(shift=shift), result)
    assert float((clean[1] - clean[0]).norm() / (x[1] - x[0]).norm()) == pytest.approx(gain, abs=1e-5)


def test_the_control_has_no_noise_to_take_away_and_leaves_the_model_as_it_is(scene: Scene, model: FaceModel):
    control = cloak_control.without_unet(model)
    settings = cloak_released.our_settings(0, CloakSettings(weights=Weights(1.0, 0.0)))
    result = cloak_faces(scene.image, scene.faces, control, [ProjectionRecognizer()], settings)
    clean, attacked = cloak_ablation.invert_face(scene, control, result)
    assert torch.equal(clean, attacked)
    assert torch.equal(cloak_ablation.go_down(attacked + 1.0, control, CloakSettings(), result), attacked + 1.0)
    assert not torch.equal(*cloak_ablation.invert_face(scene, model, result))


def test_the_control_attacks_whom_the_shipped_way_attacks():
    bench = cloak.Bench(SimpleNamespace(out=None, iterations=None))
    names = ["shipped", "without the UNet", "sface"]
    shipped, control, rest = cloak.protect_variants(bench, SimpleNamespace(held_out=names))
    assert shipped.seen == control.seen
    assert (shipped.has_unet, control.has_unet, rest.has_unet) == (True, False, True)
    assert "sface" in shipped.seen
    assert "sface" not in rest.seen


def recognized(name: str, role: str, similarity: float) -> dict[str, Any]:
    return {"name": name, "family": name, "role": role, "similarity": similarity,
            "threshold_fmr_1e-2": 0.3, "threshold_fmr_1e-3": 0.33, "generated_fmr_1e-2": 0.36}  # fmt: skip


def judged(seen: float, held_out: float, after: float) -> dict[str, Any]:
    looks = {"psnr_db": 31.0, "ssim": 0.95, "lpips": 0.05}
    changed = {change: {"a": seen, "b": after} for change in CHANGES}
    return {"recognizers": [recognized("a", "seen", seen), recognized("b", "held out", held_out)], "changed": changed,
            "crop": looks, "inside": looks, "seconds": 2.0, "cpu_seconds": 1.0}  # fmt: skip


def write(folder: Path, task: str, *rows: dict[str, Any], part: str = "0of1") -> None:
    lines = [json.dumps({"picture": f"{i}.jpg", "variant": "shipped", "version": "now"} | row) for i, row in enumerate(rows)]
    (folder / f"{task}{part}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_tables_count_decisions_of_all_parts_and_say_how_many_faces(tmp_path: Path):
    assert cloak_report.write_report(tmp_path) == "There are no rows yet."
    write(tmp_path, "protect", {"version": "old", **judged(0.9, 0.9, 0.9)}, judged(0.1, 0.35, 0.35), part="0of2")
    write(tmp_path, "protect", judged(0.2, 0.1, 0.5), judged(0.35, 0.2, 0.2), {"refused": "no"}, part="1of2")
    text = cloak_report.write_report(tmp_path)
    assert "| shipped | 3 | 66.7 % | 66.7 % | 66.7 % | 100.0 % | 66.7 % | 66.7 % | 100.0 % | 31.00 | 0.950 | 0.050 |" in text
    assert "| shipped | b (held out) | 3 | 66.7 % | 33.3 % (33.3) |" in text
    assert "Refused: 1 of 4 rows, the first with: no" in text
    assert "1 rows of other settings or another model were left out." in text
    assert (tmp_path / "cloak.md").read_text(encoding="utf-8").strip() == text


def test_another_photo_has_columns_of_its_own_where_there_was_one(tmp_path: Path):
    row = judged(0.1, 0.35, 0.35)
    said = {"verified_after_fmr_1e-2": True, "verified_after_fmr_1e-3": False}
    row["recognizers"][1]["other"] = said | {"verified_before_fmr_1e-2": True, "verified_before_fmr_1e-3": True}
    write(tmp_path, "protect", row)
    head, lines = cloak_report.protect_table(cloak_rows.by_variant(cloak_rows.read_rows(tmp_path, "protect")))
    cells = dict(zip(head, lines[0], strict=True))
    assert [cells[title] for title in head if "another photo" in title] == ["0.0 %", "0.0 %", "100.0 %", "0.0 %"]


def test_a_published_cell_says_who_is_deceived_beside_the_original_and_another_photo():
    rows = [judged(0.1, 0.35, 0.35), judged(0.35, 0.2, 0.1)]
    assert not any("another photo" in title for title in cloak_cells.describe(rows))
    said = {"verified_after_fmr_1e-2": True, "verified_after_fmr_1e-3": False}
    for row in rows:
        row["recognizers"][1]["other"] = said | {"verified_before_fmr_1e-2": True, "verified_before_fmr_1e-3": True}
    cells = cloak_cells.describe(rows)
    assert cells["all that were attacked deceived at once, at 1 in 100"] == "50.0 % of 2"
    for who in ("b", "held out, together"):
        assert cells[f"{who}, original: {cloak_cells.DECEIVED}"] == "50.0 %, 50.0 % of 2"
        assert cells[f"{who}, another photo: {cloak_cells.DECEIVED}"] == "0.0 %, 100.0 % of 2 (not cloaked 0.0 %, 0.0 % of 2)"
    assert cells["held out, together, original, after JPEG 75: deceived at 1 in 100"] == "50.0 % of 2"
    assert cells["face crop: PSNR (dB), SSIM, LPIPS"] == "31.00, 0.950, 0.050"
    assert not any(title.startswith("a,") for title in cells), "who was attacked is in one line"


def test_series_of_people_have_a_table_of_their_own(tmp_path: Path):
    origin = {"model_sha256": "a" * 64, "settings": "s", "code": "c"}
    row = judged(0.1, 0.35, 0.35) | origin
    said = {f"verified_{side}_fmr_{rate}": False for side in ("after", "before") for rate in ("1e-2", "1e-3")}
    row["recognizers"][1]["other"] = said
    write(tmp_path, "protect", row, row | {"variant": "sface"})
    results = tmp_path / "results"
    cloak_report.publish_report(tmp_path, results)
    assert [path.name for path in results.iterdir()] == ["cloak_people.json"]
    series = json.loads((results / "cloak_people.json").read_text(encoding="utf-8"))["series"]
    assert [item["title"] for item in series] == ["shipped", "all attacked but sface"]


def test_published_series_carry_what_they_were_measured_with(tmp_path: Path):
    origin = {"model_sha256": "a" * 64, "settings": "s", "code": "c"}
    write(tmp_path, "protect", judged(0.1, 0.35, 0.35) | origin, judged(0.2, 0.1, 0.5) | origin | {"code": "d"})
    cost = {"cpu_seconds": 1.5, "peak_mib": 900.0, "loaded_mib": 700.0, "imports_mib": 500.0}
    ways = dict.fromkeys(("released", "ours"), judged(0.1, 0.5, 0.5) | cost)
    write(tmp_path, "released", {"variant": "", "ways": ways} | origin)
    results = tmp_path / "results"
    cloak_report.publish_report(tmp_path, results)
    (shipped,) = json.loads((results / "cloak.json").read_text(encoding="utf-8"))["series"]
    said = {key: shipped[key] for key in ("title", "faces", *origin)}
    assert said == {"title": "shipped", "faces": 2, **origin, "code": "c, d"}
    assert shipped["cells"][f"b, original: {cloak_cells.DECEIVED}"] == "50.0 %, 50.0 % of 2"
    released = json.loads((results / "cloak_released.json").read_text(encoding="utf-8"))
    assert [item["title"] for item in released["series"]] == ["released", "ours"]
    assert released["series"][1]["cells"]["PSNR, dB"] == "31.00"


def test_the_released_table_says_by_which_factor(tmp_path: Path):
    cost = {"imports_mib": 500.0, "loaded_mib": 700.0, "loading_peak_mib": 800.0}
    ways = {
        "released": judged(0.1, 0.1, 0.1) | cost | {"cpu_seconds": 6.0, "peak_mib": 1300.0},
        "ours": judged(0.1, 0.5, 0.5) | cost | {"cpu_seconds": 1.5, "peak_mib": 900.0},
    }
    write(tmp_path, "released", {"variant": "", "ways": ways})
    text = cloak_report.write_report(tmp_path)
    assert "1.00 times the seconds, 4.00 times the CPU seconds, 3.00 times the memory" in text
    assert "| protected, held out, 1e-2 | 100.0 % | 0.0 % |" in text


def test_ablation_and_sweep_draw_and_judge_the_claim(tmp_path: Path):
    rows = []
    for kind, gain in (("fixed", 0.7), ("learned", 0.8)):
        labels = {"variant": f"aligned, {kind}, 3", "schedule": "aligned", "empty": kind, "depth": 3, "picture": "0.jpg"}
        gains = {"gain_random": 0.5, "gain_attack": gain, "reconstruction_db": 30.0}
        rows.append(judged(0.1, 0.1, 0.1) | labels | {"purification": gains})
    write(tmp_path, "ablation", *rows)
    swept = [{"sweep": "attack", "value": value, "is_default": value == 0.003, "variant": str(value)} for value in (0.003, 0.1)]
    write(tmp_path, "sweep", *(judged(0.1, 0.1, 0.1) | labels for labels in swept))
    text = cloak_report.write_report(tmp_path)
    assert "aligned schedule, 3 levels: learned minus fixed +0.1000, higher in 1 of 1 faces; supports the claim." in text
    assert "| attack 0.003 (default) | 1 |" in text
    assert {file.name for file in tmp_path.glob("*.png")} == {"cloak_gain.png", "cloak_sweep.png"}


def test_the_sweep_holds_the_released_setting_and_the_default():
    bench = cloak.Bench(SimpleNamespace(out=None, iterations=None))
    variants = list(cloak.sweep_variants(bench, None))
    marked = [(dict(v.labels)["sweep"], dict(v.labels)["value"]) for v in variants if dict(v.labels)["is_default"]]
    ours = CloakSettings()
    assert marked == [("attack", 0.003), ("fidelity", ours.fidelity), ("perceptual", ours.weights.perceptual)]
    assert [v.settings.weights.attack for v in variants[:2]] == [0.001, 0.003]
    assert not any(v.settings.require_protection for v in variants)


@pytest.mark.slow
@pytest.mark.weights
def test_one_face_goes_through_and_a_second_run_adds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    pictures.mkdir()
    (pictures / "a.jpg").write_bytes(SAMPLE.read_bytes())
    command = ["--pictures", str(pictures), "--out", str(out), "--count", "1", "--iterations", "1"]
    command += ["--tasks", "robust", "grid", "--held-out", "shipped"]
    cloak.main(command)
    (row,) = cloak_rows.read_rows(out, "protect")
    assert [result["role"] for result in row["recognizers"]].count("held out") == 3
    assert set(row["changed"]) == set(CHANGES)
    assert all(name in row["changed"]["JPEG 75"] for name in row["seen"])
    assert row["crop"]["psnr_db"] > 25.0
    assert (out / "cloak_grid.png").is_file()
    assert len(list((out / "reports").glob("*.png"))) == 1
    cloak.main(command)
    assert len(cloak_rows.read_rows(out, "protect")) == 1
    assert "| shipped | 1 |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="Expected 2 pictures for test"):
        cloak.main([*command, "--count", "2"])

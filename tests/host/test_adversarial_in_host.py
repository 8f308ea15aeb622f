"""Adversarial Latent inside the host: what changes, how stock samplers finish it, what it leaves behind, errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest

from devtools.paths import SAMPLE_PHOTO
from tests.support import graphs, host_models
from tests.support.faces import synthetic_face
from tests.support.host_scenes import Core
from tests.support.recognizer import ProjectionRecognizer

pytestmark = pytest.mark.usefixtures("inside_the_host")

HEIGHT, WIDTH = 180, 240
ID = "FacePrivacy_AdversarialLatent"
SHIFTS = {"aligned": 0, "released": 1}


@dataclass(frozen=True, eq=False)
class Parts:
    """What the node is given."""

    model: Any
    vae: Any
    positive: Any
    size: int


class BlindRecognizer(ProjectionRecognizer):
    """Gives no gradient."""

    def embed(self, images: Any, landmarks5: Any) -> Any:
        return super().embed(images.detach(), landmarks5)


@pytest.fixture(scope="module")
def builtin(pack_nodes: dict[str, Any]) -> Parts:
    import torch

    with torch.inference_mode():
        model, vae, _, size, empty = pack_nodes["FacePrivacy_LoadBuiltinFaceModel"].execute().args
    return Parts(model, vae, empty, size)


@pytest.fixture
def tiny(host_nodes: ModuleType) -> Parts:
    return Parts(host_models.tiny_unet(), host_models.taesd(), host_models.condition(), 64)


@pytest.fixture
def image(host_nodes: ModuleType) -> Any:
    import torch

    coarse = torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(5))
    return torch.nn.functional.interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear").movedim(1, -1)


@pytest.fixture
def run(pack_nodes: dict[str, Any], core: Core, image: Any) -> Callable[..., Any]:
    """Run the node; return its outputs."""
    node = pack_nodes[ID]

    def execute(parts: Parts, **options: Any) -> tuple[Any, ...]:
        types = core("faceprivacy_core.types")
        faces = tuple(synthetic_face(110 + 8 * i, 90, 130, image_index=i) for i in range(2))
        given = graphs.widget_defaults(node) | {
            "model": parts.model, "vae": parts.vae, "positive": parts.positive, "size": parts.size, "image": image,
            "faces": types.Faces(faces, 2, HEIGHT, WIDTH), "recognizers": (ProjectionRecognizer("a"),), "iterations": 2,
            "robust": False, "require_protection": False, "attempts": 1, "perceptual_weight": 0.0, "depth": 3,
        }  # fmt: skip
        return node.execute(**{**given, **options}).args

    return execute


def _picture(name: str) -> Any:
    import torch

    return torch.from_numpy(graphs.sample(SAMPLE_PHOTO.parent / name))[None].float() / 255.0


@pytest.fixture(scope="module")
def portrait() -> Any:
    return _picture("portrait.jpg")


def _weights(parts: Parts) -> list[Any]:
    return [parts.model.model, parts.vae.first_stage_model]


def _hooks(parts: Parts) -> list[list[Any]]:
    """List the hooks of every module; the built-in model has one of its own, which warns of crops of another size."""
    return [list(module._forward_pre_hooks.values()) for network in _weights(parts) for module in network.modules()]


def test_the_picture_changes_inside_the_mask_only_and_nothing_is_left_behind(
    core: Core, builtin: Parts, run: Callable[..., Any], image: Any
) -> None:
    import torch

    before = [{name: weight.clone() for name, weight in network.state_dict().items()} for network in _weights(builtin)]
    hooks = _hooks(builtin)
    found, latent, conditioning, sigmas, crops, plot, report = run(builtin, robust=True, structure_weight=1.0)
    masks = core("faceprivacy_core.masks")
    outside = masks.draw_masks(crops.faces, masks.MaskSettings()) == 0
    assert torch.equal(found[outside], image[outside])
    assert not torch.equal(found, image)
    assert latent["samples"].shape == (2, 32, builtin.size // 16, builtin.size // 16)
    assert conditioning is builtin.positive
    assert len(sigmas) == 4
    assert bool((sigmas.diff() < 0).all())
    assert plot.ndim == 4
    assert float(plot.max()) > float(plot.min())
    assert "of 2 faces protected" in report
    assert "face 1, picture 1: a" in report
    for network, weights in zip(_weights(builtin), before, strict=True):
        assert all(torch.equal(weights[name], weight) for name, weight in network.state_dict().items())
        assert all(weight.grad is None for weight in network.parameters())
    assert _hooks(builtin) == hooks
    assert torch.is_inference_mode_enabled()
    assert not any(value.requires_grad for value in (found, latent["samples"], sigmas, plot))
    assert builtin.model.get_additional_models() == []


def test_no_iteration_is_the_identity_and_does_not_pass_for_protection(
    core: Core, builtin: Parts, run: Callable[..., Any], image: Any
) -> None:
    import torch

    found, *_, report = run(builtin, iterations=0)
    assert torch.equal(found, image)
    assert report.count("a 1.00 (limit 0.30): NOT protected") == 2
    with pytest.raises(core("faceprivacy_core.errors").NumericalError, match="2 of 2 that are not"):
        run(builtin, iterations=0, require_protection=True)


@pytest.mark.parametrize(("schedule", "learned"), [("aligned", False), ("aligned", True), ("released", True)])
def test_a_stock_sampler_ends_where_the_way_down_of_the_core_ends(
    core: Core, builtin: Parts, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, schedule: str, learned: bool
) -> None:
    import torch
    from comfy_extras.nodes_custom_sampler import KSamplerSelect, SamplerCustom

    results = []
    cloak_faces = core("nodes.adversarial").cloak_faces
    monkeypatch.setattr(
        core("nodes.adversarial"), "cloak_faces", lambda *args, **kw: results.append(cloak_faces(*args, **kw)) or results[0]
    )
    _, latent, conditioning, sigmas, *_ = run(builtin, schedule=schedule, learned_empty=learned)
    (euler,) = KSamplerSelect.execute("euler").args
    finished = SamplerCustom.execute(
        builtin.model, False, 0, 1.0, conditioning, builtin.positive, euler, sigmas, latent
    ).args[0]["samples"]  # fmt: skip

    (result,), reverse = results, core("faceprivacy_core.adversarial.reverse")
    denoiser = core("faceprivacy_core.builtin.model").load_face_model().denoiser
    with torch.inference_mode(False), torch.no_grad():
        x = result.latents
        for k in range(len(result.levels), 0, -1):
            tokens = result.conditions.of(k, torch.arange(2))
            x = reverse.reverse_step(denoiser, x, result.levels, k, tokens, shift=SHIFTS[schedule])
        if schedule == "released":  # which says so: the last factor is not the sampler's
            x = x * ((1 + result.levels.final**2) / (1 + result.levels[0] ** 2)) ** 0.5
    assert float((x - result.latents).abs().max()) > 0.05
    torch.testing.assert_close(finished, x, rtol=0, atol=1e-3)
    assert len(conditioning) == (3 if learned else 1)


@pytest.mark.parametrize("depth", [1, 7])
def test_depth_says_how_many_levels_the_latent_is_taken_up(run: Callable[..., Any], tiny: Parts, depth: int) -> None:
    sigmas = run(tiny, depth=depth, iterations=0)[3]
    assert len(sigmas) == depth + 1
    assert float(sigmas[0]) == pytest.approx(0.228 if depth == 1 else 0.990, rel=0.01)


def test_the_short_gradient_is_compared_with_the_full_one_first(run: Callable[..., Any], builtin: Parts, image: Any) -> None:
    import torch

    full, short = (run(builtin, depth=1, short_gradient=chosen)[0] for chosen in (False, True))
    assert not torch.equal(full, short)
    assert float((full - short).square().mean()) < 0.1 * float((full - image).square().mean())
    with pytest.raises(Exception, match="does not know the structure"):
        run(builtin, depth=1, short_gradient=True, structure_weight=1.0)


def test_the_recorder_sees_every_map_and_restores(core: Core, tiny: Parts) -> None:
    import torch

    models = core("nodes._host_model")
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))

    def job(model: Any) -> None:
        cond, x_ = model.empty, x.clone()
        plain = model.denoise(x_, 0.5, cond)
        with pytest.raises(KeyError), model.record():  # an exception restores, too
            raise KeyError
        with model.record() as recording, torch.enable_grad():
            recorded = model.denoise(x_.requires_grad_(), 0.5, cond)
            maps = recording.take()
            assert torch.equal(recorded, plain)
            assert len(maps) == 4
            for found in maps:
                assert found.shape[:2] == (2, 4)
                torch.testing.assert_close(found.sum(-1), torch.ones_like(found.sum(-1)))
            (gradient,) = torch.autograd.grad(sum(found.square().sum() for found in maps), x_)
            assert float(gradient.abs().max()) > 0
        assert torch.equal(model.denoise(x, 0.5, cond), plain)
        model.denoise(x, 0.5, cond)
        with pytest.raises(core("faceprivacy_core.errors").UnsupportedModelError, match="recorded no map"):
            recording.take()

    models.with_model(job, tiny.model, tiny.vae, tiny.positive, tiny.size, 2)


def test_a_checkpoint_runs_and_low_memory_changes_nothing(run: Callable[..., Any], tiny: Parts, image: Any) -> None:
    import torch

    options = {"structure_weight": 1.0, "iterations": 3}
    found, latent, *_ = run(tiny, **options)
    assert not torch.equal(found, image)
    assert bool(torch.isfinite(found).all())
    again = run(tiny, **options, memory="low")
    torch.testing.assert_close(again[1]["samples"], latent["samples"], rtol=0, atol=1e-3)


def test_the_pooled_part_of_sdxl_goes_along(run: Callable[..., Any], tiny: Parts, image: Any) -> None:
    import torch

    pooled = torch.randn(1, 1280, generator=torch.Generator().manual_seed(3))
    told = Parts(host_models.tiny_sdxl(), tiny.vae, host_models.condition(pooled_output=pooled), tiny.size)
    found, _, conditioning, *_ = run(told, learned_empty=True)
    assert not torch.equal(found, image)
    assert [entry[0].shape for entry in conditioning] == [(2, 7, host_models.CONTEXT)] * 3
    assert all(torch.equal(entry[1]["pooled_output"], pooled.expand(2, -1)) for entry in conditioning)
    ranges = [(entry[1]["start_percent"], entry[1]["end_percent"]) for entry in conditioning]
    assert ranges[0][0] == 0.0
    assert ranges[-1][1] == 1.0
    assert all(0.0 < later[0] - earlier[1] < 1e-5 for earlier, later in pairwise(ranges))


def test_cancel_keeps_the_best_only_if_asked(
    core: Core, run: Callable[..., Any], tiny: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = core("nodes._host_attack_view")

    def cancel(self: Any, report: Any) -> None:
        if report.iteration == 2:
            raise views.CANCEL

    shown: list[str] = []
    monkeypatch.setattr(views.AttackView, "_show", lambda self, text: shown.append(text))
    monkeypatch.setattr(views.AttackView, "watch", cancel)
    with pytest.raises(views.CANCEL):
        run(tiny, iterations=5)
    report = run(tiny, iterations=5, keep_best_on_cancel=True)[-1]
    assert "at most 2 iterations in 1 attempt, cancelled" in report
    assert shown == [f"{report}\ncancelled"]
    monkeypatch.undo()
    monkeypatch.setattr(views.AttackView, "_show", lambda self, text: shown.append(text))
    report = run(tiny, iterations=2)[-1]
    assert "iteration 2 of 2, " in shown[-2]
    assert shown[-1] == f"{report}\ndone"


def test_attempts_are_one_course_on_bar_and_plot(
    core: Core, run: Callable[..., Any], tiny: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    views, steps = core("nodes._host_attack_view"), []
    monkeypatch.setattr(views.AttackView, "step", lambda self, step, total, latents=None: steps.append((step, total)))
    report = run(tiny, iterations=2, attempts=2, fidelity=60.0)[-1]
    assert steps == [(step, 7) for step in range(1, 8)]
    assert "at most 4 iterations in 2 attempts." in report


def test_toward_a_target_the_similarities_are_to_it(run: Callable[..., Any], tiny: Parts, image: Any, portrait: Any) -> None:
    import torch

    recognizer = ProjectionRecognizer("c", 3)  # to whom they look different
    options = {"recognizers": (recognizer,), "target": portrait, "target_consents": True}
    found, *_, report = run(tiny, **options)
    assert not torch.equal(found, run(tiny, recognizers=(recognizer,))[0])
    whom, seen = (recognizer.embed(picture.movedim(-1, 1), None) for picture in (portrait, (found * 255).round() / 255))
    for face, similarity in enumerate((seen @ whom.T).flatten().tolist()):
        verdict = "protected" if similarity > 0.3 else "NOT protected"
        assert f"face {face}, picture {face}: c {similarity:.2f} (limit 0.30): {verdict}" in report


def test_with_the_originals_every_face_is_moved_toward_who_it_is_there(
    run: Callable[..., Any], tiny: Parts, image: Any
) -> None:
    import torch

    changed = (image + 0.15 * torch.linspace(-1, 1, WIDTH).view(1, 1, -1, 1)).clamp(0.0, 1.0)  # other looks
    options = {"image": changed, "original": image, "margin": 0.9, "fidelity": 26.0, "learning_rate": 0.1}
    recognizer = ProjectionRecognizer("a")
    found, *_, report = run(tiny, iterations=8, **options)
    before, after, wanted = (recognizer.embed(picture.movedim(-1, 1), None) for picture in (changed, found, image))
    assert bool(((after * wanted).sum(1) > (before * wanted).sum(1)).all())
    assert "2 of 2 faces known to a" in report
    assert "protected" not in report


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("small", "Expected originals of the shape of the pictures"),
        ("stranger", "which all recognisers take for another person than in the originals"),
        ("target", "Expected a target or the originals, got both"),
    ],
)
def test_originals_that_do_not_fit_are_told(
    core: Core, run: Callable[..., Any], tiny: Parts, image: Any, portrait: Any, given: str, text: str
) -> None:
    recognizer = ProjectionRecognizer("c", 3)
    options: dict[str, Any] = {"original": image, "recognizers": (recognizer,)}
    if given == "small":
        options["original"] = image[:, :-4]
    elif given == "stranger":
        options["image"] = 1.0 - image
    else:
        options |= {"target": portrait, "target_consents": True}
    with pytest.raises(core("faceprivacy_core.errors").InputError, match=text):
        run(tiny, **options)


@pytest.mark.weights
def test_the_perceptual_weight_holds_the_looks(core: Core, run: Callable[..., Any], tiny: Parts, image: Any) -> None:
    free, held = (run(tiny, fidelity=0.0, iterations=3, perceptual_weight=weight)[0] for weight in (0.0, 50.0))
    assert float((held - image).abs().mean()) < float((free - image).abs().mean())


@pytest.mark.parametrize(
    ("target", "consents", "kind", "text"),
    [
        ("portrait", False, "InputError", "Expected an acknowledgement that the target person consents"),
        ("two_people", True, "InputError", "Expected one target picture with one face, got 2 faces in 1 pictures"),
        ("blank", True, "NoFaceError", "Expected one face in the target picture, found none"),
        ("itself", True, "InputError", "Expected a target picture of another person"),
    ],
)
def test_a_target_that_does_not_fit_is_told(
    core: Core, run: Callable[..., Any], tiny: Parts, portrait: Any, target: str, consents: bool, kind: str, text: str
) -> None:
    import torch

    given = {
        "portrait": lambda: portrait,
        "two_people": lambda: _picture("two_people.jpg"),
        "blank": lambda: torch.full((1, 200, 200, 3), 0.5),
        "itself": lambda: portrait,
    }[target]()
    options: dict[str, Any] = {}
    if target == "itself":
        found = core("faceprivacy_core.faces.select").detect_faces(
            [(portrait[0] * 255).round().to(torch.uint8).numpy()],
            core("faceprivacy_core.faces.detect").load_detector(),
            core("faceprivacy_core.faces.select").Selection(),
        )
        options = {"image": portrait, "faces": found}
    with pytest.raises(getattr(core("faceprivacy_core.errors"), kind)) as caught:
        run(tiny, target=given, target_consents=consents, **options)
    assert text in str(caught.value)


def test_what_does_not_fit_is_told(core: Core, run: Callable[..., Any], tiny: Parts, builtin: Parts, image: Any) -> None:
    import torch

    errors, types = core("faceprivacy_core.errors"), core("faceprivacy_core.types")
    detached = tiny.model.clone()
    detached.set_model_unet_function_wrapper(lambda apply, args: apply(args["input"], args["timestep"], **args["c"]).detach())
    replaced = tiny.model.clone()
    attention = lambda q, k, v, _options: v  # noqa: E731
    for block, number in (("input", 3), ("middle", 0), ("output", 0), ("output", 1)):
        replaced.set_model_attn1_replace(attention, block, number)
    wide = host_models.taesd()
    wide.latent_channels = 16
    two = [*tiny.positive, *tiny.positive]
    for options, kind, text in (
        ({"faces": types.Faces((), 2, HEIGHT, WIDTH)}, errors.NoFaceError, "Expected at least one face to cloak, got none"),
        ({"recognizers": ()}, errors.InputError, "Expected at least one face recogniser, got none"),
        ({"recognizers": (BlindRecognizer("blind"),)}, errors.UnsupportedModelError, "got blind, which gives none"),
        ({"vae": wide}, errors.UnsupportedModelError, "Expected a VAE with 4 latent channels for this MODEL, got one with 16"),
        ({"model": detached}, errors.UnsupportedModelError, "Expected a MODEL that gradients pass through"),
        ({"model": replaced, "structure_weight": 1.0}, errors.UnsupportedModelError, "got one that recorded no map"),
        ({"positive": two}, errors.InputError, "Expected one empty condition"),
        ({"positive": []}, errors.InputError, "Expected one empty condition"),
        ({"positive": [[tiny.positive[0][0], {"mask": 1}]]}, errors.InputError, "got one with mask"),
        ({"size": 100}, errors.InputError, "Expected a crop size of at least 64 that is a multiple of 8, got 100"),
        ({"image": image[:1]}, errors.InputError, "Expected"),
        ({"image": torch.cat([image, image[..., :1]], -1)}, errors.InputError, "alpha"),
    ):
        with pytest.raises(kind) as caught:
            run(tiny, **options)
        assert text in str(caught.value), options
        assert torch.is_inference_mode_enabled()

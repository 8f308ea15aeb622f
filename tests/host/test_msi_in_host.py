"""MSI Inversion on the host's own classes at tiny size: conditions, errors, cancel and go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from devtools.paths import SAMPLE_PHOTO
from tests.support import graphs, host_models
from tests.support.host_models import Checkpoint
from tests.support.host_scenes import PORTRAIT, Core

pytestmark = pytest.mark.usefixtures("inside_the_host")

FAMILIES = ["sd1", "sd2", "sdxl"]


@pytest.fixture
def run(pack_nodes: dict[str, Any]) -> Callable[..., Any]:
    """Run the node on a checkpoint; return the inversion."""

    def execute(checkpoint: Checkpoint, **options: Any) -> Any:
        given = {
            "model": checkpoint.model, "vae": checkpoint.vae, "image": checkpoint.image, "clip": checkpoint.clip,
            "strategy": "stage tokens", "learn_steps": 2, "noise_map": False, "steps": 4, "iterations": 2,
        }  # fmt: skip
        return pack_nodes["FacePrivacy_MsiInversion"].execute(**{**given, **options}).args

    return execute


@pytest.mark.parametrize("family", FAMILIES)
def test_conditions_follow_from_the_tokens_and_begin_alike(
    core: Core, checkpoints: Callable[[str], Checkpoint], run: Callable[..., Any], family: str
) -> None:
    import torch

    checkpoint = checkpoints(family)
    inversion = run(checkpoint)[0]
    widths = {"sd1": ["l"], "sd2": ["h"], "sdxl": ["l", "g"]}[family]
    assert sorted(inversion.tokens) == sorted(widths)
    assert inversion.stages.shape == (10, 2, 77, sum(host_models.CLIP_WIDTHS[name] for name in widths))
    # The start of a text sees nothing of what follows it.
    torch.testing.assert_close(inversion.stages[:, :, 0], inversion.stages[:1, :1, 0].expand(10, 2, -1), rtol=0, atol=1e-6)
    assert float((inversion.stages[0, :, 1:] - inversion.stages[9, :, 1:]).abs().amax()) > 1e-4
    with torch.inference_mode(False):
        space = core("nodes._host_text").TextTokens(checkpoint.model, checkpoint.clip, trainable=False)
    again = core("nodes._host_tokens").stage_conditions(space, inversion.tokens)
    torch.testing.assert_close(again.stages, inversion.stages, rtol=0, atol=1e-5)
    if family != "sdxl":
        assert inversion.pooled is None
        assert inversion.empty_pooled is None
        return
    torch.testing.assert_close(again.pooled, inversion.pooled, rtol=0, atol=1e-5)
    assert inversion.pooled.shape == (10, 2, 48)
    assert inversion.empty_pooled.shape == (1, 48)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_stock_sampling_with_the_learned_stages_returns_to_the_picture(
    host_nodes: ModuleType,
    pack_nodes: dict[str, Any],
    checkpoints: Callable[[str], Checkpoint],
    run: Callable[..., Any],
    family: str,
) -> None:
    import torch

    checkpoint = checkpoints(family)
    checkpoint = replace(checkpoint, model=host_models.with_faint_output(checkpoint.model))
    inversion, noise, residual = run(checkpoint, noise_map=True, steps=5, iterations=4)
    positive, negative = pack_nodes["FacePrivacy_EmbeddingSchedule"].execute("recover", 400, inversion).args
    assert all(("pooled_output" in entry[1]) == (family == "sdxl") for entry in [*positive, *negative])
    (back,) = host_nodes.KSamplerAdvanced().sample(
        checkpoint.model, "disable", 0, 5, 1.0, "euler", "ddim_uniform", positive, negative, noise, 0, 10000, "disable"
    )
    latent = checkpoint.vae.encode(checkpoint.image)
    assert float((back["samples"] - latent).norm() / latent.norm()) < 0.01
    kept = inversion.noise
    assert kept.num_steps == 5
    assert kept.sigmas[-1] == 0.0
    scaled = checkpoint.model.get_model_object("latent_format").process_out(kept.latent * kept.sigmas[0])
    assert kept.residual == residual
    assert scaled.shape == noise["samples"].shape
    assert bool(torch.isfinite(scaled).all())


def test_learning_shows_the_held_out_loss_live(
    core: Core, checkpoints: Callable[[str], Checkpoint], run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    learning = core("nodes._host_learning")
    shown: list[tuple[int, int, Any]] = []
    sent: list[tuple[str, str]] = []

    class Bar:
        def __init__(self, total: int, node_id: str | None = None) -> None:
            pass

        def update_absolute(self, value: int, total: int, preview: Any = None) -> None:
            shown.append((value, total, preview))

    class Server:
        def send_progress_text(self, text: str, node_id: str) -> None:
            sent.append((text, node_id))

    monkeypatch.setattr(learning.comfy.utils, "ProgressBar", Bar)
    monkeypatch.setattr(learning.PromptServer, "instance", Server(), raising=False)
    view = learning.LearningView(3, "7")
    monkeypatch.setattr(learning, "LearningView", lambda total, node_id: view)
    run(checkpoints("sd1"), learn_steps=3)
    assert [(value, total) for value, total, _ in shown] == [(1, 3), (2, 3), (3, 3)]
    kind, picture, size = shown[0][2]
    assert (kind, picture.size, size) == ("JPEG", (512, 288), 512)
    assert shown[1][2] is None
    assert [node_id for _, node_id in sent] == ["7"] * 4
    assert sent[0][0].startswith("step 1 of 3, held-out loss ")
    assert "learning rate 0.005\n" in sent[0][0]  # of a text encoder, where the widget says 0
    assert sent[3][0] == sent[2][0] + "\ndone"
    assert len(sent[0][0].split("stages: ")[1].split()) == 10


@pytest.mark.parametrize(("family", "strategy"), [("sd1", "stage tokens"), ("sdxl", "stage tokens"), ("sd1", "msi")])
def test_a_cancelled_learning_goes_on_and_ends_at_the_same_result(
    core: Core,
    checkpoints: Callable[[str], Checkpoint],
    run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    strategy: str,
) -> None:
    import comfy.model_management
    import torch

    checkpoint, learning = checkpoints(family), core("nodes._host_learning")
    expected = run(checkpoint, learn_steps=3, strategy=strategy)[0]
    seen: list[int] = []
    show = learning.LearningView.__call__

    def cancel_after_the_second(self: Any, report: Any) -> None:
        seen.append(report.step)
        show(self, report)
        if len(seen) == 2:
            comfy.model_management.interrupt_current_processing()

    monkeypatch.setattr(learning.LearningView, "__call__", cancel_after_the_second)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        run(checkpoint, learn_steps=3, strategy=strategy)
    assert seen == [1, 2]
    again = run(checkpoint, learn_steps=3, strategy=strategy)[0]
    assert seen == [1, 2, 3]
    assert torch.equal(again.stages, expected.stages)
    run(checkpoint, learn_steps=3, strategy=strategy)
    assert seen == [1, 2, 3, 1, 2, 3]  # a finished learning leaves nothing to go on from


def test_another_picture_or_seed_does_not_go_on_from_a_cancelled_learning(
    core: Core, checkpoints: Callable[[str], Checkpoint], run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.model_management

    checkpoint, learning = checkpoints("sd1"), core("nodes._host_learning")
    seen: list[int] = []

    def cancel(self: Any, report: Any) -> None:
        seen.append(report.step)
        if len(seen) in (1, 2):
            raise comfy.model_management.InterruptProcessingException

    monkeypatch.setattr(learning.LearningView, "__call__", cancel)
    for options in ({}, {"seed": 5}):
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            run(checkpoint, learn_steps=2, **options)
    run(replace(checkpoint, image=1 - checkpoint.image), learn_steps=2, seed=5)
    assert seen == [1, 1, 1, 2]


def test_learning_goes_on_from_a_finished_inversion(checkpoints: Callable[[str], Checkpoint], run: Callable[..., Any]) -> None:
    import torch

    checkpoint = checkpoints("sd1")
    first = run(checkpoint)[0]
    same = run(checkpoint, resume=first, learn_steps=0)[0]
    assert torch.equal(same.stages, first.stages)
    further = run(checkpoint, resume=first, learn_steps=2, seed=3)[0]
    assert further.tokens["l"].offsets.shape == first.tokens["l"].offsets.shape
    assert not torch.equal(further.stages, first.stages)
    assert float((further.tokens["l"].offsets - first.tokens["l"].offsets).abs().max()) < 0.02  # two steps of 0.005


def test_the_models_of_the_host_are_left_as_they_were(
    checkpoints: Callable[[str], Checkpoint], run: Callable[..., Any]
) -> None:
    import comfy.model_management
    import torch

    checkpoint = checkpoints("sdxl")
    comfy.model_management.unload_all_models()  # takes patches of earlier tests out of the weights
    networks = [checkpoint.model.model, checkpoint.clip.cond_stage_model, checkpoint.vae.first_stage_model]
    before = [{name: weight.clone() for name, weight in network.state_dict().items()} for network in networks]
    wanted = [[parameter.requires_grad for parameter in network.parameters()] for network in networks]
    inversion = run(checkpoint)[0]
    assert wanted == [[parameter.requires_grad for parameter in network.parameters()] for network in networks]
    for network, weights in zip(networks, before, strict=True):
        assert all(torch.equal(weights[name], weight) for name, weight in network.state_dict().items())
        assert all(parameter.grad is None for parameter in network.parameters())
        assert not any(module._forward_pre_hooks for module in network.modules())
    assert not inversion.stages.requires_grad
    assert not any(entry.offsets.requires_grad for entry in inversion.tokens.values())
    assert torch.is_inference_mode_enabled()
    assert checkpoint.model.get_additional_models() == []


def _two_photos() -> Any:
    """The middles of two sample photos, (2, 64, 64, 3)."""
    import torch

    photos = [torch.from_numpy(graphs.sample(path)).float() / 255.0 for path in (PORTRAIT, SAMPLE_PHOTO)]
    middles = [photo[None, : min(photo.shape[:2]), : min(photo.shape[:2])].permute(0, 3, 1, 2) for photo in photos]
    small = [torch.nn.functional.interpolate(middle, (64, 64), mode="area") for middle in middles]
    return torch.cat(small).permute(0, 2, 3, 1)


@pytest.mark.parametrize("with_clip_vision", [False, True])
def test_msi_learns_from_a_real_picture(
    core: Core, checkpoints: Callable[[str], Checkpoint], run: Callable[..., Any], with_clip_vision: bool
) -> None:
    import torch

    checkpoint = replace(checkpoints("sd1"), image=_two_photos())
    vision = host_models.tiny_clip_vision() if with_clip_vision else None
    seen: list[Any] = []
    if vision is not None:
        hook = vision.model.vision_model.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    inversion = run(checkpoint, strategy="msi", clip_vision=vision, tokens_per_stage=3)[0]
    assert inversion.tokens["l"].offsets.shape == (10, 2, 3, 32)
    if vision is None:
        return
    hook.remove()
    (pixels,) = seen  # once for all faces and stages
    std, mean = (torch.tensor(values).view(3, 1, 1) for values in (vision.image_std, vision.image_mean))
    levels = ((pixels * std + mean) * 255).round()
    assert len(levels.unique()) >= 50
    assert float(levels.max() - levels.min()) >= 100
    features = core("nodes._host_vision").clip_vision_features(vision, checkpoint.image)
    assert [tuple(scale.shape) for scale in features] == [(2, 17, 32)] * 5
    first, second = features[-1].flatten(1)
    assert float(torch.cosine_similarity(first, second, dim=0)) < 0.999


def test_what_does_not_fit_is_told_apart(
    core: Core, pack_nodes: dict[str, Any], checkpoints: Callable[[str], Checkpoint], run: Callable[..., Any]
) -> None:
    sd1, sdxl = checkpoints("sd1"), checkpoints("sdxl")
    errors = core("faceprivacy_core.errors")
    first = run(sd1)[0]
    types = core("faceprivacy_core.types")
    one_crop, small_crops = (
        types.FaceCrops((None,) * count, types.Faces((), 1, 64, 64), size=size) for count, size in ((1, 64), (2, 32))
    )
    other_vae = host_models.autoencoder_kl()
    _, builtin_vae, encoder, _, _ = pack_nodes["FacePrivacy_LoadBuiltinFaceModel"].execute().args
    for options, text in (
        ({"clip": None}, "Expected the CLIP of the checkpoint, got none"),
        ({"clip": sdxl.clip}, "Expected the CLIP that belongs to the MODEL, whose conditions are 32 wide"),
        ({"strategy": "encoder"}, "Expected strategy stage tokens or msi for a checkpoint, got encoder"),
        ({"learn_steps": 0}, "Expected learn_steps above 0 for a checkpoint, got 0"),
        ({"tokens_per_stage": 76}, "Expected 1 to 75 tokens per stage, got 76"),
        ({"face_encoder": encoder}, "Expected no face encoder beside the VAE of a checkpoint"),
        ({"vae": builtin_vae}, "Expected the face encoder of the built-in face model, got none"),
        ({"resume": first, "image": sd1.image[:1]}, "Expected an inversion of 1 faces in 'resume', got one of 2"),
        ({"resume": first, "model": sdxl.model, "clip": sdxl.clip}, "Expected an inversion made with the connected model"),
        ({"resume": first, "strategy": "msi"}, "got msi, whose module is not kept in it"),
        ({"resume": replace(first, tokens={})}, "Expected an inversion that keeps its tokens in 'resume'"),
        ({"image": sd1.image[:, :, :56]}, "Expected square crops with a side that is a multiple of 8"),
        ({"image": None}, "Expected face crops, got nothing"),
        ({"crops": one_crop}, "Expected the placement of 2 crops, got that of 1"),
        ({"crops": small_crops}, "Expected crops of 32 pixels, as their placement says, got 64"),
        ({"resume": first, "vae": other_vae}, "Expected an inversion made with the connected model"),
    ):
        with pytest.raises(errors.InputError) as caught:
            run(sd1, **options)
        assert text in str(caught.value)


def test_the_encoder_of_the_builtin_model_is_refined_from_its_own_tokens(
    core: Core, pack_nodes: dict[str, Any], checkpoints: Callable[[str], Checkpoint]
) -> None:
    import torch

    model, vae, encoder, size, _ = pack_nodes["FacePrivacy_LoadBuiltinFaceModel"].execute().args
    image = torch.nn.functional.interpolate(checkpoints("sd1").image[:1].movedim(-1, 1), size=(size, size)).movedim(1, -1)
    node = pack_nodes["FacePrivacy_MsiInversion"]
    given = {"model": model, "vae": vae, "face_encoder": encoder, "image": image, "noise_map": False}
    plain = node.execute(**given).args[0]
    assert plain.num_stages == 1
    refined = node.execute(**given, learn_steps=1).args[0]
    tokens = refined.tokens["unet"]
    assert tokens.offsets.shape == (10, 1, 1, 768)
    moved = (tokens.base - plain.tokens["unet"].base).abs().max()
    assert 0.0 < float(moved) < 0.055
    assert torch.equal(refined.stages, tokens.stacked())
    assert 0.0 < float(tokens.offsets.abs().max()) < 0.051  # one step of 0.05 at most
    assert 2 * (tokens.offsets.numel() + tokens.base.numel() + 4 * (size // 8) ** 2) <= 64 * 1024


def test_old_calls_and_workflows_still_fit(pack_nodes: dict[str, Any]) -> None:
    schema = pack_nodes["FacePrivacy_MsiInversion"].define_schema()
    names = [entry.id for entry in schema.inputs]
    assert names[:7] == ["model", "vae", "face_encoder", "image", "noise_map", "steps", "iterations"]
    assert names[7:] == [
        "clip", "clip_vision", "crops", "resume", "strategy", "learn_steps", "tokens_per_stage", "learning_rate", "seed",
    ]  # fmt: skip
    assert all(entry.optional for entry in schema.inputs[7:])
    assert schema.inputs[2].optional
    assert schema.inputs[-1].as_dict()["control_after_generate"] is False

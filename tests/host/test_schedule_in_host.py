"""Embedding Schedule inside the host: one embedding acts at every noise level, and ranges that leave a doubt are refused."""

from __future__ import annotations

from typing import Any

import pytest

from devtools.client import ComfyClient
from devtools.server import ComfyServer
from devtools.workflow import Prompt
from tests.support import graphs, host_runs
from tests.support.host_scenes import Core, Scene

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("inside_the_host")]

SCHEDULE = "FacePrivacy_EmbeddingSchedule"
STAGES = 10


def _active(scene: Scene, conditioning: list[Any], sigmas: list[float]) -> list[list[int]]:
    """Return which entries the host uses at each noise level, by its own rule."""
    import comfy.sampler_helpers
    import comfy.samplers
    import torch

    latent = scene.model.get_model_object("latent_format")
    sides = (side // latent.spacial_downscale_ratio for side in scene.image.shape[1:3])
    noise = torch.zeros(1, latent.latent_channels, *sides)
    marked = [[tokens, {**options, "faceprivacy_test_index": i}] for i, (tokens, options) in enumerate(conditioning)]
    conds = {"positive": comfy.sampler_helpers.convert_cond(marked)}
    processed = comfy.samplers.process_conds(scene.model.model, noise, conds, noise.device, noise)["positive"]
    assert len(processed) == len(conditioning)
    return [
        [
            cond["faceprivacy_test_index"]
            for cond in processed
            if comfy.samplers.get_area_and_mult(cond, noise, torch.full((1,), sigma)) is not None
        ]
        for sigma in sigmas
    ]


def _levels(scene: Scene) -> list[float]:
    sigmas = scene.model.get_model_object("model_sampling").sigmas.tolist()
    assert len(sigmas) == 1000
    return sigmas


def _inversion(core: Core, scene: Scene, stages: int) -> Any:
    import torch

    empty = scene.encoder.empty_tokens()
    tokens = torch.randn(stages, 1, *empty.shape[1:])
    embeddings = core("faceprivacy_core.embeddings.inversion")
    return embeddings.FaceInversion(tokens, empty, embeddings.ModelIdentity("test"))


def _wrong_timesteps(scene: Scene, positive: list[Any], schedule: Any, inversion: Any, image: Any) -> list[int]:
    """Return the timesteps at which not exactly the embedding of the schedule acts."""
    import torch

    wrong = []
    for timestep, entries in enumerate(_active(scene, positive, _levels(scene))):
        is_image = schedule.source_at(timestep) is image
        expected = inversion.embedding_at(timestep) if is_image else inversion.empty
        if len(entries) != 1 or not torch.equal(positive[entries[0]][0], expected):
            wrong.append(timestep)
    return wrong


@pytest.mark.parametrize("stages", [1, STAGES])
@pytest.mark.parametrize(
    ("preset", "switch"),
    [
        ("recover", 400),
        *(("anonymise", switch) for switch in (1, 2, 100, 333, 400, 401, 599, 700, 998, 999)),
        *(("hide", switch) for switch in (1, 400, 600, 800, 999)),
    ],
)
def test_exactly_one_embedding_acts_at_every_noise_level_and_it_is_the_right_one(
    pack_nodes: dict[str, Any], core: Core, scene: Scene, preset: str, switch: int, stages: int
) -> None:
    rules = core("faceprivacy_core.embeddings.schedule")
    inversion = _inversion(core, scene, stages)
    positive, _ = pack_nodes[SCHEDULE].execute(preset, switch, inversion).args
    presets = {"anonymise": rules.anonymise_schedule, "hide": rules.hide_schedule}
    schedule = presets[preset](switch) if preset in presets else rules.recover_schedule()
    assert _wrong_timesteps(scene, positive, schedule, inversion, rules.Source.IMAGE) == []


@pytest.mark.parametrize(("preset", "switch"), [("anonymise", 400), ("hide", 600)])
def test_switch_0_is_the_presets_own(pack_nodes: dict[str, Any], core: Core, scene: Scene, preset: str, switch: int) -> None:
    rules = core("faceprivacy_core.embeddings.schedule")
    inversion = _inversion(core, scene, STAGES)
    positive, _ = pack_nodes[SCHEDULE].execute(preset, 0, inversion).args
    make = rules.anonymise_schedule if preset == "anonymise" else rules.hide_schedule
    assert _wrong_timesteps(scene, positive, make(switch), inversion, rules.Source.IMAGE) == []


@pytest.mark.parametrize("stages", [1, STAGES])
@pytest.mark.parametrize(
    "ranges",
    [
        "1000-400 image, 400-0 empty",
        "1000-999 empty, 999-1 image, 1-0 empty",
        "1000-600 IMAGE; 600-350.5 empty\n350.5 - 0 image,",
        ", ".join(f"{high}-{high - 40} {'empty' if high % 80 else 'image'}" for high in range(1000, 0, -40)),
    ],
)
def test_custom_ranges_act_where_they_say_however_many_stages_there_are(
    pack_nodes: dict[str, Any], core: Core, scene: Scene, ranges: str, stages: int
) -> None:
    rules = core("faceprivacy_core.embeddings.schedule")
    inversion = _inversion(core, scene, stages)
    positive, _ = pack_nodes[SCHEDULE].execute("custom", 0, inversion, ranges=ranges).args
    schedule = rules.parse_schedule(ranges)
    assert _wrong_timesteps(scene, positive, schedule, inversion, rules.Source.IMAGE) == []


def test_no_switch_leaves_a_noise_level_beside_it_without_an_embedding(
    pack_nodes: dict[str, Any], core: Core, scene: Scene
) -> None:
    levels, inversion = _levels(scene), _inversion(core, scene, 1)
    node, wrong = pack_nodes[SCHEDULE], []
    for switch in range(1, 1000):
        positive, _ = node.execute("anonymise", switch, inversion).args
        last = [[0]] if switch < 999 else []
        if _active(scene, positive, levels[switch - 1 : switch + 2]) != [[1], [0], *last]:
            wrong.append(switch)
    assert wrong == []


@pytest.mark.parametrize("switch", [1, 400, 999])
def test_exactly_one_of_two_prompts_acts_at_every_noise_level(pack_nodes: dict[str, Any], scene: Scene, switch: int) -> None:
    empty = scene.encoder.empty_tokens()
    positive, _ = pack_nodes[SCHEDULE].execute("anonymise", switch, None, [[empty + 1.0, {}]], [[empty, {}]]).args
    found = _active(scene, positive, _levels(scene))
    assert found == [[1]] * switch + [[0]] * (1000 - switch)


@pytest.mark.parametrize("scheduler", ["karras", "exponential", "normal", "simple", "sgm_uniform", "beta"])
def test_exactly_one_embedding_acts_on_the_levels_of_every_scheduler(
    pack_nodes: dict[str, Any], core: Core, scene: Scene, scheduler: str
) -> None:
    import comfy.samplers

    inversion = _inversion(core, scene, STAGES)
    positive, _ = pack_nodes[SCHEDULE].execute("anonymise", 400, inversion).args
    sampling = scene.model.get_model_object("model_sampling")
    levels = [
        level
        for steps in (4, 10, 20, 30, 50)
        for level in comfy.samplers.calculate_sigmas(sampling, scheduler, steps).tolist()
        if level > 0
    ]
    assert len(levels) > 100
    found = _active(scene, positive, levels)
    assert [(level, entries) for level, entries in zip(levels, found, strict=True) if len(entries) != 1] == []


# The running host


@pytest.fixture
def prompt(object_info: dict[str, Any]) -> Prompt:
    """Sample with two conditions under custom ranges, and save the picture."""
    made: Prompt = {}
    loaded = graphs.add(made, "FacePrivacy_LoadBuiltinFaceModel")
    scheduled = graphs.add(
        made, SCHEDULE, preset="custom", switch=0, image_conditioning=[loaded, 4], empty_conditioning=[loaded, 4],
        ranges="1000-400 image, 400-0 empty",
    )  # fmt: skip
    latent = graphs.add(made, "EmptyLatentImage", width=256, height=256, batch_size=1)
    sampled = graphs.add(
        made, "KSampler", model=[loaded, 0], positive=[scheduled, 0], negative=[scheduled, 1], latent_image=[latent, 0],
        seed=1, steps=2, cfg=1.0, sampler_name="euler", scheduler="ddim_uniform", denoise=1.0,
    )  # fmt: skip
    decoded = graphs.add(made, "VAEDecode", samples=[sampled, 0], vae=[loaded, 1])
    graphs.add(made, "SaveImage", images=[decoded, 0], filename_prefix="ranges")
    return made


def test_sound_ranges_are_sampled_with(client: ComfyClient, prompt: Prompt) -> None:
    (picture,) = graphs.run(client, prompt).pictures
    assert picture.std() > 5.0


@pytest.mark.parametrize(
    ("ranges", "expected", "came"),
    [
        ("", "Expected ranges from 1000 down to 0, such as '1000-400 image, 400-0 empty'", "got ''"),
        ("1000-400 image 400-0 empty", "Expected ranges like '1000-600 image' or '600-0 empty'", "got '1000-400 image 400-0"),
        ("1000-0 face", "Expected ranges like '1000-600 image' or '600-0 empty'", "got '1000-0 face'"),
        ("1000-500 image, 400-0 empty", "Expected rules without gap or overlap", "got 500.0 above 400.0"),
        ("1000-300 image, 400-0 empty", "Expected rules without gap or overlap", "got 300.0 above 400.0"),
        ("0-400 empty, 400-1000 image", "Expected ranges from 1000 down to 0", "got '0-400 empty, 400-1000 image'"),
        ("1200-0 image", "Expected ranges from 1000 down to 0", "got '1200-0 image'"),
        ("1000-1200 image, 1200-0 empty", "Expected 0 <= low < high <= 1000", "got low 1200.0, high 1000.0"),
        ("1000-400 image, 400--5 empty", "Expected ranges like", "got '400--5 empty'"),
    ],
)
def test_ranges_that_leave_a_doubt_are_refused(
    server: ComfyServer, client: ComfyClient, prompt: Prompt, ranges: str, expected: str, came: str
) -> None:
    graphs.inputs(prompt, SCHEDULE).update(ranges=ranges)
    failure = host_runs.failure(client, server.base, prompt)
    assert (failure.node, failure.kind) == (SCHEDULE, "InputError")
    assert expected in failure.message
    assert came in failure.message


def test_one_condition_alone_is_refused_with_what_to_connect(server: ComfyServer, client: ComfyClient, prompt: Prompt) -> None:
    del graphs.inputs(prompt, SCHEDULE)["empty_conditioning"]
    failure = host_runs.failure(client, server.base, prompt)
    assert (failure.node, failure.kind) == (SCHEDULE, "InputError")
    assert "Expected either an inversion, or both image_conditioning and empty_conditioning" in failure.message
    assert "Connect MSI Inversion" in failure.message

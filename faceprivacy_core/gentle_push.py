"""Lead drawn faces away from the person, by as little as recognisers want and people hardly see.

A donor in the person's place keeps hair, outline and pose, in which recognisers often find a likeness that people do not.
What is drawn is encoded, its latent moved a little against the surrogates, and of what that changes in the decoded crop no
more is added than brings them below their thresholds.

Source: Enhancing Facial Privacy Protection via Weakening Diffusion Purification (2025, arXiv 2503.10350), adversarial
    latent code.
Deviations: it changes a face of nobody instead of the person's; one shallow level, the empty condition, no structure loss;
    a hinge ends it where strangers are, and the change is made as small as that allows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .adversarial.attack import AttackSettings, attack_latents
from .adversarial.goals import Dodge
from .adversarial.levels import GRID_SIGMAS, choose_levels, invert_to_levels
from .adversarial.objective import Objective, Scene, Weights
from .adversarial.sight import Identities, thresholds
from .adversarial.unconditional import EmptyCondition, EmptySettings, find_empty_conditions
from .diffusion.model import Capability, LatentModel
from .donors import Person, take_person
from .faces.sight import embed_all

MARGIN = 0.15
"""How far below the similarity at which 1 in 100 strangers is taken for the person a face is led: about where strangers are."""
FIDELITY = 37.0
"""Least PSNR of what is searched, in decibels over the crop; what is kept changes less."""
ATTACK = AttackSettings(iterations=8, learning_rate=0.5)
COLOUR = 0.3
"""Share of the change of colour that is taken; see `adversarial.objective.weaken_colour`."""
HALVINGS = 5
"""Steps in which the least change that is enough is looked for."""


def push_gently(pictures: Tensor, mask: Tensor, person: Person, model: LatentModel, seeds: Sequence[int]) -> Tensor:
    """Say what to add to pictures so that no recogniser takes them for the person.

    Args:
        pictures: (V * N, 3, S, S) in [0, 1], variant by variant, drawn faces in the places of the person's.
        mask: (N, 1, S, S) in [0, 1], how much of the change will be taken.
        person: The N faces, and the recognisers who look.
        model: That can be differentiated.
        seeds: One for each picture.

    Returns:
        (V * N, 3, S, S), on the pictures' device; 0 for those that nobody takes for the person. Where the recognisers cannot be
        led so far it is what leads them farthest.
    """
    pushed = []  # one after the other: each takes 200 MB
    for index, (picture, seed) in enumerate(zip(pictures, seeds, strict=True)):
        face = index % len(mask)
        pushed.append(_push(picture[None], mask[[face]], take_person(person, [face]), model, seed))
    return torch.cat(pushed)


def _push(picture: Tensor, mask: Tensor, person: Person, model: LatentModel, seed: int) -> Tensor:
    """Say what to add to one picture (1, 3, S, S)."""
    device = model.device
    masks, landmarks = mask.to(device), person.landmarks5.to(device)
    sources = Identities(tuple(part.to(device) for part in person.vectors))
    goal = Dodge(sources, thresholds(person.recognizers), MARGIN)
    shown = picture.detach().to(device, torch.float32).clone()

    def reached(image: Tensor) -> bool:
        with torch.no_grad():
            seen = embed_all(person.recognizers, image.clamp(0.0, 1.0), landmarks)
            return bool(goal.is_reached(seen, torch.zeros(1, dtype=torch.long, device=device)))

    if reached(shown):
        return torch.zeros_like(picture)
    levels = choose_levels(model.schedule, GRID_SIGMAS[:1])
    with torch.no_grad():
        trajectory = invert_to_levels(model.denoise, model.encode(shown).float(), levels, model.empty)
        empty = find_empty_conditions(model, trajectory, levels, EmptySettings(EmptyCondition.FIXED))
    scene = Scene(shown, masks, landmarks, [seed])
    with Objective(
        model, levels, trajectory[-1], empty, scene, person.recognizers, goal, Weights(1.0, 0.0), colour=COLOUR,
        budget=10.0 ** (-FIDELITY / 10.0), truncated=Capability.SHORT_CUT in model.capabilities,
    ) as objective:  # fmt: skip
        residuals = attack_latents(objective, ATTACK).residuals
    least, enough = 0.0, 1.0
    for _ in range(HALVINGS):
        half = (least + enough) / 2.0
        least, enough = (least, half) if reached(shown + half * masks * residuals) else (half, enough)
    return (enough * residuals).to(picture)

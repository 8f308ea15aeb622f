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
from .donors import Person
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
    rounds = len(pictures) // len(mask)
    device = model.device
    masks = mask.to(device).repeat(rounds, 1, 1, 1)
    landmarks = person.landmarks5.to(device).repeat(rounds, 1, 1)
    sources = Identities(tuple(part.to(device).repeat(rounds, 1) for part in person.vectors))
    goal = Dodge(sources, thresholds(person.recognizers), MARGIN)
    shown = pictures.detach().to(device, torch.float32).clone()

    def reached(images: Tensor) -> Tensor:
        with torch.no_grad():
            return goal.is_reached(embed_all(person.recognizers, images, landmarks), torch.arange(len(images), device=device))

    known = (~reached(shown)).nonzero().flatten().tolist()
    if not known:
        return torch.zeros_like(pictures)
    levels = choose_levels(model.schedule, GRID_SIGMAS[:1])
    with torch.no_grad():
        trajectory = invert_to_levels(model.denoise, model.encode(shown).float(), levels, model.empty)
        empty = find_empty_conditions(model, trajectory, levels, EmptySettings(EmptyCondition.FIXED))
    scene = Scene(shown, masks, landmarks, seeds)
    with Objective(
        model, levels, trajectory[-1], empty, scene, person.recognizers, goal, Weights(1.0, 0.0), colour=COLOUR,
        budget=10.0 ** (-FIDELITY / 10.0), truncated=Capability.SHORT_CUT in model.capabilities,
    ) as objective:  # fmt: skip
        residuals = attack_latents(objective, ATTACK, faces=known).residuals
    least, enough = torch.zeros(len(shown), device=device), torch.ones(len(shown), device=device)
    for _ in range(HALVINGS):
        half = (least + enough) / 2.0
        there = reached((shown + half.view(-1, 1, 1, 1) * masks * residuals).clamp(0.0, 1.0)).to(device)
        least, enough = torch.where(there, least, half), torch.where(there, half, enough)
    return (enough.view(-1, 1, 1, 1) * residuals).to(pictures)

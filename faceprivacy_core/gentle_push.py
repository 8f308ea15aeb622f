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

import torch
from torch import Tensor

from .adversarial.attack import AttackSettings, attack_latents
from .adversarial.goals import Dodge
from .adversarial.levels import GRID_SIGMAS, choose_levels, invert_to_levels
from .adversarial.objective import Objective, Scene, Weights
from .adversarial.sight import Identities, thresholds
from .adversarial.unconditional import EmptyCondition, EmptySettings, find_empty_conditions
from .candidates import judge
from .diffusion.model import Capability, LatentModel
from .donors import Person, fill_in
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


def lead_away(drawn: Tensor, person: Person, mask: Tensor, model: LatentModel, seed: int) -> Tensor | None:
    """Return a drawn face (3, S, S) led away from one person; None where a recogniser still takes it for them.

    Args:
        drawn: In [0, 1], in the person's place.
        person, mask, model, seed: See `push_gently`.
    """
    shown = fill_in(person.crops, mask, drawn[None])
    led = (drawn + push_gently(shown, mask, person, model, seed)[0]).clamp(0.0, 1.0)
    verdict = judge(fill_in(person.crops, mask, led[None]), person.landmarks5, person.vectors, person.recognizers, None)
    return led if bool(verdict.passed[0]) else None


def push_gently(picture: Tensor, mask: Tensor, person: Person, model: LatentModel, seed: int) -> Tensor:
    """Say what to add to a picture so that no recogniser takes it for the person; 200 MB for the time being.

    Args:
        picture: (1, 3, S, S) in [0, 1], a drawn face in the place of the person's.
        mask: (1, 1, S, S) in [0, 1], how much of the change will be taken.
        person: One face, and the recognisers who look.
        model: That can be differentiated.
        seed: Of the first push.

    Returns:
        (1, 3, S, S), on the picture's device; 0 where nobody takes it for the person. Where the recognisers cannot be led so
        far it is what leads them farthest.
    """
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

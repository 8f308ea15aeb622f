"""The model is told the embedding of the stage, for as many faces as there are."""

import pytest
import torch

from faceprivacy_core.diffusion.model import Condition
from faceprivacy_core.diffusion.schedules import NoiseSchedule
from faceprivacy_core.embeddings.inversion import FaceInversion, ModelIdentity
from faceprivacy_core.embeddings.schedule import recover_schedule
from faceprivacy_core.embeddings.scheduled import ScheduledDenoiser
from faceprivacy_core.errors import InputError


def test_variants_get_their_faces_embedding_and_other_batches_are_refused():
    told = []

    def model(x: torch.Tensor, sigma: float, cond: Condition) -> torch.Tensor:
        told.append(cond)
        return x

    stages = torch.arange(20.0).view(10, 2, 1, 1)
    pooled = 100.0 + torch.arange(20.0).view(10, 2, 1)
    inversion = FaceInversion(stages, torch.zeros(1, 1, 1), ModelIdentity("test"), pooled, torch.zeros(1, 1))
    schedule = NoiseSchedule.scaled_linear()
    denoiser = ScheduledDenoiser(model, schedule, inversion, recover_schedule())
    denoiser(torch.zeros(4, 4, 2, 2), float(schedule.sigmas[-1]))
    assert told[0].tokens.flatten().tolist() == [18.0, 19.0, 18.0, 19.0]
    assert told[0].pooled.flatten().tolist() == [118.0, 119.0, 118.0, 119.0]
    with pytest.raises(InputError, match="latents of the 2 faces of the inversion, or several of each, got 3"):
        denoiser(torch.zeros(3, 4, 2, 2), 1.0)
    assert len(told) == 1

"""From an attacked latent to what it costs: the way down, the picture, and who is seen in it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..diffusion.attention import Recording
from ..diffusion.model import LatentModel
from ..errors import InputError
from ..faces.sight import embed_all
from ..protocols import FaceRecognizer, PerceptualNetwork
from .goals import Goal
from .immediate import differentiated_now
from .levels import Levels
from .reverse import ALIGNED, check_shift, reverse_step
from .structure import structure_distance
from .transforms import TransformSettings, transform_copy
from .unconditional import EmptyConditions

LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Weights:
    """How much each part of the loss counts; they add up.

    Attributes:
        attack: Of the goal. 0.003 is the released value, with the sum over recognisers.
        structure: Of the change of self-attention.
        change: Of the mean squared change of the picture under the mask, values in [0, 1].
        perceptual: Of the perceptual distance.

    Raises:
        InputError: A weight is negative, or the goal does not count.
    """

    attack: float = 0.003
    structure: float = 1.0
    change: float = 0.0
    perceptual: float = 0.0

    def __post_init__(self) -> None:
        if not self.attack > 0.0 or min(self.structure, self.change, self.perceptual) < 0.0:
            raise InputError(f"Expected an attack weight above 0 and no weight below 0, got {self}.")


@dataclass(frozen=True, eq=False)
class Scene:
    """The faces that are attacked, seen at the size recognisers shall see them.

    Attributes:
        originals: (N, 3, V, V) crops in [0, 1].
        mask: (N, 1, V, V) in [0, 1], how much of the change is taken.
        landmarks5: (N, 5, 2) in their pixels.
        seeds: One for each face.
    """

    originals: Tensor
    mask: Tensor
    landmarks5: Tensor
    seeds: Sequence[int]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What some latents (n, C, h, w) lead to.

    Attributes:
        total: (n,) weighted loss.
        attack, structure, change: (n,) its parts, not weighted.
        similarities: (n, M) of the plain picture, as the goal counts them.
        is_reached: (n,) whether the plain picture and its changed copies all reach the goal.
        residuals: (n, 3, V, V) decoded attacked minus decoded reference, within the budget, before the mask.
        shares: (n,) factor that brought the change within the budget, above 0; 1 where it was not too large.
    """

    total: Tensor
    attack: Tensor
    structure: Tensor
    change: Tensor
    similarities: Tensor
    is_reached: Tensor
    residuals: Tensor
    shares: Tensor


class Objective:
    """The loss of attacked latents; a context, because it records attention while it is open.

    The reference run is made once, on opening. Recognisers see the original with the change pasted
    in, x + mask (D(z_adv) - D(z_ref)), so an attack of zero is the original.

    Args:
        model: The frozen model.
        levels: Noise levels.
        reference: (N, C, h, w) latents at the deepest level.
        conditions: What the model is told on the way down.
        scene: The faces.
        recognizers: Differentiable.
        goal: What they shall see.
        weights: Of the parts of the loss.
        transforms: Changes to survive, on copies that make the attack loss; None is the plain picture only.
        perceptual: Needed when its weight is above 0.
        budget: Largest mean squared change of a crop, values in [0, 1]; see `budget_shares`. None is no limit.
        colour: Share of the change of colour that is taken, in [0, 1]; see `weaken_colour`.
        shift: See `reverse_step`.
        truncated: Differentiate as if the predicted noise did not depend on the latent. The structure
            then counts in the loss but gives no gradient.
        checkpointed: Keep only the latents between the steps for the gradient.

    Raises:
        InputError: The perceptual network is missing.
        UnsupportedModelError: Structure counts and no attention was recorded.

    Source: arXiv 2503.10350, adversarial latent optimisation and structure preservation.
    Deviations: one row instead of four, reference run cached; the change is pasted, kept within a budget;
        copies of it.
    Laws: test_the_lean_objective_equals_the_four_row_one, test_checkpointing_changes_no_gradient.
    """

    def __init__(
        self,
        model: LatentModel,
        levels: Levels,
        reference: Tensor,
        conditions: EmptyConditions,
        scene: Scene,
        recognizers: Sequence[FaceRecognizer],
        goal: Goal,
        weights: Weights,
        *,
        transforms: TransformSettings | None = None,
        perceptual: PerceptualNetwork | None = None,
        budget: float | None = None,
        colour: float = 1.0,
        shift: int = ALIGNED,
        truncated: bool = False,
        checkpointed: bool = False,
    ) -> None:
        check_shift(shift)
        if budget is not None and not budget > 0.0:
            raise InputError(f"Expected a budget of change above 0, got {budget}. Leave it out for no limit.")
        if weights.perceptual > 0.0 and perceptual is None:
            raise InputError("Expected a perceptual network, because its weight is above 0. Pass one, or set the weight to 0.")
        self.model, self.levels, self.reference, self.conditions = model, levels, reference, conditions
        self.scene, self.recognizers, self.goal, self.weights = scene, tuple(recognizers), goal, weights
        self.transforms, self.perceptual, self.budget, self.colour = transforms, perceptual, budget, colour
        self.shift, self.truncated, self.checkpointed = shift, truncated, checkpointed
        self._maps: dict[int, tuple[Tensor, ...]] = {}
        self._reference_maps: dict[int, list[tuple[Tensor, ...]]] | None = None
        self._context: AbstractContextManager[Recording | None] | None = None
        self._recording: Recording | None = None

    def __enter__(self) -> Objective:
        self._context = self.model.record() if self.weights.structure > 0.0 else nullcontext()
        self._recording = self._context.__enter__()
        try:
            self._run_reference()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._context is not None:
            self._context.__exit__(kind, error, trace)
        self._context, self._recording, self._maps = None, None, {}

    def __call__(self, latents: Tensor, faces: Tensor, number: int = 0) -> Outcome:
        """Judge latents at the deepest level.

        Args:
            latents: (n, C, h, w); gradients pass to them.
            faces: (n,) which faces they are of.
            number: Of the iteration; draws the changes of the copies.
        """
        scene, goal = self.scene, self.goal
        clean, structure = self.run(latents, faces)
        originals, mask = scene.originals[faces], scene.mask[faces]
        residuals = self.residuals(clean, faces)
        shares = budget_shares(residuals, mask, self.budget)
        residuals = residuals * shares.view(-1, 1, 1, 1)
        changed = (originals + mask * residuals).clamp(0.0, 1.0)
        attack, seen = self._attack(changed, faces, number)
        reached = torch.stack([goal.is_reached(vectors, faces) for vectors in seen]).all(dim=0)
        change = _mean_under(mask, (changed - originals).pow(2))
        total = self.weights.attack * attack + self.weights.structure * structure + self.weights.change * change
        if self.perceptual is not None and self.weights.perceptual > 0.0:
            distance = self.perceptual.compute_differentiable
            looks = differentiated_now(lambda image: distance(image, originals, mask).to(image), changed)
            total = total + self.weights.perceptual * looks
        similarities = goal.similarities(seen[0], faces)
        return Outcome(total, attack, structure, change, similarities, reached, residuals, shares.detach())

    def _attack(self, changed: Tensor, faces: Tensor, number: int) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """Show recognisers the picture, then its copies; return the loss (n,) and what they take each for.

        Where there are copies, they alone make the loss: the plain picture is judged, and pushes nothing.
        """
        seeds, points = [self.scene.seeds[face] for face in faces.tolist()], self.scene.landmarks5[faces]
        copies = self.transforms.copies if self.transforms else 0
        seen = []

        def look(image: Tensor, copy: int | None) -> Tensor:
            if copy is not None and self.transforms is not None:
                image = transform_copy(image, seeds, number * copies + copy, self.transforms)
            vectors = embed_all(self.recognizers, image, points)
            seen.append(tuple(vector.detach() for vector in vectors))
            return self.goal.loss(vectors, faces)

        if copies == 0:
            return differentiated_now(partial(look, copy=None), changed), seen
        with torch.no_grad():
            look(changed.detach(), None)
        losses = [differentiated_now(partial(look, copy=copy), changed) for copy in range(copies)]
        return torch.stack(losses).mean(dim=0), seen

    def relax(self, factor: float) -> None:
        """From now on, count the change less: its weight times this factor, its budget divided by it."""
        self.weights = replace(self.weights, change=self.weights.change * factor)
        self.budget = None if self.budget is None else self.budget / factor

    def run(self, latents: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Go down all levels; return the clean latents (n, C, h, w) and the structure's change (n,)."""
        x, structure = latents, latents.new_zeros(len(latents), dtype=torch.float32)
        for k in range(len(self.levels), 0, -1):
            step = partial(self._step, k=k, faces=faces)
            if self.checkpointed and torch.is_grad_enabled():
                x, term = checkpoint(step, x, use_reentrant=False, preserve_rng_state=False)
            else:
                x, term = step(x)
            structure = structure + term
        return x, structure

    def residuals(self, clean: Tensor, faces: Tensor) -> Tensor:
        """Decode clean latents and return what is taken of their difference to the reference, (n, 3, V, V)."""
        change = weaken_colour(self._decode(clean) - self.reference_decoded[faces], self.colour)
        return enlarge(change, self.scene.originals.shape[-1])

    def _step(self, x: Tensor, k: int, faces: Tensor) -> tuple[Tensor, Tensor]:
        if self._recording is not None:
            self._recording.clear()
        cond = self.model.empty.telling(self.conditions.of(k, faces))
        through = not self.truncated
        x = reverse_step(self.model.denoise, x, self.levels, k, cond, shift=self.shift, through_model=through)
        if self._recording is None:
            return x, x.new_zeros(len(x), dtype=torch.float32)
        maps = self._recording.take()
        if self._reference_maps is not None:
            self._reference_maps.setdefault(k, []).append(tuple(part.detach() for part in maps))
            return x, x.new_zeros(len(x), dtype=torch.float32)
        kept = tuple(part[faces.to(part.device)] for part in self._maps[k])
        return x, structure_distance(maps, kept)

    def _run_reference(self) -> None:
        with torch.inference_mode(False), torch.no_grad():
            self.reference = self.reference.clone()  # whoever made it may have been in inference mode
            every = torch.arange(len(self.reference), device=self.reference.device)
            self._reference_maps = {}
            clean = [self.run(self.reference[faces], faces)[0] for faces in every.split(self.model.at_once)]
            found, self._reference_maps = self._reference_maps, None
            self._maps = {k: tuple(map(torch.cat, zip(*parts, strict=True))) for k, parts in found.items()}
            self.reference_clean = torch.cat(clean)
            self.reference_decoded = torch.cat([self._decode(part) for part in clean])

    def _decode(self, clean: Tensor) -> Tensor:
        decoded = self.model.decode(clean)
        return decoded.to(torch.promote_types(decoded.dtype, torch.float32))


def enlarge(residuals: Tensor, side: int) -> Tensor:
    """Bring residuals (n, 3, S, S) to another side smoothly."""
    if residuals.shape[-1] == side:
        return residuals
    return F.interpolate(residuals, (side, side), mode="bicubic", align_corners=False)


def weaken_colour(residuals: Tensor, colour: float) -> Tensor:
    """Keep a share of the change of colour, and all of the change of light.

    Args:
        residuals: (n, 3, S, S) red, green and blue.
        colour: Share in [0, 1]; at 0 all channels change alike.

    Returns:
        (n, 3, S, S), with the luma of the residuals.

    Source: luma of ITU-R BT.601.
    """
    luma = (residuals * residuals.new_tensor(LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    return luma + colour * (residuals - luma)


def budget_shares(residuals: Tensor, mask: Tensor, budget: float | None) -> Tensor:
    """Say how much of changes of pictures may be taken.

    A change that is too large is scaled down as a whole, so the search goes along the sphere of
    all changes that use the budget up, rather than weighing change against attack.

    Args:
        residuals: (n, 3, V, V), before the mask.
        mask: (n, 1, V, V) in [0, 1], how much of them is taken.
        budget: Largest mean square of what is taken, over the whole crop; None is no limit.

    Returns:
        (n,) factors in (0, 1]; gradients pass.
    """
    if budget is None:
        return residuals.new_ones(len(residuals))
    square = (mask * residuals).pow(2).flatten(1).mean(dim=1)
    return (budget / square.clamp(min=budget)).sqrt()


def _mean_under(mask: Tensor, values: Tensor) -> Tensor:
    """Average values (n, C, V, V) where the mask is above 0, (n,)."""
    inside = (mask > 0).to(values)
    return (inside * values.mean(dim=1, keepdim=True)).flatten(1).sum(dim=1) / inside.flatten(1).sum(dim=1).clamp(min=1.0)

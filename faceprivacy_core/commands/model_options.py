"""Which model draws: the built-in one, or a checkpoint of the user's."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..diffusion.model import LatentModel

DTYPES = ("fp32", "bf16", "fp16")
PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction"}
LOOKS = ("donor", "person")


def add_model_options(parser: Any) -> None:
    """Add --model and how it is loaded."""
    options = parser.add_argument_group("a model of yours instead of the built-in one")
    options.add_argument(
        "--model", type=Path, metavar="FILE_OR_FOLDER",
        help="an SD 1.x, SD 2.x or SDXL checkpoint: one .safetensors file, or a folder as diffusers saves it; SD3 and Flux: a "
        "folder",
    )  # fmt: skip
    options.add_argument("--vae", type=Path, metavar="FILE", help="an autoencoder to take instead of the checkpoint's own")
    options.add_argument(
        "--dtype", choices=DTYPES, help="what the networks compute in (default: fp32; the autoencoder always does)"
    )
    options.add_argument("--prediction", choices=PREDICTIONS, help="where file and family say it wrongly: what it predicts")
    options.add_argument(
        "--crop-size", type=int, metavar="PX", help="side of the crops that are drawn (default: what the family was trained on)"
    )
    options.add_argument(
        "--at-once", type=int, metavar="N", help="crops in memory at a time (default: what free memory allows)"
    )


def add_look_option(parser: Any, help_text: str) -> None:
    """Add --look; without it a model that brings donors takes a donor's."""
    parser.add_argument("--look", choices=LOOKS, help=help_text)


def chosen_look(args: argparse.Namespace) -> str:
    """Return whose look is told.

    Raises:
        InputError: A donor's was asked for with a checkpoint, which has none.
    """
    if args.model is None:
        return args.look or LOOKS[0]
    if args.look == LOOKS[0]:
        raise InputError(
            "Expected --look person with --model, got donor: donors are faces that only the built-in model brings. Leave "
            "--look out, or leave --model out."
        )
    return LOOKS[1]


def load_model(args: argparse.Namespace) -> LatentModel:
    """Load the model of the command line onto its device.

    Raises:
        InputError: Options do not go together, or there is no such file.
        ModelFileError: A file cannot be read, or is not whole.
        UnsupportedModelError: The checkpoint is of a family that no method can use.
    """
    if args.model is None:
        return _builtin(args)
    from ..diffusion.backends.loading import load_checkpoint
    from ..memory import choose_at_once
    from .console import say

    model = load_checkpoint(
        args.model, vae=args.vae, dtype=args.dtype or DTYPES[0], device=args.device, resolution=args.crop_size,
        prediction=PREDICTIONS.get(args.prediction),
    )  # fmt: skip
    model, why = choose_at_once(model, args.at_once)
    say(f"{model.name}: {model.family}, crops of {model.resolution} pixels, {why}.", sys.stderr)
    return model


def _builtin(args: argparse.Namespace) -> LatentModel:
    from ..builtin.model import load_face_model

    given = {"--vae": args.vae, "--prediction": args.prediction, "--crop-size": args.crop_size, "--at-once": args.at_once}
    for option, value in given.items():
        if value is not None:
            raise InputError(f"Expected {option} together with --model, got it alone. Give --model, or leave {option} out.")
    if args.dtype == "fp16":
        raise InputError("Expected fp32 or bf16 for the built-in model, got fp16. Choose one of them.")
    model = load_face_model().to(args.device)
    return model.in_bfloat16() if args.dtype == "bf16" else model

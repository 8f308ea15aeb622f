"""The inputs that ask for people of a sex and an age."""

from __future__ import annotations

from comfy_api.latest import io

from ..faceprivacy_core.donors import Age, Sex


def trait_inputs() -> list[io.Combo.Input]:
    """Return the inputs `sex` and `age`, for the end of a node's inputs."""
    return [
        io.Combo.Input(
            "sex", options=Sex, default=Sex.LIKE_THE_PERSON, optional=True, advanced=True,
            tooltip="Apparent sex of the generated people. Choose one where it was read wrongly.",
        ),
        io.Combo.Input(
            "age", options=Age, default=Age.LIKE_THE_PERSON, optional=True, advanced=True,
            tooltip="Apparent age of the generated people.",
        ),
    ]  # fmt: skip

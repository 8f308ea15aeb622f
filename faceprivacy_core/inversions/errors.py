"""What can be wrong with a saved inversion. Every error has one fixed text that holds no data of the file."""

from __future__ import annotations

from ..errors import FormatError, KeyedError, ModelMismatchError, TamperedError, WrongKeyError


class InversionFormatError(FormatError):
    """The file is no saved inversion, is damaged, or has an unknown version."""

    text = (
        "Expected a saved inversion (.fpinv) of a version this program knows, found something else or a damaged file. Use "
        "the file as it was written by Save Inversion or `--save-inversion`; pickles and checkpoints are never read."
    )


class InversionKeyError(WrongKeyError):
    """The key is not the one the inversion was sealed with."""

    text = (
        "Expected the key this inversion was sealed with, got another one or none. Check the key's name; a passphrase must "
        "match in every letter, capital and space."
    )


class InversionTamperedError(TamperedError):
    """The sealed inversion was changed after it was written."""

    text = "Expected the saved inversion as it was written; it was changed since. Use an untouched copy of the file."


class InversionModelError(ModelMismatchError):
    """The inversion needs another model. Its text names the part.

    Args:
        part: Fixed words for the part that differs.
    """

    def __init__(self, part: str) -> None:
        self.text = (
            f"Expected the {part} the inversion was made with, got another one or none. Connect the same checkpoint, without "
            "further LoRAs or patches."
        )
        super().__init__()


class InversionStepsError(KeyedError):
    """The noise levels of the inversion are not those of the model or of the sampling."""

    text = (
        "Expected the noise levels the inversion was made with, got others, or a model that does not reach them. Sample with "
        "the levels that are stored with the inversion, and with the model it was made with."
    )


class InversionPictureError(KeyedError):
    """The picture is not the protected one that the inversion was saved with."""

    text = (
        "Expected the protected picture that was written together with this inversion, got another one or a changed copy. "
        "Use that file, or allow any picture of the same size (--any-picture)."
    )

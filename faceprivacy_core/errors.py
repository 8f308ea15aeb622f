"""Every error the pack raises on purpose.

A message says what was expected, what came, and what to do about it. Callers catch
types, never text. Cancellation and out-of-memory errors of the host or of torch are
never wrapped: they pass through untouched.
"""


class FacePrivacyError(Exception):
    """Base of all errors of this package."""


class InputError(FacePrivacyError, ValueError):
    """An argument has the wrong shape, range, size or combination."""


class NoFaceError(FacePrivacyError):
    """A picture in which a face is needed holds none (that was found or chosen)."""


class ModelFileError(FacePrivacyError):
    """A weights file is missing, has another checksum, or cannot be read."""


class UnsupportedModelError(FacePrivacyError):
    """A model of a family, or a VAE of a latent format, that the method cannot use."""


class NumericalError(FacePrivacyError, ArithmeticError):
    """A computation left the finite numbers or did not converge far enough to be used."""


class KeyedError(FacePrivacyError):
    """Base of the errors of keyed pictures and saved inversions. Each has one fixed text that holds no data of a file.

    The name of a key may stand behind it: that of a key there is, so that it is no key or passphrase itself.
    """

    text = "A keyed picture could not be processed."

    def __init__(self) -> None:
        super().__init__(self.text)


class WrongKeyError(KeyedError):
    """The key is not the one the face was encrypted with.

    Args:
        name: Of the key that was tried, where it has one.
    """

    text = (
        "Expected the key this face was encrypted with, got another one. Check the key's name; a passphrase must match "
        "in every letter, capital and space."
    )

    def __init__(self, name: str = "") -> None:
        super().__init__()
        if name:
            self.args = (f"{self.text} The key tried was {name!r}.",)


class TamperedError(KeyedError):
    """Picture or payload were changed after encryption."""

    text = (
        "Expected the picture as encrypting wrote it; it or its sealed payload was changed since. Use the "
        "untouched file: no other program may have resized, recompressed or edited it."
    )


class FormatError(KeyedError):
    """There is no keyed payload, or it is damaged or of an unknown version."""

    text = (
        "Expected a keyed payload of a version this program knows, found none or a damaged one. Use the PNG that "
        "encrypting wrote, or its .fprv sidecar; most programs and web sites strip the payload from a PNG."
    )


class PictureSizeError(FormatError):
    """The picture has another size than its keyed payload was made for.

    Args:
        expected, found: Width and height, pixels.
    """

    def __init__(self, expected: tuple[int, int], found: tuple[int, int]) -> None:
        self.text = (
            f"Expected the picture at the size at which it was encrypted, {expected[0]} x {expected[1]} pixels, got "
            f"{found[0]} x {found[1]}. It was resized or cropped since, or the payload belongs to another picture. Use the "
            "untouched file."
        )
        super().__init__()


class ModelMismatchError(KeyedError):
    """The face needs another model, VAE or prompt than the connected one."""

    text = (
        "Expected the same model, VAE and prompt as at encryption, got others. Use the same checkpoint, without "
        "further LoRAs or patches; `faceprivacy inspect` shows which model the face needs."
    )


class InversionFormatError(FormatError):
    """The file is no saved inversion, is damaged, or has an unknown version."""

    text = (
        "Expected a saved inversion (.fpinv) of a version this program knows, found something else or a damaged file. Use "
        "the file as it was saved; pickles and checkpoints are never read."
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
            f"Expected the {part} the inversion was made with, got another one or none. Use the same checkpoint, without "
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


class KeyNotFoundError(FacePrivacyError):
    """No key of this name, or one that cannot be used. The message never holds key material."""


class KeyUseError(FacePrivacyError):
    """A key was to be used for what its owner has not allowed.

    Args:
        name: Of the key.
    """

    text = (
        "Expected a key that a server may decrypt with, got {name!r}, which may not: whoever reaches the server or shares a "
        "workflow could bring the faces back. Decrypt with `faceprivacy decrypt` or `faceprivacy recover`, or allow it: "
        "`faceprivacy key allow {name}`, or FACEPRIVACY_DECRYPT_IN_SERVER={name} for a key in the environment."
    )

    def __init__(self, name: str) -> None:
        super().__init__(self.text.format(name=name))

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

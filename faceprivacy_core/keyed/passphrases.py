"""Passphrases that nobody should seal with. They still open what was sealed with them."""

from __future__ import annotations

LEAST_LENGTH, LEAST_DIFFERENT = 8, 4
"""Characters. The length is the least that NIST SP 800-63B allows; a few words are far better."""
_KEY_LENGTHS = range(48, 97)
"""Digits of what was meant to be a key of 64."""
_KEY_SHARE = 0.9


def weakness_of(text: str) -> str:
    """Say what is wrong with a passphrase, without repeating it; "" when nothing is.

    Args:
        text: At least one character.
    """
    digits = "".join(text.split()).replace("-", "").replace(":", "")
    share = sum(character in "0123456789abcdefABCDEF" for character in digits) / max(len(digits), 1)
    if "faceprivacy-" in text or (len(digits) in _KEY_LENGTHS and share >= _KEY_SHARE):
        return (
            "Expected a passphrase, got what looks like a key with a slip in it: a key has 64 hexadecimal digits and nothing "
            "else. Copy the key again, or use its file."
        )
    if len(text) < LEAST_LENGTH or len(set(text)) < LEAST_DIFFERENT:
        return (
            f"Expected a passphrase of at least {LEAST_LENGTH} characters, {LEAST_DIFFERENT} of them different, got a weaker "
            "one: whoever has the picture can try them all. Use several words, or a key: faceprivacy key new NAME"
        )
    return ""

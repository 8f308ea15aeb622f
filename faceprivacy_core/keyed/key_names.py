"""Names of keys, and which environment variable a name has."""

from __future__ import annotations

import re

from ..errors import InputError, KeyNotFoundError

VARIABLE_PREFIX = "FACEPRIVACY_KEY_"
HEX_KEY = re.compile(r"[0-9a-fA-F]{64}")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_RESERVED = re.compile(r"DIR|CON|PRN|AUX|NUL|(COM|LPT)[0-9]", re.IGNORECASE)
"""DIR, because its variable is the one that names the folder; Windows opens a device under the others."""
BAD_NAME = (
    "Expected the name of a key: 1 to 64 letters, digits, '-' and '_', other than 'dir' and names of devices such as 'con' "
    "or 'nul'. Got something else. A key or passphrase itself never goes here; make a key with: faceprivacy key new NAME"
)


def is_name(name: object) -> bool:
    """Say whether a text is the name of a key."""
    # A raw key is a word of 64 letters and digits too, and must not be taken for a name.
    is_word = isinstance(name, str) and _NAME.fullmatch(name) is not None and HEX_KEY.fullmatch(name) is None
    return is_word and _RESERVED.fullmatch(str(name)) is None


def check_name(name: str) -> None:
    """Make sure that a name is one; InputError otherwise, which does not repeat it."""
    if not is_name(name):
        raise InputError(BAD_NAME)


def variable_of(name: str) -> str:
    """Return the environment variable of a name; names that differ in capitals, '-' and '_' alone have the same.

    Raises:
        InputError: Not a name.
    """
    check_name(name)
    return VARIABLE_PREFIX + name.upper().replace("-", "_")


def check_own_variable(name: str) -> None:
    """Make sure that a variable which is set belongs to this name and to no other that is spelled nearly alike.

    Raises:
        KeyNotFoundError: The name has capitals or '-', so that its variable stands for another one.
    """
    own = variable_of(name)[len(VARIABLE_PREFIX) :].lower()
    if name != own:
        raise KeyNotFoundError(
            f"Expected a name in small letters with '_' for a key in the environment, got another spelling: "
            f"{variable_of(name)} is set and stands for {own} alone. Use that name, or remove the variable."
        )

"""A reader of the pack's files, written from docs/format.md alone: it shares no line with the pack."""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
import unicodedata
import zlib
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from numpy.typing import NDArray


def chunk_of(png: bytes) -> bytes:
    """Return the container in a PNG."""
    place, found = 8, []
    while place < len(png):
        (length,) = struct.unpack_from(">I", png, place)
        kind, data = png[place + 4 : place + 8], png[place + 8 : place + 8 + length]
        assert zlib.crc32(kind + data) == struct.unpack_from(">I", png, place + 8 + length)[0]
        found += [data] if kind == b"fpRv" else []
        place += length + 12
    (container,) = found
    return container


def faces_of(container: bytes) -> list[tuple[bytes, bytes]]:
    """Return header and blob of every face."""
    assert container[:6] == b"FPRV3\0"
    (count,), place, parts = struct.unpack_from(">H", container, 6), 8, []
    for _ in range(2 * count):
        (length,) = struct.unpack_from(">I", container, place)
        parts.append(container[place + 4 : place + 4 + length])
        place += 4 + length
    assert place == len(container)
    return list(zip(parts[::2], parts[1::2], strict=True))


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    return hmac.digest(hmac.digest(salt or bytes(32), key, "sha256"), info + b"\x01", "sha256")


def root_of(key: bytes | str, kdf: dict[str, Any] | None) -> bytes:
    if isinstance(key, bytes):
        return key
    text = unicodedata.normalize("NFKC", key).encode()
    salt = bytes.fromhex(kdf["salt"])
    return hashlib.scrypt(text, salt=salt, n=kdf["n"], r=kdf["r"], p=kdf["p"], maxmem=2**29, dklen=32)


def owned_pixels(header: dict[str, Any], taken: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a face that are not taken."""
    a, b, x, c, d, y = header["crop_to_image"]
    rows, columns = header["cells"]["rows"], header["cells"]["columns"]
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(header["cells"]["bits"]), np.uint8))[: rows * columns]
    cells, side, t = bits.reshape(rows, columns), header["crop_size"] // rows, a * d - b * c
    owned = np.zeros_like(taken)
    for row, column in np.ndindex(taken.shape):
        u = (d / t) * column + (-b / t) * row - ((d / t) * x + (-b / t) * y)
        v = (-c / t) * column + (a / t) * row - ((-c / t) * x + (a / t) * y)
        p, q = (u + 0.5) / side - 0.5, (v + 0.5) / side - 0.5
        i, j = int(np.floor(p + 0.5)), int(np.floor(q + 0.5))
        covered = 0.0
        for down, share_down in enumerate(_shares(q - j), j - 1):
            for across, share_across in enumerate(_shares(p - i), i - 1):
                if 0 <= down < rows and 0 <= across < columns:
                    covered += share_down * share_across * cells[down, across]
        owned[row, column] = covered > 0.5 and not taken[row, column]
    return owned


def _shares(f: float) -> tuple[float, float, float]:
    return 0.5 * (0.5 - f) * (0.5 - f), 0.75 - f * f, 0.5 * (0.5 + f) * (0.5 + f)


def payloads_of(container: bytes, stored: NDArray[np.uint8], key: bytes | str) -> list[tuple[dict[str, Any], bytes]]:
    """Return fields and payload of every face of a picture, RGB or RGBA; every check that fails is an error."""
    pixels, alpha = np.ascontiguousarray(stored[..., :3]), stored[..., 3].tobytes() if stored.shape[2] == 4 else b""
    faces, found = faces_of(container), []
    joined = b"".join(struct.pack(">I", len(header)) + header for header, _ in faces)
    digest = hashlib.sha256(b"faceprivacy/v2/set" + struct.pack(">H", len(faces)) + joined).digest()
    for header, blob in faces:
        fields = json.loads(header)
        nonce, root = bytes.fromhex(fields["nonce"]), root_of(key, fields["kdf"])
        face_key = face_key_of(root, nonce, header)
        seed = hkdf(root, nonce, b"faceprivacy/v2/sign")
        assert Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex() == fields["signer"]
        inner, signature = blob[:-64], blob[-64:]
        message = b"faceprivacy/v2/seal" + digest + hashlib.sha256(header).digest() + hashlib.sha256(inner).digest()
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(fields["signer"])).verify(signature, message)
        size, opacity = struct.pack(">II", *pixels.shape[:2]), alpha if alpha.count(255) < len(alpha) else b""
        shown = surroundings(pixels, faces) if fields["bind"] == "surroundings" else pixels
        bound = hashlib.sha256(fields["bind"].encode() + size + shown.tobytes() + opacity).digest()
        found.append((fields, opened(face_key, header, inner, digest + (b"" if fields["bind"] == "none" else bound))))
    return found


def surroundings(pixels: NDArray[np.uint8], faces: list[tuple[bytes, bytes]]) -> NDArray[np.uint8]:
    """Return a picture whose faces are black."""
    taken = np.zeros(pixels.shape[:2], bool)
    for header, _ in faces:
        taken |= owned_pixels(json.loads(header), taken)
    return np.where(taken[..., None], np.uint8(0), pixels)


def face_key_of(root: bytes, nonce: bytes, header: bytes) -> bytes:
    return hkdf(root, nonce, b"faceprivacy/v1/image" + hashlib.sha256(header).digest())


def opened(face_key: bytes, header: bytes, inner: bytes, aad: bytes) -> bytes:
    """Return the payload of a blob without its signature."""
    assert inner[:32] == hmac.digest(hkdf(face_key, b"", b"faceprivacy/v1/commit"), b"commit" + header, "sha256")
    associated = struct.pack(">QQ", len(header), len(aad)) + header + aad
    return ChaCha20Poly1305(hkdf(face_key, b"", b"faceprivacy/v1/enc")).decrypt(inner[32:44], inner[44:], associated)


def open_exact(png: bytes, stored: NDArray[np.uint8], key: bytes | str) -> NDArray[np.uint8]:
    """Bring all faces of a PNG in mode exact back."""
    result, taken = np.ascontiguousarray(stored[..., :3]).copy(), np.zeros(stored.shape[:2], bool)
    for fields, payload in payloads_of(chunk_of(png), stored, key):
        owned = owned_pixels(fields, taken)
        taken |= owned
        result[owned] = np.frombuffer(payload, np.uint8).reshape(-1, 3)
    return result


def latent_of(payload: bytes) -> NDArray[np.float16]:
    """Return the latent in a payload of mode latent."""
    return np.frombuffer(payload, "<f2", offset=6).reshape(struct.unpack_from("<HHH", payload))


def tensors_of(data: bytes) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Return metadata and tensors of a safetensors file: an unprotected inversion, or saved people."""
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    metadata, kinds, found = header.pop("__metadata__"), {"F16": "<f2", "F32": "<f4", "F64": "<f8"}, {}
    for name, said in header.items():
        start, end = said["data_offsets"]
        content = data[8 + length + start : 8 + length + end]
        found[name] = np.frombuffer(content, kinds[said["dtype"]]).reshape(said["shape"])
    return metadata, found


def open_inversion(data: bytes, key: bytes | str) -> bytes:
    """Return the safetensors file in a sealed inversion."""
    assert data[:6] == b"FPIV1\0"
    (length,) = struct.unpack_from(">I", data, 6)
    header, inner = data[10 : 10 + length], data[10 + length :]
    fields = json.loads(header)
    assert (fields["format"], fields["version"]) == ("faceprivacy-inversion", 1)
    face_key = face_key_of(root_of(key, fields["kdf"]), bytes.fromhex(fields["nonce"]), header)
    return opened(face_key, header, inner, b"faceprivacy saved inversion")

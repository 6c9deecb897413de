"""Encryption of what people wrote: bodies, answers, webhook addresses. AES-256-GCM.

A sealed text is `KEY:BASE64(nonce ‖ ciphertext ‖ tag)`, KEY being the name of the key (no secret).
It is bound to its request and its purpose, so that nobody who can write to Redis can pass one
request's text off as another's. `FAREBOX_QUEUE_KEY` has one or several keys: the first seals, all
of them open, so that a key can be replaced while requests wait.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from budgets.home import Home, secret_file

VARIABLE = "FAREBOX_QUEUE_KEY"
KEY_FILE = "queue_key"
KEY_BYTES = 32
_NONCE_BYTES = 12


class SealError(ValueError):
    """A key cannot be used, or a text cannot be opened; never with any part of either."""


class Sealer:
    """Seals with the first of the keys, opens with any."""

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise SealError(f"a queue key has {KEY_BYTES} bytes")
        self._keys = {_name(key): AESGCM(key) for key in keys}
        self.name = _name(keys[0])

    def seal(self, text: bytes, item_id: str, purpose: str) -> str:
        """Return the text sealed for one request and purpose."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._keys[self.name].encrypt(nonce, text, _bound_to(item_id, purpose))
        return f"{self.name}:{base64.b64encode(nonce + sealed).decode()}"

    def open(self, sealed: str, item_id: str, purpose: str) -> bytes:
        """Return the text; raises `SealError` where no key fits or it was tampered with."""
        name, _, encoded = sealed.partition(":")
        cipher = self._keys.get(name)
        if cipher is None:
            raise SealError(f"the text was sealed with the key {name[:16]}, which is not here")
        try:
            raw = base64.b64decode(encoded, validate=True)
            return cipher.decrypt(
                raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _bound_to(item_id, purpose)
            )
        except (InvalidTag, binascii.Error, ValueError):
            raise SealError("the sealed text was changed, or belongs to another request") from None

    def can_open(self, name: str) -> bool:
        """Say whether the key of that name is one of these."""
        return name in self._keys


def sealer(home: Home, environ: Mapping[str, str] = os.environ) -> Sealer:
    """Return the sealer of `FAREBOX_QUEUE_KEY`, else of a key generated into the state folder.

    Raises:
        SealError: the variable holds no key.
        HomeError: the state folder's key cannot be used.
    """
    if given := environ.get(VARIABLE):
        return Sealer(tuple(_read(one.strip()) for one in given.split(",") if one.strip()))
    return Sealer((_read(secret_file(home, KEY_FILE, new_key)),))


def new_key() -> str:
    """Return a fresh key as `FAREBOX_QUEUE_KEY` takes it."""
    return base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def _read(text: str) -> bytes:
    try:
        key = base64.urlsafe_b64decode(text.encode("ascii"))
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise SealError(
            f"{VARIABLE} (or the state folder's {KEY_FILE}) is not {KEY_BYTES} bytes in URL-safe "
            'base64; make one: python -c "import base64, secrets; '
            'print(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())"'
        )
    return key


def _name(key: bytes) -> str:
    return hashlib.sha256(b"farebox queue key " + key).hexdigest()[:8]


def _bound_to(item_id: str, purpose: str) -> bytes:
    return f"farebox:{purpose}:{item_id}".encode()

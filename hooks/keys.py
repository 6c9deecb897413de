"""Farebox's own keys: what is known of one, how it looks, how it is checked.

A key is `sk-fbx-<id>-<secret>`. The id is public (lists and logs show it), the secret is 32 random
bytes that are shown once and never kept: a record holds a salt and sha256(salt + secret). A slow
password hash would add nothing here. It exists to make guessing a person's short password dear;
against 256 random bits no guess succeeds at any speed, while a slow hash would cost every request
of every caller.

This module is pure. Records are stored by `key_store`, cached by `key_book`, and may come from a
file (`key_file`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from hooks.access import Role

Clock = Callable[[], datetime]

MASTER_NAME = "master"
"""The name under which the master key's requests are recorded; no other key may take it."""

_ID_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # without 0, 1, l and o, which people mix up
_ID_LENGTH = 10
_KEY = re.compile(r"sk-fbx-([a-z0-9_]{8,32})-([A-Za-z0-9_-]{20,128})")
_ID = re.compile(r"[a-z0-9_]{8,32}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@/-]{0,63}")
_GROUP = re.compile(r"\S(?:.{0,126}\S)?")
_HEX_HASH = re.compile(r"[0-9a-f]{64}")


class InvalidKeyInput(ValueError):
    """A field of a key is not acceptable; the text says which and what to write instead."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """Everything that is kept of one key. Times are Unix milliseconds; `groups` empty means all.

    New fields need a default, because records written by an older release are read as well.
    """

    id: str
    name: str
    salt: str
    hash: str
    created_ms: int
    created_by: str
    role: Role = Role.CALLER
    team: str | None = None
    user: str | None = None
    groups: tuple[str, ...] = ()
    expires_ms: int | None = None
    revoked_ms: int | None = None
    rotated_from: str | None = None

    def state(self, now_ms: int) -> Literal["live", "expired", "revoked"]:
        """A revocation may lie ahead: the old key of a rotation works until its grace is over."""
        if self.revoked_ms is not None and now_ms >= self.revoked_ms:
            return "revoked"
        if self.expires_ms is not None and now_ms >= self.expires_ms:
            return "expired"
        return "live"

    def matches(self, secret: str) -> bool:
        """Whether `secret` is this key's, compared in constant time."""
        return hmac.compare_digest(self.hash, hash_secret(self.salt, secret))

    def may_use_group(self, group: str) -> bool:
        return not self.groups or group in self.groups


@dataclass(frozen=True, slots=True)
class KeyProblem:
    """Why a presented key is not accepted. Neither field ever holds any part of the key."""

    code: Literal["missing_key", "unknown_key", "expired_key", "revoked_key", "keys_unavailable"]
    message: str

    @property
    def status(self) -> int:
        """The HTTP status: 401, or 503 where it is not the key's fault."""
        return 503 if self.code == "keys_unavailable" else 401

    @property
    def type(self) -> str:
        return "service_unavailable" if self.status == 503 else "authentication_error"


MISSING = KeyProblem(
    "missing_key",
    "No key was sent. Send one as `Authorization: Bearer <key>` or `x-api-key: <key>`.",
)
UNKNOWN = KeyProblem(
    "unknown_key", "The key is not known here. Check it for a slip, or ask an admin for a new one."
)
EXPIRED = KeyProblem("expired_key", "The key has expired. Ask an admin for a new one.")
REVOKED = KeyProblem("revoked_key", "The key was revoked or rotated. Ask an admin for a new one.")

UNAVAILABLE = KeyProblem(
    "keys_unavailable",
    "The key could not be looked up, because the store of keys does not answer. Try again later.",
)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key at its making: the only moment at which `key` (the whole text) exists."""

    record: KeyRecord
    key: str


def utc_now() -> datetime:
    return datetime.now(UTC)


def unix_ms(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise InvalidKeyInput("a time needs a time zone, such as 2026-12-31T00:00:00+00:00")
    return int(moment.timestamp() * 1000)


def hash_secret(salt: str, secret: str) -> str:
    return hashlib.sha256((salt + secret).encode()).hexdigest()


def parse_key(text: str) -> tuple[str, str] | None:
    """(id, secret) of a key in Farebox's form, else None."""
    match = _KEY.fullmatch(text)
    return (match[1], match[2]) if match else None


def same_text(one: str, other: str) -> bool:
    """Compare two secrets in constant time (of any characters, unlike `hmac.compare_digest`)."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def new_key(
    *,
    name: str,
    created_by: str,
    now_ms: int,
    role: Role = Role.CALLER,
    team: str | None = None,
    user: str | None = None,
    groups: tuple[str, ...] = (),
    expires_ms: int | None = None,
    rotated_from: str | None = None,
) -> NewKey:
    """Make a key. Raises `InvalidKeyInput`."""
    key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
    salt, secret = secrets.token_hex(16), secrets.token_urlsafe(32)
    record = KeyRecord(
        id=key_id,
        name=name,
        salt=salt,
        hash=hash_secret(salt, secret),
        created_ms=now_ms,
        created_by=created_by,
        role=role,
        team=team,
        user=user,
        groups=groups,
        expires_ms=expires_ms,
        rotated_from=rotated_from,
    )
    check_record(record)
    if expires_ms is not None and expires_ms <= now_ms:
        raise InvalidKeyInput("expires: the time lies in the past; give one in the future")
    return NewKey(record, f"sk-fbx-{key_id}-{secret}")


def check_record(record: KeyRecord) -> None:
    """Raise `InvalidKeyInput` for the first field that is not acceptable."""
    if not _ID.fullmatch(record.id):
        raise InvalidKeyInput("id: 8 to 32 of a-z, 0-9 and _")
    if not _NAME.fullmatch(record.name):
        raise InvalidKeyInput(
            "name: 1 to 64 letters, digits, spaces and . _ @ / -, starting with a letter or digit"
        )
    if record.name.lower() == MASTER_NAME:
        raise InvalidKeyInput(f"name: `{MASTER_NAME}` stands for the master key; take another")
    for field, value in (("team", record.team), ("user", record.user)):
        if value is not None and not _NAME.fullmatch(value):
            raise InvalidKeyInput(
                f"{field}: 1 to 64 letters, digits, spaces and . _ @ / -, "
                "starting with a letter or digit"
            )
    if len(record.groups) > 100 or any(not _GROUP.fullmatch(group) for group in record.groups):
        raise InvalidKeyInput("groups: at most 100 names of 1 to 128 characters")
    if not _HEX_HASH.fullmatch(record.hash):
        raise InvalidKeyInput("hash: 64 hexadecimal digits, as `farebox keys` writes them")


_RECORD = TypeAdapter(KeyRecord)


def to_json(record: KeyRecord) -> str:
    return _RECORD.dump_json(record).decode()


def from_json(text: str | bytes) -> KeyRecord:
    """Raises `InvalidKeyInput` for an unreadable record; the text holds no field's value."""
    try:
        return _RECORD.validate_json(text)
    except ValidationError as error:
        places = ", ".join(".".join(str(part) for part in e["loc"]) for e in error.errors())
        raise InvalidKeyInput(f"a stored key cannot be read (at {places or 'the top'})") from None


def summary(record: KeyRecord, now_ms: int) -> dict[str, object]:
    """What may be shown of a key: all but its salt and hash."""
    return {
        "id": record.id,
        "name": record.name,
        "role": record.role.value,
        "team": record.team,
        "user": record.user,
        "groups": list(record.groups),
        "state": record.state(now_ms),
        "created_ms": record.created_ms,
        "created_by": record.created_by,
        "expires_ms": record.expires_ms,
        "revoked_ms": record.revoked_ms,
        "rotated_from": record.rotated_from,
    }

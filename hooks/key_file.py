"""A fixed set of keys from a YAML file (`FAREBOX_KEYS_FILE`), for teams that keep keys in git.

    keys:
      - id: ci_runner_1
        name: ci
        salt: 5f0c…            # 16 random bytes in hexadecimal
        hash: 9a31…            # sha256 of salt + secret, hexadecimal
        role: caller           # caller, viewer, approver or admin
        team: platform
        groups: [FAST, NORMAL] # leave out for all
        expires: 2027-01-01T00:00:00+00:00

The file holds hashes only. It is read again when it changes; a broken edit keeps the last good set.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, Field

from budgets.yamlfile import ConfigErrors, Finding, Strict, read_yaml, validate
from hooks.access import Role
from hooks.keys import InvalidKeyInput, KeyRecord, check_record, unix_ms


class _FileKey(Strict):
    id: str
    name: str
    salt: Annotated[str, Field(min_length=8)]
    hash: str
    role: Role = Role.CALLER
    team: str | None = None
    user: str | None = None
    groups: tuple[str, ...] = ()
    created: AwareDatetime | None = None
    expires: AwareDatetime | None = None
    revoked: AwareDatetime | None = None


class _File(Strict):
    keys: tuple[_FileKey, ...]


def load_key_file(path: Path) -> dict[str, KeyRecord]:
    """The file's keys by id. Raises `ConfigErrors` with every mistake and its line."""
    file = read_yaml(path)
    findings: list[Finding] = []
    found: dict[str, KeyRecord] = {}
    names: set[str] = set()
    for index, entry in enumerate(validate(_File, file).keys):
        record = _record(entry, path)
        try:
            check_record(record)
        except InvalidKeyInput as error:
            findings.append(file.finding(("keys", index), str(error)))
            continue
        if record.id in found:
            findings.append(file.finding(("keys", index, "id"), f"id: `{record.id}` is used twice"))
        if record.revoked_ms is None and record.name in names:
            findings.append(
                file.finding(("keys", index, "name"), f"name: `{record.name}` is used twice")
            )
        if record.revoked_ms is None:
            names.add(record.name)
        found[record.id] = record
    if findings:
        raise ConfigErrors(findings)
    return found


def _record(entry: _FileKey, path: Path) -> KeyRecord:
    def ms(moment: datetime | None) -> int | None:
        return None if moment is None else unix_ms(moment)

    return KeyRecord(
        id=entry.id,
        name=entry.name,
        salt=entry.salt,
        hash=entry.hash,
        created_ms=ms(entry.created) or 0,
        created_by=path.name,
        role=entry.role,
        team=entry.team,
        user=entry.user,
        groups=entry.groups,
        expires_ms=ms(entry.expires),
        revoked_ms=ms(entry.revoked),
    )

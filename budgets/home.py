"""Where Farebox's files are: the state folder, the three configuration files, generated secrets.

Every process resolves the same places from its environment, so that a command typed in any folder
below the configuration speaks of the same ledger as the proxy does.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from dotenv import dotenv_values

CONFIG_NAME = "litellm_config.yaml"
ROUTING_NAME = Path("hooks", "routing.yaml")
BUDGETS_NAME = Path("budgets", "budgets.yaml")
HOME_NAME = ".farebox"
PACK = Path(__file__).resolve().parent.parent
"""The folder that holds Farebox's packages: the repository, for an editable install."""


class HomeError(RuntimeError):
    """A place or a secret that Farebox needs cannot be used; the text says how to mend it."""


@dataclass(frozen=True, slots=True)
class Home:
    """The places and names that a process works with. All paths are absolute."""

    folder: Path
    """State: master key, embedded Redis, logs. Made on first use, for its owner only."""
    config: Path
    """LiteLLM's configuration file."""
    routing: Path
    """The engineers' file."""
    budgets: Path
    """The finance owner's file."""
    redis_url: str | None
    """The outside Redis from `REDIS_URL`, or None for the embedded one."""
    ledger: str
    """The ledger's name in Redis."""

    @property
    def logs(self) -> Path:
        """Return the folder of log files."""
        return self.folder / "logs"

    @property
    def journals(self) -> Path:
        """Return the folder of what this ledger could not be told yet."""
        return self.folder / "journal" / quote(self.ledger, safe="")

    @property
    def audit(self) -> Path:
        """Return the folder of the audit trail's anchors."""
        return self.folder / "audit"

    @property
    def proxy_url(self) -> Path:
        """Return the file in which `serve` notes where its proxy listens."""
        return self.folder / "proxy_url"

    def make(self) -> Path:
        """Create the state folder if it is missing, readable for its owner only; return it."""
        make_private(self.folder)
        return self.folder

    def environment(self) -> dict[str, str]:
        """Return the variables that make a child process resolve to this same home."""
        variables = {
            "FAREBOX_HOME": str(self.folder),
            "FAREBOX_CONFIG": str(self.config),
            "FAREBOX_ROUTING": str(self.routing),
            "FAREBOX_BUDGETS": str(self.budgets),
            "FAREBOX_LEDGER": self.ledger,
        }
        return variables | ({"REDIS_URL": self.redis_url} if self.redis_url else {})


def resolve(
    environ: Mapping[str, str] = os.environ,
    cwd: Path | None = None,
    config: Path | None = None,
) -> Home:
    """Find every place. Reads the environment and looks for files, and creates nothing.

    The configuration is the first of: `config`, `FAREBOX_CONFIG`, what LiteLLM was started with
    (`CONFIG_FILE_PATH`, `WORKER_CONFIG`), the nearest `litellm_config.yaml` in `cwd` or above it,
    the one of the pack. Routing and budgets stand beside it in `hooks/` and `budgets/`, else the
    pack's own serve; the state folder is `.farebox` beside it.
    """
    here = (cwd or Path.cwd()).resolve()

    def place(name: str, default: Path) -> Path:
        given = environ.get(name)
        return _absolute(given, here) if given else default

    if config is not None:
        config_path = _absolute(config, here)
    else:
        given = environ.get("FAREBOX_CONFIG") or _litellm_config(environ)
        config_path = _absolute(given, here) if given else _nearest_config(here)
    beside = config_path.parent
    return Home(
        folder=place("FAREBOX_HOME", beside / HOME_NAME),
        config=config_path,
        routing=place("FAREBOX_ROUTING", _own_or_pack(beside, ROUTING_NAME)),
        budgets=place("FAREBOX_BUDGETS", _own_or_pack(beside, BUDGETS_NAME)),
        redis_url=environ.get("REDIS_URL") or None,
        ledger=environ.get("FAREBOX_LEDGER") or "default",
    )


def environment_beside(config: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment with what `.env` beside the configuration adds to it."""
    added = dotenv_values(config.parent / ".env")
    return {name: value for name, value in added.items() if value} | dict(environ)


def master_key(home: Home, environ: Mapping[str, str] = os.environ) -> str:
    """Return `LITELLM_MASTER_KEY`, else the key of the state folder, generated on first use."""
    return environ.get("LITELLM_MASTER_KEY") or secret_file(
        home, "master_key", lambda: "sk-" + secrets.token_urlsafe(32)
    )


def ensure_salt(home: Home) -> str:
    """Return the salt that hashed keys are made with, generated on first use."""
    return secret_file(home, "salt", lambda: secrets.token_hex(32))


def secret_file(home: Home, name: str, factory: Callable[[], str]) -> str:
    """Return the secret of that name, made by `factory` if there is none yet.

    The file is readable for its owner only and appears whole or not at all: of several processes
    that make it at the same moment one wins, and all return the winner's secret.
    """
    path = home.make() / name
    try:
        if not path.exists():
            _create_whole(path, factory())
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise HomeError(f"Cannot use the secret file {path}: {error.strerror}.") from error
    if not secret:
        raise HomeError(f"The secret file {path} is empty. Delete it to have a new one made.")
    return secret


def make_private(folder: Path) -> None:
    """Create a folder that only its owner can look into, unless it exists."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise HomeError(
            f"Cannot create the folder {folder}: {error.strerror}. "
            "Set FAREBOX_HOME to a folder that you can write to."
        ) from error


def _create_whole(path: Path, secret: str) -> None:
    # A hard link fails if the name exists, as O_EXCL does, and never shows a half-written file.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(temporary)


def _absolute(path: str | Path, here: Path) -> Path:
    # Links are not followed: who edits by swapping one, as Kubernetes does with what it mounts,
    # would otherwise never be noticed.
    return Path(os.path.abspath(here / Path(path).expanduser()))


def _litellm_config(environ: Mapping[str, str]) -> str | None:
    """Return the configuration path that a running LiteLLM left in its environment."""
    if path := environ.get("CONFIG_FILE_PATH"):
        return path
    try:
        started_with = json.loads(environ.get("WORKER_CONFIG", "null"))
    except ValueError:
        return None
    path = started_with.get("config") if isinstance(started_with, dict) else None
    return path if isinstance(path, str) else None


def _nearest_config(here: Path) -> Path:
    for folder in (here, *here.parents):
        if (folder / CONFIG_NAME).is_file():
            return folder / CONFIG_NAME
    return PACK / CONFIG_NAME


def _own_or_pack(beside: Path, name: Path) -> Path:
    return beside / name if (beside / name).is_file() else PACK / name

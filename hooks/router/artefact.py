"""The router's file: one small JSON document with a checksum, and nothing in it that can run.

It holds weights (one signed byte for each hashed word and pair of words), what was measured, what
was promised for which task types, which models and prices that was about, and how the profile's
requests were distributed. No text of any prompt is in it. `VERSION` is counted up when an older
proxy would misread a newer file; fields may be added without that.

The checksum is against damage and half-written files. It is no signature: who may write the file
may write its checksum too, so the file belongs where `routing.yaml` belongs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hooks import features

VERSION = 1
FILE_BYTES_MAX = 2_000_000
BUCKETS = 1 << features.BITS_MAX
HINT = "make it anew with `farebox router train` and `farebox router calibrate`"


class ArtefactError(ValueError):
    """A file that is no usable artefact; the text says why, and names no content."""


class _Part(BaseModel):
    # Fields of a later release are kept out of the way, those of this one are checked.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Side(_Part):
    """One of the two tiers as it was profiled.

    `models` and `prices` (picodollars a token, input and output) are what the configuration said
    then: when it says something else, the promise is about the past.
    """

    tier: str
    group: str = Field(min_length=1)
    models: tuple[str, ...] = ()
    prices: tuple[tuple[int, int], ...] = ()


class Source(_Part):
    """The profile: its name, the digest of its file, and how many prompts of it were labelled.

    `prompts` are the first four bytes of each prompt's digest, in base64: enough to tell which
    prompts were trained on, and nothing else. `turns_max` and `chars_max` are the longest that was
    in it: beyond that nothing was measured.
    """

    name: str
    sha256: str = ""
    labels: int = Field(ge=0)
    prompts: str = Field(default="", max_length=1_000_000)
    turns_max: int = Field(default=1, ge=1)
    chars_max: int = Field(default=1_000_000, ge=1)
    cheap_pass_rate: float = Field(ge=0, le=1)
    strong_pass_rate: float = Field(ge=0, le=1)


class Model(_Part):
    """The linear model of the gain: base + the task type's offset + shape + weights / √count.

    `weights` are signed bytes, compressed, in base64; `scale` makes gains of them. `shape` are the
    weights of `score.shape`.
    """

    features: int = Field(ge=1)
    base: float
    offsets: dict[str, float]
    shape: tuple[float, ...]
    scale: float
    weights: str = Field(max_length=200_000)

    def unpacked(self) -> bytes:
        """Return one byte for each bucket.

        Raises:
            ArtefactError: they cannot be read, or are not as many.
        """
        try:
            packed = base64.b64decode(self.weights, validate=True)
            unpacking = zlib.decompressobj()
            found = unpacking.decompress(packed, BUCKETS + 1)
        except (ValueError, zlib.error):
            raise ArtefactError("its weights cannot be read") from None
        if len(found) != BUCKETS:
            raise ArtefactError(f"it has {len(found):,} weights instead of {BUCKETS:,}")
        return found


class Promise(_Part):
    """What was found for some task types together.

    A request of one of them whose score is at most `threshold` may go to the cheaper tier. None:
    nothing can be promised, and the strong tier serves them. `quality` is what was seen in the
    labels: routed quality as a share of the strong tier's, no bound.
    """

    task_types: tuple[str, ...] = Field(min_length=1)
    threshold: float | None
    labels: int = Field(ge=0)
    cheap_share: float = Field(ge=0, le=1)
    quality: float | None = None
    why: str = ""


class Calibration(_Part):
    """The promises and how they were found. `cross` uses each label twice, `split` once."""

    made: str
    floor: float = Field(gt=0, le=1)
    confidence: float = Field(gt=0, lt=1)
    method: Literal["cross", "split"]
    labels: int = Field(ge=0)
    promises: tuple[Promise, ...]


class Baseline(_Part):
    """How the profile's requests of one task type were distributed, for the drift tests."""

    scores: tuple[int, ...]
    lengths: tuple[int, ...]
    mean: float
    variance: float = Field(ge=0)

    @property
    def count(self) -> int:
        """How many requests there were."""
        return sum(self.scores)


class Distribution(_Part):
    """The bounds of the bins (rising; one bin more than bounds) and each task type's counts."""

    score_bounds: tuple[float, ...] = ()
    length_bounds: tuple[int, ...] = ()
    task_types: dict[str, Baseline] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> Distribution:
        for name, it in self.task_types.items():
            if len(it.scores) != len(self.score_bounds) + 1:
                raise ValueError(f"{name} has not one score count for each bin")
            if len(it.lengths) != len(self.length_bounds) + 1:
                raise ValueError(f"{name} has not one length count for each bin")
            if sum(it.scores) != sum(it.lengths):
                raise ValueError(f"{name} has not as many scores as lengths")
        return self


class Artefact(_Part):
    """The whole of it. `digest` is its checksum, and so its name in decisions and metrics."""

    farebox_router: Literal[1]
    name: str = Field(min_length=1, max_length=200)
    made: str
    target: Literal["gain", "weak_fails"] = "gain"
    cheap: Side
    strong: Side
    source: Source
    model: Model
    thresholds: tuple[float, ...] = ()
    """The thresholds to try in calibration, rising; fixed in training, before calibration's labels
    are looked at."""
    calibration: Calibration | None = None
    distribution: Distribution = Distribution()
    digest: str = ""

    @property
    def id(self) -> str:
        """A short name for records."""
        return f"{self.name}@{self.digest[:8]}"

    def promise_for(self, task_type: str) -> Promise | None:
        """Return what was promised for a task type, None where it was not calibrated."""
        if self.calibration is None:
            return None
        return next((it for it in self.calibration.promises if task_type in it.task_types), None)


def checksum(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a document without its own checksum, in hex."""
    content = {name: value for name, value in document.items() if name != "sha256"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def pack(weights: bytes) -> str:
    """Return the weights as they stand in the file."""
    return base64.b64encode(zlib.compress(weights, 9)).decode()


def read(path: Path) -> Artefact:
    """Read and check an artefact.

    Raises:
        ArtefactError: it is missing, unreadable, damaged, or of another release.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise ArtefactError(f"there is no file {path}") from None
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > FILE_BYTES_MAX:
        raise ArtefactError(f"{path} is over {FILE_BYTES_MAX:,} bytes")
    return parse(content)


def parse(content: bytes) -> Artefact:
    """Return the artefact of a file's content; raises `ArtefactError` like `read`."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise ArtefactError("it is not JSON") from None
    if not isinstance(document, dict) or "farebox_router" not in document:
        raise ArtefactError("it is no router of Farebox")
    if document["farebox_router"] != VERSION:
        raise ArtefactError(
            f"its version is {str(document['farebox_router'])[:20]}, this release reads {VERSION}"
        )
    given = document.get("sha256")
    if given != checksum(document):
        raise ArtefactError("its checksum does not fit: it was damaged or edited")
    try:
        found = Artefact.model_validate(document | {"digest": given})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ArtefactError(f"{place}: {first['msg']}") from None
    if found.model.features != features.VERSION:
        raise ArtefactError(
            f"it was trained with version {found.model.features} of the features, "
            f"this release has version {features.VERSION}"
        )
    return found


def write(path: Path, artefact: Artefact) -> Artefact:
    """Write the artefact at once (a reader sees the old file or the new one); return it as read."""
    document = artefact.model_dump(mode="json", exclude={"digest"})
    document["sha256"] = checksum(document)
    content = (json.dumps(document, indent=1, ensure_ascii=True) + "\n").encode()
    read_back = parse(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        Path(partial).chmod(0o644)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    return read_back

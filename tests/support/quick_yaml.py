"""YAML by LibYAML where PyYAML was built with it: whole policies in a tenth of the time."""

from __future__ import annotations

from typing import Any

import yaml

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def load(text: str) -> Any:
    """Return the data of a document."""
    return yaml.load(text, Loader=_Loader)


def dump(data: object) -> str:
    """Return a document, its keys in their order."""
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False))

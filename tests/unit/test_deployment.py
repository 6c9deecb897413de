"""What the deployment files promise and no linter knows. `docs/deployment/lint.sh` runs those."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "deployment"
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))


def manifests() -> dict[tuple[str, str], dict[str, Any]]:
    """Every object of the manifests, by kind and name."""
    found = {}
    for path in sorted((FOLDER / "kubernetes").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            found[document["kind"], document.get("metadata", {}).get("name", "")] = document
    return found


def test_the_image_has_what_its_own_folder_has_and_runs_as_nobody_special() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+?) \S+$", DOCKERFILE, re.M)
    names = [name for line in copied for name in line.split()]
    assert names and all((ROOT / name).exists() for name in names)
    allowed = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{name}" for name in names} <= set(allowed)
    assert DOCKERFILE.count("--require-hashes") == 2
    assert "USER 10001:10001" in DOCKERFILE.split("FROM ")[-1]


def test_nothing_evicts_live_money_and_every_write_goes_to_a_file() -> None:
    ledger = manifests()["StatefulSet", "valkey"]["spec"]["template"]["spec"]["containers"][0]
    for command in (" ".join(COMPOSE["services"]["redis"]["command"]), " ".join(ledger["command"])):
        assert "--appendonly yes" in command
        assert "--maxmemory-policy noeviction" in command


def test_a_full_store_refuses_writes_before_its_container_is_killed() -> None:
    """A rewrite of the append-only file needs room of its own beside the data."""
    redis = COMPOSE["services"]["redis"]
    ledger = manifests()["StatefulSet", "valkey"]["spec"]["template"]["spec"]["containers"][0]
    limits = (redis["deploy"]["resources"]["limits"], ledger["resources"]["limits"])
    for command, limit in zip((redis["command"], ledger["command"]), limits, strict=True):
        data = re.search(r"--maxmemory (\d+)mb", " ".join(command))
        assert data is not None
        mb = {"1g": 1024, "2Gi": 2048}[limit["memory"]]
        assert int(data[1]) <= 0.65 * mb


def test_several_replicas_share_one_ledger_and_have_a_state_folder_each() -> None:
    spec = manifests()["StatefulSet", "farebox"]["spec"]
    assert spec["replicas"] >= 2
    container = spec["template"]["spec"]["containers"][0]
    values = {it["name"]: it.get("value") for it in container["env"]}
    assert values["REDIS_URL"] == "redis://:$(REDIS_PASSWORD)@valkey:6379/0"
    mounts = {it["name"]: it["mountPath"] for it in container["volumeMounts"]}
    assert mounts["data"] == "/data" and "FAREBOX_HOME=/data" in DOCKERFILE
    assert [it["metadata"]["name"] for it in spec["volumeClaimTemplates"]] == ["data"]
    # A folder is mounted: single files of a ConfigMap are never updated.
    assert mounts["config"] == "/config"
    assert not any("subPath" in it for it in container["volumeMounts"])
    assert {"FAREBOX_CONFIG", "FAREBOX_ROUTING", "FAREBOX_BUDGETS"} <= set(values)


def test_no_secret_stands_in_a_file() -> None:
    for name, service in COMPOSE["services"].items():
        for key, value in (service.get("environment") or {}).items():
            if re.search(r"PASSWORD|SECRET|_KEY|SALT|AUTH$", key):
                assert str(value).startswith("${"), f"{name}: {key}"
    example = (FOLDER / "compose.env.example").read_text(encoding="utf-8")
    for line in example.splitlines():
        if re.match(r"\w*(PASSWORD|SECRET|KEY|SALT)\w*=", line):
            assert line.endswith("="), line
    wanted = set(re.findall(r"\$\{(\w+)", (FOLDER / "compose.yaml").read_text(encoding="utf-8")))
    assert wanted - {"LANGFUSE_BASE_URL"} <= set(re.findall(r"^(\w+)=", example, re.M))


def test_every_container_is_kept_small() -> None:
    for (kind, name), document in manifests().items():
        if kind != "StatefulSet":
            continue
        pod = document["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]

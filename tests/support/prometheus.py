"""A real Prometheus that scrapes a proxy (Debian's package `prometheus`), and what it answers."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.proxy import ROOT, free_port, wait_until

MONITORING = ROOT / "docs" / "monitoring"
PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None or PROMTOOL is None,
    reason="needs prometheus and promtool: apt-get install --no-install-recommends prometheus",
)


class Prometheus:
    """Scrapes one address every half second, with a bearer token, and evaluates the rules."""

    def __init__(self, folder: Path, target: str, key: str) -> None:
        self._folder = folder
        self._target = target
        self._key = key
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._client = httpx.Client(base_url=self.url, timeout=10)

    def __enter__(self) -> Prometheus:
        assert PROMETHEUS is not None
        # The file that the documentation shows, with what differs here.
        config = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())
        config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        config["rule_files"] = [str(MONITORING / "rules.yaml")]
        (scrape,) = config["scrape_configs"]
        scrape["authorization"] = {"credentials": self._key}
        scrape["static_configs"] = [{"targets": [self._target.removeprefix("http://")]}]
        file = self._folder / "prometheus.yaml"
        file.write_text(yaml.safe_dump(config))
        log = (self._folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [
                PROMETHEUS,
                f"--config.file={file}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
                "--log.level=warn",
            ],
            stdout=log,
            stderr=log,
        )
        log.close()
        wait_until(self._is_up, 20, "Prometheus has scraped")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
        self._client.close()

    def _is_up(self) -> bool:
        try:
            return self.query('up{job="farebox"} == 1') != []
        except httpx.TransportError:
            return False

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Return the samples of a query now; raises for one that Prometheus does not take."""
        answer = self._client.get("/api/v1/query", params={"query": expr})
        if answer.status_code == 503:
            return []  # It is starting.
        body = answer.json()
        if body["status"] != "success":
            raise AssertionError(f"{expr}\n{json.dumps(body)}")
        data = body["data"]
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        found: list[dict[str, Any]] = data["result"]
        return found

    def numbers(self, expr: str) -> list[float]:
        """Return those values of a query that are numbers."""
        values = (float(it["value"][1]) for it in self.query(expr))
        return [value for value in values if not math.isnan(value)]

    def rules(self) -> list[dict[str, Any]]:
        """Return the alerting rules as Prometheus has loaded them."""
        answer = self._client.get("/api/v1/rules").json()
        return [rule for group in answer["data"]["groups"] for rule in group["rules"]]

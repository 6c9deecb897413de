"""The part of the stand-in for Langfuse that keeps datasets, their items and the runs over them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

DATASETS = "/api/public/v2/datasets"
ITEMS = "/api/public/dataset-items"
RUN_ITEMS = "/api/public/dataset-run-items"


class Datasets:
    """Answers as the REST API does; with `runs_by_api` false like a server without run items."""

    def __init__(self) -> None:
        self.runs_by_api = True
        self.datasets: dict[str, dict[str, Any]] = {}
        self.items: dict[str, dict[str, Any]] = {}
        self.run_items: list[dict[str, Any]] = []

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any] | None:
        """Return status and body; None for a path that is another's business."""
        if path == DATASETS and method == "POST":
            return 200, self._dataset(body)
        if path.startswith(f"{DATASETS}/") and method == "GET":
            found = self.datasets.get(unquote(path.removeprefix(f"{DATASETS}/")))
            return (200, found) if found else (404, {"message": "Dataset not found"})
        if path == ITEMS and method == "POST":
            return self._item(body)
        if path == RUN_ITEMS and method == "POST":
            if not self.runs_by_api:
                return 404, {"message": "Not available on this server"}
            return self._run_item(body)
        return None

    def _dataset(self, body: dict[str, Any]) -> dict[str, Any]:
        known = self.datasets.get(body["name"], {})
        self.datasets[body["name"]] = {
            "id": f"ds-{body['name']}", "projectId": "p", **_times(), **known,
            "name": body["name"], "description": body.get("description"),
            "metadata": body.get("metadata"), "inputSchema": None, "expectedOutputSchema": None,
        }  # fmt: skip
        return self.datasets[body["name"]]

    def _item(self, body: dict[str, Any]) -> tuple[int, Any]:
        dataset = self.datasets.get(body["datasetName"])
        if dataset is None:
            return 404, {"message": "Dataset not found"}
        self.items[body["id"]] = {
            "id": body["id"], "status": "ACTIVE", "datasetId": dataset["id"],
            "datasetName": dataset["name"], "input": body.get("input"),
            "expectedOutput": body.get("expectedOutput"), "metadata": body.get("metadata"),
            "sourceTraceId": None, "sourceObservationId": None, "mediaReferences": [], **_times(),
        }  # fmt: skip
        return 200, self.items[body["id"]]

    def _run_item(self, body: dict[str, Any]) -> tuple[int, Any]:
        if body["datasetItemId"] not in self.items:
            return 404, {"message": "Dataset item not found"}
        found = {
            "id": f"ri-{len(self.run_items)}", "datasetRunId": f"run-{body['runName']}",
            "datasetRunName": body["runName"], "datasetItemId": body["datasetItemId"],
            "traceId": body["traceId"], "observationId": body.get("observationId"), **_times(),
        }  # fmt: skip
        self.run_items.append({**found, "metadata": body.get("metadata")})
        return 200, found


def _times() -> dict[str, str]:
    now = datetime.now(UTC).isoformat()
    return {"createdAt": now, "updatedAt": now}

"""A W&B server for tests: answers the queries that the SDK's public API reads runs with, in pages, and can fail."""

from __future__ import annotations

import contextlib
import json
import math
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY, PROJECT = "me", "project"


class Project:
    """Runs on the server.

    Attributes:
        runs: by id: `config`, `summary`, `rows`, and what else of a run's node is not the default.
        failures: how often each operation is to answer with status 503 before it works.
        asked: how often each operation was asked for.
        pages: arguments of all pages of histories.
    """

    def __init__(self, runs: Mapping[str, Mapping[str, Any]]) -> None:
        self.runs = {id: dict(run) for id, run in runs.items()}
        self.failures: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.pages: list[tuple[str, int, int]] = []

    def answer(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The `data` of an answer."""
        if operation == "Viewer":
            return {
                "viewer": {"id": "1", "username": ENTITY, "entity": ENTITY, "flags": "{}", "teams": {"edges": []}}
            }
        if operation == "ServerFeaturesQuery":
            return {"serverInfo": {"features": []}}
        if (arguments["entity"], arguments["project"]) != (ENTITY, PROJECT):
            return {"project": None}
        if operation == "Runs":
            return {"project": self._list(int(arguments["cursor"] or 0), arguments["perPage"])}
        id = arguments.get("name") or arguments.get("run") or arguments["runName"]
        return {"project": {"run": getattr(self, f"_{operation}")(id, arguments)}}

    def _list(self, start: int, number: int) -> dict[str, Any]:
        ids = list(self.runs)[start : start + number]
        edges = [{"node": self._node(id), "cursor": str(start + k + 1)} for k, id in enumerate(ids)]
        page = {"endCursor": str(start + len(ids)), "hasNextPage": start + len(ids) < len(self.runs)}
        runs = {"edges": edges, "pageInfo": page}
        return {"internalId": "1", "runCount": len(self.runs), "readOnly": False, "runs": runs}

    def _node(self, id: str) -> dict[str, Any]:
        """A run in a list, without what is heavy."""
        run = self.runs[id]
        node = {
            "id": f"internal {id}",
            "projectId": "1",
            "tags": [],
            "name": id,
            "displayName": f"name of {id}",
            "sweepName": None,
            "state": "finished",
            "group": "a group",
            "jobType": None,
            "commit": None,
            "readOnly": False,
            "createdAt": "2026-01-02T03:04:05Z",
            "heartbeatAt": "2026-01-02T04:04:05Z",
            "description": None,
            "notes": None,
            "historyLineCount": len(run["rows"]),
            "user": {"name": ENTITY, "username": ENTITY},
        }
        return node | {key: value for key, value in run.items() if key in node}

    def _Run(self, id: str, arguments: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802
        run = self.runs[id]
        config = {key: {"value": value} for key, value in run["config"].items()} | {"_wandb": {"value": {"t": 1}}}
        summary = _as_sent(run["summary"]) | {"_runtime": 1.5}
        heavy = {"config": json.dumps(config), "summaryMetrics": json.dumps(summary), "systemMetrics": "{}"}
        return self._node(id) | heavy | self._RunHistoryKeys(id, arguments)

    def _RunHistoryKeys(self, id: str, arguments: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"historyKeys": {"lastStep": len(self.runs[id]["rows"]) - 1}}

    def _RunParquetHistory(self, id: str, arguments: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802
        live = [{"_step": 0}] if self.runs[id]["rows"] else []
        return {"parquetHistory": {"parquetUrls": [], "liveData": live}}

    def _HistoryPage(self, id: str, arguments: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802
        first, last = arguments["minStep"], arguments["maxStep"]
        self.pages.append((id, first, last))
        rows = list(enumerate(self.runs[id]["rows"]))[first:last][: arguments["pageSize"]]
        return {"history": [json.dumps(_as_sent(row) | {"_step": step, "_timestamp": 1.0}) for step, row in rows]}


def _as_sent(value: Any) -> Any:
    """W&B sends numbers that JSON lacks as text."""
    if isinstance(value, Mapping):
        return {key: _as_sent(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_as_sent(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


@contextlib.contextmanager
def serving(project: Project) -> Iterator[str]:
    """Serves on loopback; gives the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path != "/graphql":  # the SDK's own metrics
                return self._send(404, {})
            asked = json.loads(content)
            operation = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"]).group(1)  # type: ignore[union-attr]
            project.asked[operation] += 1
            if project.failures[operation] > 0:
                project.failures[operation] -= 1
                return self._send(503, {})
            return self._send(200, {"data": project.answer(operation, asked.get("variables") or {})})

        def _send(self, status: int, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()

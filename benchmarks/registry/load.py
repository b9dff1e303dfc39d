"""The load generator for metadata: `python -m benchmarks.registry.load PLAN.json` prints what it saw as JSON.

The closed loop of the serving benchmark, with requests that the plan spells out, sent in their order again and again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.serving import load


class Load(load.Load):
    """Requests of the plan: `method`, `path`, `body` (JSON, or none), and texts that the answer must have."""

    good = frozenset({b"200", b"201", b"202"})

    def prepared(self, plan: dict[str, Any]) -> tuple[list[bytes], list[Any], list[int]]:
        requests = [written(one) for one in plan["requests"]]
        expected = [[text.encode() for text in one["expected"]] for one in plan["requests"]]
        return requests, expected, list(range(len(requests)))

    def _check(self, kind: int, head: bytes, body: bytes) -> None:
        self.checked += 1
        missing = [text for text in self.expected[kind] if text not in b"".join(body.split())]
        if missing:
            self._count_bad(f"{missing[0].decode()} is not in {body[:200].decode(errors='replace')}")


def written(one: dict[str, Any]) -> bytes:
    """A whole HTTP/1.1 request."""
    body = b"" if one.get("body") is None else json.dumps(one["body"]).encode()
    lines = [f"{one['method']} {one['path']} HTTP/1.1", "Host: 127.0.0.1"]
    if body or one["method"] != "GET":
        lines += [f"Content-Length: {len(body)}", "Content-Type: application/json"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def main() -> None:
    print(json.dumps(Load(json.loads(Path(sys.argv[1]).read_text())).run()))


if __name__ == "__main__":
    main()

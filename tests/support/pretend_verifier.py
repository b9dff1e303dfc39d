"""A stand-in for `graftery.module.verify --serve` that misbehaves as the file's text asks: no torch, started at once."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path


def main() -> None:
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        text = Path(asked["path"]).read_text()
        died = Path(f"{asked['path']}.died")
        if text == "die" or (text == "die once" and not died.exists()):
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if text == "sleep":
            time.sleep(60)
        if text == "garbage":
            print("this is no JSON", flush=True)
            continue
        if text == "late":  # an answer to a question that nobody asks any more comes first
            print(json.dumps({"id": -1, "ok": {}}), flush=True)
        if text == "refuse":
            problem = {"code": "operator_refused", "message": "node v1: aten.from_file", "hint": "leave it out"}
            print(json.dumps({"id": asked["id"], "problem": problem}), flush=True)
            continue
        if text == "large":
            text *= 10 * 1024**2
        told = {"pid": os.getpid(), "environment": dict(os.environ), "asked": asked}
        print(json.dumps({"id": asked["id"], "ok": {"manifest": {"text": text}, "facts": told}}), flush=True)


if __name__ == "__main__":
    main()

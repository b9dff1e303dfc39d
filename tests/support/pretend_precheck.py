"""A stand-in for `graftery.transplant.prechecking` that does what the category's file says: no torch, started at once."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

FOUND = {"features": [4], "wanted": [4], "identity": True, "layers": [], "parameters": 1, "images": 0, "neighbours": []}


def main() -> None:
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        text = Path(asked["path"]).read_text()
        if text == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if text == "stuck":
            time.sleep(60)
        if text.startswith("slow"):
            time.sleep(1)
        if text == "refuse":
            problem = {"code": "recipe_invalid", "message": "the size is free", "hint": None}
            print(json.dumps({"id": asked["id"], "problem": problem}), flush=True)
            continue
        # The seed comes back as a number of parameters, the time as one of images: who asks twice sees what was made.
        told = {**FOUND, "parameters": asked["recipe"]["seed"], "images": time.monotonic_ns()}
        print(json.dumps({"id": asked["id"], "ok": told}), flush=True)


if __name__ == "__main__":
    main()

"""Keys on this machine's own database: a process of the service does it, as this floor knows no database."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graftery.client.answers import error_from
from graftery.errors import ServiceError


def local(verb: str, home: Path | None, name: str = "", body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The answer that HTTP would give.

    Raises:
        GrafteryError: the refusal that HTTP would give.
        ServiceError: the process did not answer.
    """
    settings = {} if home is None else {"home": str(home)}
    asked = {"verb": verb, "settings": settings, "name": name, "body": {**(body or {})}}
    # -P: a folder `app` here is not ours. The question goes through a pipe: a command line is for everybody to see.
    command = [sys.executable, "-P", "-m", "app.keys"]
    done = subprocess.run(command, input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=False)
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise ServiceError("the database could not be worked on", hint="the reason is above") from None
    if "code" in answer:
        raise error_from(answer["code"], answer["detail"], hint=answer["hint"])
    return answer

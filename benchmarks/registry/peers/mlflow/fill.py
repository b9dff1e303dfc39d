"""Rows in bulk, through MLflow's own tables: `python fill.py PLAN.json`, in its environment.

What registering each model and version by a request would have left: models, versions, a tag on each of both, an alias.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from mlflow.store.db.utils import create_sqlalchemy_engine
from mlflow.store.model_registry.dbmodels.models import (
    SqlModelVersion,
    SqlModelVersionTag,
    SqlRegisteredModel,
    SqlRegisteredModelAlias,
    SqlRegisteredModelTag,
)
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import insert


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text())
    SqlAlchemyStore(plan["url"])  # makes the tables, as the server would at its start
    names, versions = plan["names"], range(1, plan["per_name"] + 1)
    now = int(time.time() * 1000)
    times = {"creation_time": now, "last_updated_time": now}
    every = [{"name": name, "version": version} for name in names for version in versions]
    source = {"source": "file:///models/net", "status": "READY", "user_id": "seed", "current_stage": "None"}
    rows = [
        (SqlRegisteredModel, [{"name": name, "description": f"Net {name}", **times} for name in names]),
        (SqlRegisteredModelTag, [{"name": name, "key": "common", "value": "yes"} for name in names]),
        (SqlModelVersion, [{**one, **source, **times, "storage_location": source["source"]} for one in every]),
        (SqlModelVersionTag, [{**one, "key": "common", "value": "yes"} for one in every]),
        (SqlRegisteredModelAlias, [{"name": name, "alias": plan["alias"], "version": 1} for name in names]),
    ]
    engine = create_sqlalchemy_engine(plan["url"])
    with engine.begin() as connection:
        for table, values in rows:
            for start in range(0, len(values), 2000):
                connection.execute(insert(table), values[start : start + 2000])
    engine.dispose()


if __name__ == "__main__":
    main()

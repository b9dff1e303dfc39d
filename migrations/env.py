"""What alembic runs. `registry.db` hands over its connection; the alembic command line makes one from the settings."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from registry.db import Database
from registry.models import Base
from registry.settings import Settings


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection, target_metadata=Base.metadata, render_as_batch=True, transactional_ddl=True
    )
    with context.begin_transaction():
        context.run_migrations()


def _main() -> None:
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _run(connection)
        return
    database = Database(Settings().database)
    with database.lock("migrate"), database.engine.begin() as own:
        _run(own)


_main()

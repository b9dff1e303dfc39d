"""What every table is made of: naming, clean text, JSON, row ids."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Dialect, Integer, MetaData, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class CleanText(TypeDecorator[str]):
    """Text that PostgreSQL can hold: U+0000 and lone surrogates, which it cannot, are replaced."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


# JSON, not JSONB: JSONB does not keep the order of keys, and the order of a net's outputs means something.
Json = JSON(none_as_null=True)
RowId = BigInteger().with_variant(Integer(), "sqlite")


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    # Values that the database makes (times) are read back at once, so that a row can outlive its session.
    __mapper_args__: Any = {"eager_defaults": True}  # noqa: RUF012


def row_id() -> Mapped[int]:
    return mapped_column(RowId, primary_key=True)

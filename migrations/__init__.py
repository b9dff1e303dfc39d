"""Alembic's scripts. They travel with the wheel: `python -m migrations` brings the database up to date."""

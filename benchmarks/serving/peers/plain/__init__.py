"""A plain FastAPI handler."""

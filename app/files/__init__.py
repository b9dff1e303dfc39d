"""Bytes on their way in, checked and published, and on their way out."""

"""The peers: each a requirements file for its own environment, and scripts that run in it."""

"""The peers: each a requirements file for its own environment, and a server written from its documents."""

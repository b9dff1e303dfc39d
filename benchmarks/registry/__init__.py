"""The registry under load, beside floors and a peer (`make bench-registry`)."""

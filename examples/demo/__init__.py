"""The main job over HTTP on real handwritten digits: `make demo`."""

"""The table of transplants on real data: `make bench-transplant DATA=...`."""

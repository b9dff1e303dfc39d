"""Our inference server beside other servers: `make bench-serving`."""

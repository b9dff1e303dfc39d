"""The Open Inference Protocol over gRPC, in the process and event loop of the HTTP plane."""

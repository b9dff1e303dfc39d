"""The verbs of the command line, in the groups of the client's own verbs."""

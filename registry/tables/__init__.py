"""Tables, a file for each thing; `registry/models.py` has all of them, and those of modules and jobs."""

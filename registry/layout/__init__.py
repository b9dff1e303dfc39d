"""A registry as a directory in OCI image layout: what `graftery export` writes and `graftery import` reads."""

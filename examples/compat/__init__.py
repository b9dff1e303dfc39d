"""Three applications of compatible components, each with a table and a figure (docs/methods/compat.md)."""

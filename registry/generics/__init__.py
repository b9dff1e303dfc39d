"""All SQL about generic networks: their rows, columns and cells, and the history of these."""

from registry.generics.asking import CellNow, Now, Served, Stamp, now, served, stamp
from registry.generics.cells import lock, order, place, settle
from registry.generics.changing import add, create, delete, remove
from registry.generics.history import change_out, list_changes
from registry.generics.matrix import certificate, list_generics, matrix
from registry.generics.promoting import promote, rollback
from registry.generics.rows import KIND, Cell, Grid, cells_of, find, grid

__all__ = [
    "KIND",
    "Cell",
    "CellNow",
    "Grid",
    "Now",
    "Served",
    "Stamp",
    "add",
    "cells_of",
    "certificate",
    "change_out",
    "create",
    "delete",
    "find",
    "grid",
    "list_changes",
    "list_generics",
    "lock",
    "matrix",
    "now",
    "order",
    "place",
    "promote",
    "remove",
    "rollback",
    "served",
    "settle",
    "stamp",
]

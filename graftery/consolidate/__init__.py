"""Consolidation: a module that many cells of a generic network share learns on from all of them."""

from graftery.consolidate.cells import Cell
from graftery.consolidate.run import Consolidated, consolidate_category, consolidate_task
from graftery.spec.consolidating import CellReport, worse_than

__all__ = ["Cell", "CellReport", "Consolidated", "consolidate_category", "consolidate_task", "worse_than"]

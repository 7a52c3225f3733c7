"""Measuring: dataset protocols, a resumable table runner, tables and plots. Runs the program, knows no slot."""

from splat.bench.cells import Cell, Record, Records
from splat.bench.engines import Local
from splat.bench.protocols import PROTOCOLS
from splat.bench.runner import Table

__all__ = ["PROTOCOLS", "Cell", "Local", "Record", "Records", "Table"]

"""`report.html` of a run: what came out, what went wrong, and what to photograph again."""

from splat.report.data import Curve, Floaters, Number, Picture, ReportData, ViewScore
from splat.report.report import write_report

__all__ = ["Curve", "Floaters", "Number", "Picture", "ReportData", "ViewScore", "write_report"]

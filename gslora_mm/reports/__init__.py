"""The report of a sequence: tables, plots and pictures."""

from .report import build_report, comparable, write_report

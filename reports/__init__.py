"""Finished runs to evidence: statistics, claims, figures, tables, notebook. Never imports torch."""

"""Approvals in, leads out: every utility knows before the company has to ask."""

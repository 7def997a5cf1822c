"""What a store says of its own tables: Alembic's table of revisions, one row a branch, and ours of the release, one row."""

from __future__ import annotations

from sqlalchemy import Column, MetaData, String, Table, Text

record = MetaData()
REVISION = Table("alembic_version", record, Column("version_num", String(32), primary_key=True))
RELEASE = Table("release", record, Column("version", Text, primary_key=True), Column("min_code", Text, nullable=False))

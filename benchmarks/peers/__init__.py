"""The peers of the hookup service: its job on the same database, written with FastStream as its documentation recommends."""

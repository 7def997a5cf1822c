"""One library, one file: what stands behind the ports."""

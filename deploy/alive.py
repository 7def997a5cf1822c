"""The image's HEALTHCHECK: exit code 0 if the program in this container says that it is alive."""

from __future__ import annotations

import os
import sys
from http.client import HTTPConnection


def alive(port: int) -> bool:
    """Whether /healthz answers 200 within three seconds."""
    connection = HTTPConnection("127.0.0.1", port, timeout=3)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if alive(int(os.environ.get("JIETONG_PORT", "8440"))) else 1)

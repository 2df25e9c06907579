"""Status: what a person wants to know at a glance. For load balancers there are /livez and /readyz."""

from __future__ import annotations

import os
import time
from importlib.metadata import version

from sqlalchemy import func, select

from actions.database import Message, User
from trioaction import Action, Web, api

STARTED = time.monotonic()


class Status(Action):
    """Tell how the server is."""

    name = "status"
    web = Web("GET", "/status")

    def run(self) -> dict[str, object]:
        with api.db.begin() as session:
            counts = [session.scalar(select(func.count(table.id))) for table in (User, Message)]
        return {
            "name": "trioaction sample",
            "version": version("trioaction"),
            "pid": os.getpid(),
            "uptimeSeconds": round(time.monotonic() - STARTED, 3),
            "users": counts[0],
            "messages": counts[1],
        }

"""Booted applications in which somebody may operate tasks, and the actions that they have."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from pydantic import BaseModel, SecretStr

from trioaction.action import Action, Task
from trioaction.testing import Booted, booted

PASSWORD = "correct horse battery"
AUTH = ("anybody", PASSWORD)


class Mail(Action):
    """Has a secret; fails as often as it is told."""

    name = "mail:send"
    task = Task(queue="mail")

    class Inputs(BaseModel):
        to: str = "ada"
        token: SecretStr = SecretStr("")
        fails: bool = False

    async def run(self, params: Inputs) -> None:
        if params.fails:
            raise RuntimeError(f"no mail for {params.to}")


class Hourly(Action):
    name = "hourly"
    task = Task(queue="hours", frequency=3_600_000)

    async def run(self) -> None: ...


class Again(Action):
    """Never succeeds, and is tried again in an hour."""

    name = "again"
    task = Task(queue="again", retries=1, backoff=3600)

    class Inputs(BaseModel):
        id: int = 0
        token: SecretStr = SecretStr("")

    async def run(self, params: Inputs) -> None:
        raise RuntimeError(f"again {params.id}")


class Alone(Action):
    """One at a time."""

    name = "alone"
    task = Task(queue="alone", unique="queued")

    class Inputs(BaseModel):
        id: int = 0

    async def run(self, params: Inputs) -> None: ...


ACTIONS = (Mail, Hourly, Again, Alone)


class Admin:
    """A client that knows the password; paths are those below ``/api/tasks``."""

    def __init__(self, app: Booted) -> None:
        self.app = app

    async def ask(self, method: str, path: str = "", status: int = 200, **inputs: Any) -> Any:
        """The answer's JSON; inputs go into the query of GET and DELETE if they fit, else into the body."""
        url = f"/api/tasks{path}"
        if method == "GET" or (method == "DELETE" and len(inputs.get("ids", ())) < 1000):
            response = await self.app.http.request(method, url, params=inputs, auth=AUTH)
        else:
            response = await self.app.http.request(method, url, json=inputs, auth=AUTH)
        assert response.status_code == status, response.text
        return response.json()

    async def get(self, path: str = "", status: int = 200, **inputs: Any) -> Any:
        return await self.ask("GET", path, status, **inputs)

    async def post(self, path: str, status: int = 200, **inputs: Any) -> Any:
        return await self.ask("POST", path, status, **inputs)

    async def delete(self, path: str, status: int = 200, **inputs: Any) -> Any:
        return await self.ask("DELETE", path, status, **inputs)


@asynccontextmanager
async def administered(redis_url: str, namespace: str, **settings: Any) -> AsyncGenerator[Admin]:
    """An application with a password."""
    admin = {"admin": {"password": PASSWORD}}
    async with booted(*ACTIONS, redis_url=redis_url, namespace=namespace, settings=admin | settings) as app:
        yield Admin(app)


def basic(password: str, user: str = "") -> httpx2.BasicAuth:
    return httpx2.BasicAuth(user, password)

"""Users: the fan-out pattern. A parent job spreads the work over one child job for each user."""

from __future__ import annotations

from http import HTTPStatus

import trio
from pydantic import BaseModel, Field
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from actions.database import User, now
from trioaction import Action, ActionError, Task, Web, api


class EmailTaken(ActionError):
    http_status = HTTPStatus.CONFLICT


class UserNotFound(ActionError):
    http_status = HTTPStatus.NOT_FOUND


class UsersCreate(Action):
    """Add a user."""

    name = "users:create"
    web = Web("POST", "/users")

    class Inputs(BaseModel):
        name: str = Field(min_length=1, max_length=100)
        email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)

    def run(self, params: Inputs) -> dict[str, object]:
        user = User(name=params.name, email=params.email)
        try:
            with api.db.begin() as session:
                session.add(user)
        except IntegrityError:
            raise EmailTaken("A user with this email exists", key="email", value=params.email) from None
        return {"user": {"id": user.id, "name": user.name, "email": user.email}}


class UsersProcessAll(Action):
    """Process every active user, each in a job of its own."""

    name = "users:processAll"
    task = Task(queue="scheduler", frequency=1000 * 60 * 60)  # every hour
    web = Web("POST", "/users/processAll")

    async def run(self) -> dict[str, object]:
        users = await trio.to_thread.run_sync(active_users)
        result = await api.actions.fan_out("users:processOne", [{"userId": id} for id in users], "worker")
        return {"fanOut": result}


class UsersProcessOne(Action):
    """Process one user. It does not know whether a fan-out started it."""

    name = "users:processOne"
    task = Task(queue="worker")

    class Inputs(BaseModel):
        userId: str

    def run(self, params: Inputs) -> dict[str, object]:
        processed = {"processed_at": now(), "times_processed": User.times_processed + 1}
        with api.db.begin() as session:
            change = update(User).where(User.id == params.userId).values(processed)
            times = session.scalar(change.returning(User.times_processed))
        if times is None:
            raise UserNotFound("There is no such user", key="userId", value=params.userId)
        return {"userId": params.userId, "timesProcessed": times}


def active_users() -> list[str]:
    with api.db.begin() as session:
        return list(session.scalars(select(User.id).where(User.active).order_by(User.name)))

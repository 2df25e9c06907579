"""Users: a job that follows a commit, and the fan-out pattern, with one child job for each user."""

from __future__ import annotations

from http import HTTPStatus

import trio
from pydantic import BaseModel, Field
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from actions.database import User, now
from actions.emails import ADDRESS
from trioaction import Action, ActionError, Task, Web, api


class EmailTaken(ActionError):
    http_status = HTTPStatus.CONFLICT


class UserNotFound(ActionError):
    http_status = HTTPStatus.NOT_FOUND


class UsersCreate(Action):
    """Add a user.

    Once they are really there, they are welcomed by email.
    """

    name = "users:create"
    web = Web("POST", "/users")

    class Inputs(BaseModel):
        name: str = Field(min_length=1, max_length=100)
        email: str = Field(pattern=ADDRESS, max_length=254)

    def run(self, params: Inputs) -> dict[str, object]:
        try:
            user = add_user(params.name, params.email)
        except IntegrityError:
            raise EmailTaken("A user with this email exists", key="email", value=params.email) from None
        return {"user": {"id": user.id, "name": user.name, "email": user.email}}


def add_user(name: str, email: str) -> User:
    user = User(name=name, email=email)
    with api.actions.after_commit(), api.db.begin() as session:
        session.add(user)
        welcome = {"to": email, "subject": "Welcome", "body": f"Hello {name}, nice to have you here."}
        trio.from_thread.run(api.actions.enqueue, "emails:send", welcome)
    return user


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

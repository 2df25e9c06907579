"""Messages: one action that writes, one that reads, and one that cleans up every hour."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel, Field
from sqlalchemy import delete, func, select

from actions.database import Message, now
from trioaction import Action, Task, Web, api


class MessageView(BaseModel):
    """A message as callers see it."""

    id: str
    body: str
    createdAt: datetime

    @classmethod
    def of(cls, message: Message) -> MessageView:
        return cls(id=message.id, body=message.body, createdAt=message.created_at)


class MessagesCreate(Action):
    """Write a message."""

    name = "messages:create"
    web = Web("POST", "/messages")

    class Inputs(BaseModel):
        body: str = Field(min_length=1, max_length=1000, description="What to say.")

    def run(self, params: Inputs) -> dict[str, MessageView]:
        message = Message(body=params.body)
        with api.db.begin() as session:
            session.add(message)
        return {"message": MessageView.of(message)}


class MessagesList(Action):
    """Read messages, the newest first."""

    name = "messages:list"
    web = Web("GET", "/messages")

    class Inputs(BaseModel):
        page: int = Field(default=1, ge=1, le=1_000_000, description="Which page.")
        limit: int = Field(default=25, ge=1, le=100, description="How many messages a page has.")

    def run(self, params: Inputs) -> dict[str, object]:
        newest = select(Message).order_by(Message.created_at.desc(), Message.id)
        page = newest.limit(params.limit).offset((params.page - 1) * params.limit)
        with api.db.begin() as session:
            messages = [MessageView.of(message) for message in session.scalars(page)]
            total = session.scalar(select(func.count(Message.id)))
        return {"messages": messages, "page": params.page, "limit": params.limit, "total": total}


class MessagesCleanup(Action):
    """Delete messages older than 24 hours, or than the age given."""

    name = "messages:cleanup"
    task = Task(queue="default", frequency=1000 * 60 * 60)  # every hour
    web = Web("POST", "/messages/cleanup")

    class Inputs(BaseModel):
        age: int = Field(default=1000 * 60 * 60 * 24, ge=1000, le=10**12, description="In milliseconds.")

    def run(self, params: Inputs) -> dict[str, int]:
        oldest = now() - timedelta(milliseconds=params.age)
        with api.db.begin() as session:
            deleted = session.execute(delete(Message).where(Message.created_at < oldest))
        return {"messagesDeleted": deleted.rowcount}

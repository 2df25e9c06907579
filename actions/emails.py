"""Emails: written as real messages into an outbox folder, where a mail program can open them."""

from __future__ import annotations

from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import make_msgid

from pydantic import BaseModel, Field

from actions.database import new_id
from trioaction import Action, Task, Web, api

ADDRESS = r"^[\w.+-]+@[\w-]+(\.[\w-]+)*$"


class EmailsSend(Action):
    """Send an email."""

    name = "emails:send"
    task = Task(queue="default")
    web = Web("POST", "/emails")

    class Inputs(BaseModel):
        to: str = Field(pattern=ADDRESS, max_length=254)
        subject: str = Field(default="Hello", pattern=r"^[^\r\n]*$", max_length=200)
        body: str = "Greetings from trioaction."

    def run(self, params: Inputs) -> dict[str, str]:
        message = EmailMessage(policy=SMTP)
        message["From"] = "trioaction <sample@example.com>"
        message["To"] = params.to
        message["Subject"] = params.subject
        message["Date"] = datetime.now(UTC)
        message["Message-ID"] = make_msgid(domain="example.com")
        message.set_content(params.body)
        return {"messageId": message["Message-ID"], "file": deliver(message)}


def deliver(message: EmailMessage) -> str:
    """Whoever looks into the outbox sees whole messages only: a rename is atomic."""
    outbox = api.config.root / ".trioaction" / "outbox"
    outbox.mkdir(parents=True, exist_ok=True)
    draft = outbox / f".{new_id()}"
    draft.write_bytes(message.as_bytes())
    return str(draft.rename(outbox / f"{draft.name[1:]}.eml"))

"""Two tables, and the database that is open while the process lives: ``with api.db.begin() as session``."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import trio
from sqlalchemy import DateTime, Dialect, Engine, TypeDecorator, create_engine, event, insert, inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from trioaction import api, lifespan

PEOPLE = ("Ada Lovelace", "Grace Hopper", "Alan Turing", "Barbara Liskov", "Edsger Dijkstra")


def new_id() -> str:
    return uuid.uuid4().hex


def now() -> datetime:
    return datetime.now(UTC)


class Moment(TypeDecorator[datetime]):
    """A point in time; SQLite forgets that it was UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and value.replace(tzinfo=value.tzinfo or UTC)


class Table(DeclarativeBase):
    type_annotation_map = {datetime: Moment}


class User(Table):
    __tablename__ = "users"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str]
    email: Mapped[str] = mapped_column(unique=True)
    active: Mapped[bool] = mapped_column(default=True)
    processed_at: Mapped[datetime | None]
    times_processed: Mapped[int] = mapped_column(default=0)


class Message(Table):
    __tablename__ = "messages"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    body: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)


@lifespan
async def db() -> AsyncGenerator[sessionmaker[Session]]:
    """``DATABASE_URL``, else a SQLite file of the project; each action's ``begin()`` is a transaction."""
    folder = api.config.root / ".trioaction"
    folder.mkdir(exist_ok=True)
    url = api.config.database.url
    address = url.get_secret_value() if url else f"sqlite:///{folder}/sample.db"
    engine = await trio.to_thread.run_sync(open_engine, address)
    try:
        yield sessionmaker(engine, expire_on_commit=False)
    finally:
        engine.dispose()


def open_engine(address: str) -> Engine:
    engine = create_engine(address)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", share_between_processes)
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # two processes may start at the same time
        first_start = not inspect(connection).has_table(User.__tablename__)
        Table.metadata.create_all(connection)
        if first_start:
            people = [{"name": name, "email": f"{name.split()[0].lower()}@example.com"} for name in PEOPLE]
            connection.execute(insert(User), people)
    return engine


def share_between_processes(connection: Any, _record: object) -> None:
    for pragma in ("busy_timeout = 10000", "journal_mode = WAL", "synchronous = NORMAL"):
        connection.execute(f"PRAGMA {pragma}")

"""Settings: defaults < ``trioaction.toml`` < environment < command-line flags.

Owns what may be set, its units (seconds and bytes unless a name says otherwise) and where it comes from.
A frozen ``Settings`` is made once per process and passed down; nothing reads the environment after that.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from trioaction.errors import ConfigError
from trioaction.queue_rate import DAY, QueueRate

FILE_NAME = "trioaction.toml"
ENV_PREFIX = "TRIOACTION_"
ALIASES = {"REDIS_URL": ("redis", "url"), "DATABASE_URL": ("database", "url")}
SECRETS = frozenset({*ALIASES.values(), ("admin", "password")})
"""Settings with passwords in them: never shown."""
MIB = 1024 * 1024
LONGEST_TTL = 365 * DAY
"""Of the results of a fan-out, in seconds."""
SHORTEST_PASSWORD = 12
"""Characters."""
MOST_RENAMED = 400
"""Workers that are called after other queues in one step, or it would hold Redis up."""
MOST_PROCESSES = 256
_HOST = re.compile(r"\.?[\w-]+(\.[\w-]+)*", re.ASCII)


def _network(text: str) -> str:
    ip_network(text)
    return text


def _host(text: str) -> str:
    if text != "*" and not _HOST.fullmatch(text):
        raise ValueError("a host is a name without scheme and port, or * for all")
    return text


def _importable(target: str) -> str:
    module, _, name = target.partition(":")
    if not (name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise ValueError("it is written as package.module:Name")
    return target


def _queue(name: str) -> str:
    if name == "*" or "," in name or not name.strip():
        raise ValueError("a limit is of one queue, which is text without a comma, and not *")
    return name


def _ttl(seconds: float) -> float:
    if not 0 < seconds <= LONGEST_TTL:
        raise ValueError(f"it must be seconds, above 0 and at most a year ({LONGEST_TTL} s)")
    return seconds


class Section(BaseModel):
    """A table of ``trioaction.toml``: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskSettings(Section):
    """``[tasks]``: which jobs this process runs, and how."""

    workers: bool = True
    scheduler: bool = True
    queues: list[str] = Field(default=["*"], min_length=1)
    queues_from: Annotated[str, AfterValidator(_importable)] | None = None
    queues_every: float = Field(default=30, ge=1)
    concurrency: int = Field(default=10, ge=1, le=10_000)
    grace: float = Field(default=25, ge=0)
    lease: float = Field(default=30, gt=0)
    heartbeat: float = Field(default=5, gt=0)
    safety_check: float = Field(default=15, gt=0)
    slow: float = Field(default=60, gt=0)
    max_deaths: int = Field(default=3, ge=0)
    max_parked: int = Field(default=1000, ge=1)
    failed_max: int = Field(default=100_000, ge=0)
    failed_age: float = Field(default=180 * DAY, ge=0)
    stuck_after: float = Field(default=3600, ge=0)
    rates: dict[Annotated[str, AfterValidator(_queue)], QueueRate] = {}
    queue_concurrency: dict[Annotated[str, AfterValidator(_queue)], Annotated[int, Field(ge=1)]] = {}

    @model_validator(mode="after")
    def _fits_together(self) -> TaskSettings:
        if self.queues_from and self.concurrency > MOST_RENAMED:
            raise ValueError(f"with queues_from the concurrency is {MOST_RENAMED} at most")
        if self.heartbeat * 2 > self.lease:
            raise ValueError(
                f"a lease of {self.lease:g} s needs a heartbeat of {self.lease / 2:g} s at most, not of "
                f"{self.heartbeat:g} s, or processes would take each other for dead"
            )
        return self


class ServerSettings(Section):
    """``[server]``: of how many processes ``trioaction start`` consists; 0 is one for each core."""

    processes: int = Field(default=1, ge=0, le=MOST_PROCESSES)


class FanOutSettings(Section):
    """``[fan_out]``: defaults of ``fan_out()`` and ``open_fan_out()``."""

    batch_size: int = Field(default=100, ge=1, le=10_000)
    result_ttl: Annotated[float, AfterValidator(_ttl)] = 600
    patience: float = Field(default=60, gt=0)


class WebSettings(Section):
    """``[web]``: the HTTP and websocket server. Port 0 takes any free port."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535)
    prefix: str = Field(default="/api", pattern=r"^(/[\w.~-]+)*$")
    max_body: int = Field(default=10 * MIB, ge=1)
    max_values: int = Field(default=100_000, ge=1)
    max_headers: int = Field(default=16 * 1024, ge=1024)
    max_connections: int = Field(default=1000, ge=1)
    max_streams: int = Field(default=100, ge=0)
    request_timeout: float = Field(default=30, gt=0)
    keep_alive: float = Field(default=5, gt=0)
    allowed_hosts: list[Annotated[str, AfterValidator(_host)]] = []
    allowed_origins: list[str] = []
    websocket_path: str = Field(default="/ws", pattern=r"^/")
    websocket_max_message: int = Field(default=64 * 1024, ge=1)
    websocket_max_calls: int = Field(default=100, ge=1)


class MetricsSettings(Section):
    """``[metrics]``: what the process tells Prometheus, on the port of ``[web]``."""

    enabled: bool = True
    allow: list[Annotated[str, AfterValidator(_network)]] = ["127.0.0.0/8", "::1/128"]


class AdminSettings(Section):
    """``[admin]``: who may look at tasks and operate them over HTTP. Without either setting nobody may.

    ``middleware`` is ``package.module:Name``, a `Middleware` that decides instead of a password.
    """

    password: SecretStr | None = None
    middleware: Annotated[str, AfterValidator(_importable)] | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> AdminSettings:
        if self.password is not None and self.middleware is not None:
            raise ValueError("set password or middleware, not both: a middleware decides alone")
        return self

    @field_validator("password")
    @classmethod
    def _long_enough(cls, password: SecretStr | None) -> SecretStr | None:
        if password is not None and len(password.get_secret_value()) < SHORTEST_PASSWORD:
            raise ValueError(
                f"a password has at least {SHORTEST_PASSWORD} characters, or it could be guessed"
            )
        return password

    @property
    def enabled(self) -> bool:
        """Are there endpoints at all?"""
        return self.password is not None or self.middleware is not None


class RedisSettings(Section):
    """``[redis]``: a server of yours (``url``), or the embedded one with its data in ``data_dir``."""

    url: SecretStr | None = None
    namespace: str = Field(default="resque", min_length=1)
    data_dir: Path = Path(".trioaction")
    server: Path | None = None
    fsync: Literal["everysec", "always", "no"] = "everysec"


class ActionSettings(Section):
    """``[actions]``: where the application's actions are, and what they get by default."""

    package: str = Field(default="actions", min_length=1)
    timeout: float = Field(default=300, ge=0)
    threads: int = Field(default=40, ge=1)


class DatabaseSettings(Section):
    """``[database]``: for the application's own use, as ``api.config.database.url``."""

    url: SecretStr | None = None


class LogSettings(Section):
    """``[log]``: text for people, json for machines, auto by whether standard error is a terminal."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"
    max_value: int = Field(default=100, ge=10)
    blocked: float = Field(default=0.5, ge=0)


class Settings(BaseSettings):
    """Everything that is in force. ``root`` is the project's folder; relative paths resolve from it."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    root: Path = Field(default_factory=Path.cwd)
    server: ServerSettings = ServerSettings()
    tasks: TaskSettings = TaskSettings()
    fan_out: FanOutSettings = FanOutSettings()
    web: WebSettings = WebSettings()
    metrics: MetricsSettings = MetricsSettings()
    admin: AdminSettings = AdminSettings()
    redis: RedisSettings = RedisSettings()
    actions: ActionSettings = ActionSettings()
    database: DatabaseSettings = DatabaseSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what ``load_settings`` has merged."""
        return (init_settings,)

    @property
    def data_dir(self) -> Path:
        """Where the embedded server keeps its data, absolute."""
        return (self.root / self.redis.data_dir).resolve()


def project_root(start: Path) -> Path:
    """The nearest folder from ``start`` upwards that has a ``trioaction.toml``, else ``start`` itself."""
    start = start.resolve()
    return next((folder for folder in (start, *start.parents) if (folder / FILE_NAME).is_file()), start)


def load_settings(start: Path | None = None, flags: Mapping[str, Any] | None = None) -> Settings:
    """Merge all sources into ``Settings``; raises ConfigError naming the source and the key.

    ``flags`` is nested like the file, e.g. ``{"web": {"port": 0}}``, and wins over everything.
    """
    root = project_root(start or Path.cwd())
    sources = {
        FILE_NAME: _read_file(root / FILE_NAME),
        "the environment": _read_environment(),
        "the command line": dict(flags or {}),
    }
    merged: dict[str, Any] = {"root": root}
    for values in sources.values():
        merged = _merge(merged, values)
    try:
        return Settings(**merged)
    except ValidationError as error:
        raise _explain(error, sources) from None


def shown(settings: Settings) -> dict[str, Any]:
    """The settings as plain JSON values, secrets masked, for ``trioaction config``."""
    return settings.model_dump(mode="json")


def _read_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def _read_environment() -> dict[str, Any]:
    sections = set(Settings.model_fields) - {"root"}
    for name in os.environ:
        section = name.removeprefix(ENV_PREFIX).partition("__")[0].lower()
        if name.startswith(ENV_PREFIX) and section not in sections:
            known = ", ".join(f"{ENV_PREFIX}{s.upper()}__..." for s in sorted(sections))
            raise ConfigError(f"Environment variable {name} is not a setting; known are {known}", key=name)
    values: dict[str, Any] = {}
    for name, (section, key) in ALIASES.items():
        if os.environ.get(name):
            values.setdefault(section, {})[key] = os.environ[name]
    return _merge(values, _parse_environment())


def _parse_environment() -> dict[str, Any]:
    source = EnvSettingsSource(Settings)
    try:
        return source()
    except ValueError:
        names = [name for name, value in os.environ.items() if not _is_readable(source, name, value)]
    raise ConfigError(
        f"Environment variable {' and '.join(names)} is not JSON, as which lists and tables are written: "
        'a list like ["one", "two"], a table like {"mail": "10/s"}',
        key=next(iter(names), None),
    )


def _is_readable(source: EnvSettingsSource, name: str, value: str) -> bool:
    source.env_vars = {name.lower(): value}
    try:
        source()
    except ValueError:
        return False
    return True


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old: Any = merged.get(key)
        both_tables = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(cast("Any", old), cast("Any", value)) if both_tables else value
    return merged


def _explain(error: ValidationError, sources: Mapping[str, Mapping[str, Any]]) -> ConfigError:
    problems: list[str] = []
    for item in error.errors(include_url=False):
        location = _of_setting(item["loc"], item["input"])
        origins = (name for name in reversed(tuple(sources)) if _has(sources[name], location))
        origin = next(origins, "the defaults")
        unknown = item["type"] == "extra_forbidden"
        got = "" if _is_secret(location) else f" (got {item['input']!r})"
        message = "unknown setting" if unknown else f"{item['msg'].removeprefix('Value error, ')}{got}"
        problems.append(f"{'.'.join(map(str, location))}: {message}, from {origin}")
    return ConfigError("Bad configuration: " + "; ".join(problems), key=problems[0].partition(":")[0])


def _is_secret(location: tuple[int | str, ...]) -> bool:
    """Is it a secret, or a table that may have one in it?"""
    return any(secret[: len(location)] == location[:2] for secret in SECRETS)


def _of_setting(location: tuple[int | str, ...], value: Any) -> tuple[int | str, ...]:
    """Where a mistake is, without what pydantic adds where it is in the key of a table."""
    return location[:-1] if location[-2:] == (value, "[key]") else location


def _has(values: Mapping[str, Any], location: tuple[int | str, ...]) -> bool:
    current: Any = values
    for part in location:
        if not isinstance(current, Mapping) or part not in current:
            return current is not values and not isinstance(current, Mapping)
        current = cast("Mapping[Any, Any]", current)[part]
    return True

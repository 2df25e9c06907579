"""Puts the built-in actions into a registry, where the settings say who may call them; nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from types import ModuleType
from typing import cast

import structlog

from trioaction.action import Action, Middleware
from trioaction.builtin import delayed, failed, fleet, jobs, queues, retries
from trioaction.builtin.admission import PasswordOnly, PeopleOnly
from trioaction.builtin.answers import Shown
from trioaction.builtin.jobs import Fitting
from trioaction.builtin.operation import Operation
from trioaction.config import Settings, WebSettings
from trioaction.discovery import import_named
from trioaction.errors import ActionDefinitionError, ConfigError
from trioaction.registry import Registry, extended

MODULES = (queues, failed, delayed, retries, fleet, jobs)
log = structlog.stdlib.get_logger("trioaction")


def with_operations(settings: Settings, registry: Registry) -> Registry:
    """The registry with the built-in actions, for settings that say in ``[admin]`` who may call them.

    Raises ConfigError for a middleware that cannot be had, ActionDefinitionError if the application has an
    action or a route of the same name.
    """
    own, root = operations(), settings.root
    shown = Shown(extended(registry, own, (), root))  # jobs may be of ours, too, and have secrets
    return extended(registry, own, (PeopleOnly(), _gate(settings), Fitting(registry), shown), root)


def operations() -> list[type[Action]]:
    """All built-in actions."""
    return [cls for module in MODULES for cls in _operations_in(module)]


def warn_of_clear_text(web: WebSettings) -> None:
    """Say that passwords travel in the clear, if others than this machine can reach the server.

    Who has set ``[web] allowed_hosts`` has thought of a proxy, which speaks TLS.
    """
    if not (_is_local(web.host) or web.allowed_hosts):
        log.warning(
            "who operates tasks sends a password, and this server speaks no TLS: put a proxy that does in "
            "front of it, and name its hosts in [web] allowed_hosts",
            host=web.host,
        )


def _operations_in(module: ModuleType) -> Iterator[type[Action]]:
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Operation) and value.__module__ == module.__name__:
            yield value


def _gate(settings: Settings) -> Middleware:
    if settings.admin.password is not None:
        return PasswordOnly(settings.admin.password.get_secret_value())
    assert settings.admin.middleware is not None
    return _middleware(settings.admin.middleware, settings)


def _middleware(target: str, settings: Settings) -> Middleware:
    try:
        found = import_named(target, settings.root)
        made = _made(found)
    except ActionDefinitionError as error:
        raise _unusable(target, error.message) from error
    except TypeError as error:
        raise _unusable(target, f"it is made without arguments, but: {error}") from error
    if not isinstance(made, Middleware):
        raise _unusable(target, f"it is no Middleware, but {type(made).__name__}")
    if type(made).before is Middleware.before:
        raise _unusable(target, "it has no before(), so it would let everybody in")
    return made


def _made(found: object) -> object:
    return found() if isinstance(found, type) and issubclass(found, Middleware) else cast("object", found)


def _unusable(target: str, reason: str) -> ConfigError:
    return ConfigError(f"admin.middleware: {target} cannot be used: {reason}", key="admin.middleware")


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")

"""The project around the working folder: its settings and its actions. Nothing is run here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from trioaction.config import Settings, load_settings
from trioaction.errors import UnknownAction
from trioaction.registry import ActionSpec, Registry, discover


def project() -> tuple[Settings, Registry]:
    """The settings in force and the actions of the project; raises StartupError if either is wrong."""
    settings = load_settings()
    return settings, discover(settings.actions.package, settings.root)


def named(name: str, registry: Registry, known: Iterable[str] = ()) -> ActionSpec:
    """The action of that name; raises UnknownAction, which tells names like it, ``known`` ones too."""
    if name in registry:
        return registry.get(name)
    words = [*known, *(spec.name for spec in registry)]
    near = difflib.get_close_matches(name, [word for word in words if not word.startswith("-")], n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise UnknownAction(
        f"There is no command or action {name!r}{hint} (`trioaction actions` lists the actions)"
    )

"""The project around the working folder: its settings and its actions. Nothing is run here."""

from __future__ import annotations

from trioaction.config import Settings, load_settings
from trioaction.registry import Registry, discover


def project() -> tuple[Settings, Registry]:
    """The settings in force and the actions of the project; raises StartupError if either is wrong."""
    settings = load_settings()
    return settings, discover(settings.actions.package, settings.root)

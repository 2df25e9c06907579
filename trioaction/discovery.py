"""Imports an application's package, whole, and tells which actions and lifespans are in it.

It imports and collects; whether a declaration is right is ``declaration``'s and ``registry``'s.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, TracebackType

from trioaction.action import Action
from trioaction.errors import ActionDefinitionError
from trioaction.lifespan import Lifespan


def import_tree(package: str, root: Path) -> list[ModuleType]:
    """The package and all modules below it, imported, parents first and then by name; none if it is missing.

    ``root`` becomes the first place where modules are looked for. Raises ActionDefinitionError for a module
    that cannot be imported, and for a package of that name that is another one than the project's.
    """
    _look_first_in(root)
    _claim_bare_folder(package, root)
    try:
        with _Importing(package, missing=package):
            module = importlib.import_module(package)
    except ModuleNotFoundError:
        return []
    _check_that_it_is_ours(module, package, root)
    return [module, *_import_below(module)]


def import_named(target: str, root: Path) -> object:
    """What ``package.module:name`` names, looked for as the package of actions is.

    Raises ActionDefinitionError if there is no such module or name, or the module cannot be imported.
    """
    _look_first_in(root)
    module, _, name = target.partition(":")
    with _Importing(module):
        found = importlib.import_module(module)
    try:
        return getattr(found, name)
    except AttributeError:
        raise ActionDefinitionError(f"The module {module} has no {name}") from None


def actions_in(modules: Iterable[ModuleType], package: str) -> list[type[Action]]:
    """Action classes that were defined in the package, in the order of modules and lines."""
    found = (value for value in _values(modules) if inspect.isclass(value) and issubclass(value, Action))
    return list(dict.fromkeys(cls for cls in found if _is_within(cls.__module__, package)))


def lifespans_in(modules: Iterable[ModuleType], package: str) -> list[Lifespan]:
    """Lifespans in the order of modules and lines; one that other modules import counts where it was made."""
    found: dict[int, Lifespan] = {}
    for module in modules:
        for value in _values([module]):
            if not isinstance(value, Lifespan):
                continue
            home = getattr(value.factory, "__module__", "")
            if home == module.__name__ or not _is_within(home, package):
                found.setdefault(id(value), value)
    return list(found.values())


def _values(modules: Iterable[ModuleType]) -> Iterator[object]:
    return (value for module in modules for value in vars(module).values())


def _is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _look_first_in(root: Path) -> None:
    place = str(root)
    if sys.path[:1] != [place]:
        sys.path[:] = [place, *(other for other in sys.path if other != place)]
    importlib.invalidate_caches()


def _claim_bare_folder(package: str, root: Path) -> None:
    """A folder without ``__init__.py`` is a package too, but Python prefers any later one on its path that
    has it.
    """
    folder = root / package
    has_code = (folder / "__init__.py").exists() or folder.with_suffix(".py").exists()
    if "." in package or package in sys.modules or has_code or not folder.is_dir():
        return
    spec = ModuleSpec(package, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    sys.modules[package] = importlib.util.module_from_spec(spec)


def _check_that_it_is_ours(module: ModuleType, package: str, root: Path) -> None:
    folder = root.joinpath(*package.split("."))
    wanted = {path.resolve() for path in (folder, folder.with_suffix(".py")) if path.exists()}
    file = getattr(module, "__file__", None)
    places = [*getattr(module, "__path__", []), *([file] if file else [])]
    if wanted and wanted.isdisjoint(Path(place).resolve() for place in places):
        raise ActionDefinitionError(
            f"The package {package} of this project is hidden by another one of that name at {places[0]}; "
            "rename it and set `package` under [actions] in trioaction.toml"
        )


def _import_below(parent: ModuleType) -> Iterator[ModuleType]:
    for name in _names_below(parent):
        full = f"{parent.__name__}.{name}"
        with _Importing(full):
            module = importlib.import_module(full)
        yield module
        yield from _import_below(module)


def _names_below(module: ModuleType) -> list[str]:
    """Modules and folders with modules, whether they have an ``__init__.py`` or not."""
    paths = [str(path) for path in getattr(module, "__path__", ())]
    names = {info.name for info in pkgutil.iter_modules(paths)} - {"__main__"}
    folders = {folder for path in paths for folder in Path(path).iterdir() if folder.name.isidentifier()}
    return sorted(
        names | {folder.name for folder in folders if folder.is_dir() and any(folder.rglob("*.py"))}
    )


class _Importing:
    """What a module raises while it is imported becomes an error that names the module and the line.

    That ``missing`` itself does not exist, rather than something that it imports, is left as it is.
    """

    def __init__(self, module: str, *, missing: str | None = None) -> None:
        self._module = module
        self._missing = missing

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not isinstance(error, (Exception, SystemExit)):
            return
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        if absent and self._missing and _is_within(self._missing, absent):
            return
        raise ActionDefinitionError(
            f"Cannot import {self._module} ({_place(error, self._module)}): {type(error).__name__}: {error}"
        ) from error


def _place(error: BaseException, module: str) -> str:
    """The line of the module that raised, as far as it got to run."""
    parent = module.rpartition(".")[0]
    spec = importlib.util.find_spec(module) if not parent or parent in sys.modules else None
    file = spec.origin if spec and spec.origin else module
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{file}:{lines[-1]}" if lines else file

"""What an ``Inputs`` model says of its fields: the names callers use, which are required, which are secret.

Reads models; never validates with them.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any, cast

from pydantic import AliasChoices, AliasPath, BaseModel, Secret, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

RESERVED = re.compile("_fanOut.*|_attempt|_jobId")
"""Names of inputs that are ours: with them a caller could fake the end of another's child."""
_FIELD_MARKS = ("__dataclass_fields__", "__required_keys__", "_fields")
_SECRETS = (SecretStr, SecretBytes, Secret)


def accepted_names(model: type[BaseModel]) -> frozenset[str]:
    """The names of inputs as callers write them."""
    return frozenset(name for group in written_names(model).values() for name in group)


def written_names(model: type[BaseModel]) -> dict[str, set[str]]:
    """The names that callers may write for each field."""
    config = model.model_config
    by_name = bool(config.get("populate_by_name") or config.get("validate_by_name"))
    if config.get("validate_by_alias") is False:
        return {name: {name} for name in model.model_fields}
    return {name: _written(name, info, by_name=by_name) for name, info in model.model_fields.items()}


def secret_names(model: type[BaseModel]) -> frozenset[str]:
    """Names and aliases of the inputs that are secret, or have something secret anywhere inside them."""
    return frozenset(
        name
        for field, info in model.model_fields.items()
        if _is_secret(info, set())
        for name in (field, *_written(field, info, by_name=True))
    )


def required_names(model: type[BaseModel]) -> list[str]:
    """The fields that a call cannot leave out."""
    return [name for name, info in model.model_fields.items() if info.is_required()]


def takes_any_name(model: type[BaseModel]) -> bool:
    """Whether the model keeps inputs that it does not declare."""
    return model.model_config.get("extra") == "allow"


def _written(name: str, info: FieldInfo, *, by_name: bool) -> set[str]:
    alias = info.validation_alias if info.validation_alias is not None else info.alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    firsts = (choice.path[0] if isinstance(choice, AliasPath) else choice for choice in choices)
    aliases = {first for first in firsts if isinstance(first, str)}
    return aliases | {name} if by_name or not aliases else aliases


def _is_secret(info: FieldInfo, seen: set[Any]) -> bool:
    extra: Any = info.json_schema_extra
    marked = isinstance(extra, Mapping) and bool(cast("Mapping[str, Any]", extra).get("secret"))
    return marked or any(_hides(part, seen) for part in (info.annotation, *info.metadata))


def _hides(annotation: Any, seen: set[Any]) -> bool:
    """Whether a type is secret or has a secret part; ``seen`` ends the search in recursive types."""
    if isinstance(annotation, FieldInfo):
        return _is_secret(annotation, seen)
    if isinstance(annotation, type):
        if issubclass(annotation, _SECRETS):
            return True
        if annotation in seen:
            return False
        seen.add(annotation)
    return any(_hides(part, seen) for part in _parts(annotation))


def _parts(annotation: Any) -> Iterator[Any]:
    """What a type is made of: arguments, fields of models, dataclasses, typed dicts and named tuples."""
    yield from typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if isinstance(origin, type):
        yield origin
    if hasattr(annotation, "__value__"):
        yield annotation.__value__
    if _is_model(annotation):
        yield from annotation.model_fields.values()
    elif _has_typed_fields(annotation):
        yield from typing.get_type_hints(annotation, include_extras=True).values()


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _has_typed_fields(annotation: Any) -> bool:
    """Dataclasses, typed dicts (typing_extensions' too) and named tuples."""
    return isinstance(annotation, type) and any(hasattr(annotation, mark) for mark in _FIELD_MARKS)

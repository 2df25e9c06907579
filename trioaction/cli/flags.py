"""Flags from an action's ``Inputs``, and raw inputs from flags.

Pure: it reads the model's JSON schema and words of a command line, and runs nothing. It never coerces or
checks a value, because the model does that at the executor, which reports every problem at once.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, cast

from cyclopts import App, Parameter
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from trioaction.cli import output
from trioaction.errors import MalformedRequest

Shape = Literal["one", "many", "switch", "nested"]
Schema = Mapping[str, Any]
ALWAYS = frozenset({"--help", "-h", "--json", "--quiet", "-q"})
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One input as a flag. ``names`` is empty for what only ``--json`` can carry."""

    key: str
    names: tuple[str, ...]
    shape: Shape
    kind: str
    help: str = ""
    default: str | None = None
    required: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """What the words after an action's name ask for."""

    raw: dict[str, Any]
    quiet: bool
    watch: bool = False
    options: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Command:
    """What runs an action, or does something else with it: the flags that it has beside the action's.

    ``options`` are those with a value, by their names: what each says in the help.
    """

    words: str = ""
    watch: str = ""
    options: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def names(self) -> frozenset[str]:
        """Flags that no input can have."""
        watch = ("--watch",) if self.watch else ()
        return ALWAYS.union(watch, (f"--{name}" for name in self.options))


RUN = Command(watch="Follow the fan-outs that it starts until they are finished, with bars.")
QUIET = "Only the result, as JSON on one line, and no log below errors."


def flags_of(
    model: type[BaseModel] | None, secrets: frozenset[str] = frozenset(), command: Command = RUN
) -> list[Flag]:
    """One flag for each input, in the order of the model; defaults of secrets are not shown."""
    if model is None:
        return []
    schema = model.model_json_schema(schema_generator=_LenientSchema)
    required = set(schema.get("required", ()))
    taken = set(command.names)
    flags: list[Flag] = []
    for key, raw in schema.get("properties", {}).items():
        flag = _flag(
            key, raw, schema.get("$defs", {}), taken, required=key in required, secret=key in secrets
        )
        taken.update(flag.names)
        flags.append(flag)
    return flags


def parse(
    name: str, description: str, flags: Sequence[Flag], words: Sequence[str], command: Command = RUN
) -> Call | None:
    """The call that the words mean, or None if they asked for help, which is then on standard output.

    Raises cyclopts' errors for words that are no flags or lack a value, MalformedRequest for bad JSON.
    """
    app = App(
        name=f"trioaction {command.words}{name}",
        help=description,
        help_format="plaintext",
        group_commands="Flags",
        group_parameters="Flags",
        version_flags=(),
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
    )
    app.default(_command(flags, command))
    with output.in_one():  # nothing but help is printed
        return app(list(words))


class _LenientSchema(GenerateJsonSchema):
    """A type that JSON schema cannot describe is any value, not an error."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:
        return {}


def _flag(
    key: str, raw: Schema, definitions: Schema, taken: set[str], *, required: bool, secret: bool
) -> Flag:
    schema = _resolved(raw, definitions)
    shape = _shape(schema, definitions)
    dashed = _WORD_START.sub("-", key).replace("_", "-").lower()
    names = tuple(name for name in dict.fromkeys((f"--{dashed}", f"--{key}")) if name not in taken)
    default = raw.get("default")
    return Flag(
        key=key,
        names=() if shape == "nested" else names,
        shape=shape if names else "nested",
        kind=_kind(schema, definitions),
        help=raw.get("description") or schema.get("description", ""),
        default=None if secret or default in (None, "", [], {}) else _written(default),
        required=required,
        choices=tuple(_written(choice) for choice in _choices(_item(schema, definitions))),
    )


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    """The schema itself, behind references and ``| None``."""
    if "$ref" in schema:
        return _resolved(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    variants = [variant for variant in schema.get("anyOf", ()) if variant.get("type") != "null"]
    return _resolved(variants[0], definitions) if len(variants) == 1 else schema


def _shape(schema: Schema, definitions: Schema) -> Shape:
    if schema.get("type") == "boolean":
        return "switch"
    if schema.get("type") == "array":
        return "many" if _is_scalar(_item(schema, definitions), definitions) else "nested"
    return "one" if _is_scalar(schema, definitions) else "nested"


def _is_scalar(schema: Schema, definitions: Schema) -> bool:
    variants = schema.get("anyOf") or schema.get("oneOf")
    if variants:
        return all(_is_scalar(_resolved(variant, definitions), definitions) for variant in variants)
    return schema.get("type") not in {"object", "array"}


def _item(schema: Schema, definitions: Schema) -> Schema:
    """What is repeated, for a list; else the schema itself."""
    return _resolved(schema.get("items", {}), definitions) if schema.get("type") == "array" else schema


def _choices(schema: Schema) -> Sequence[Any]:
    return schema.get("enum") or ([schema["const"]] if "const" in schema else [])


def _kind(schema: Schema, definitions: Schema) -> str:
    """What kind of value it is, in one word for the help."""
    item = _item(schema, definitions)
    if schema.get("type") == "array" and not _is_scalar(item, definitions):
        return "list"
    return str(item.get("format") or item.get("type") or "value")


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _command(flags: Sequence[Flag], command: Command) -> Any:
    """A function whose signature has the flags as keyword arguments, for cyclopts to read."""
    given = [flag for flag in flags if flag.names]
    nested = [f"{flag.key} ({flag.kind})" for flag in flags if not flag.names]

    def call(
        *, json_text: str | None = None, quiet: bool = False, watch: bool = False, **values: Any
    ) -> Call:
        flagged = {flag.key: values[f"input_{n}"] for n, flag in enumerate(given) if f"input_{n}" in values}
        options = {name: values[f"own_{name}"] for name in command.options if f"own_{name}" in values}
        return Call(_json_object(json_text) | flagged, quiet, watch, options)

    parameters = [_parameter(f"input_{n}", flag) for n, flag in enumerate(given)]
    parameters += _own_parameters(nested, command)
    call.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


_TYPES: Mapping[Shape, Any] = {"one": str, "many": list[str], "switch": bool}


def _parameter(name: str, flag: Flag) -> inspect.Parameter:
    negative = f"--no-{flag.names[0].removeprefix('--')}" if flag.shape == "switch" else ""
    choices = f"One of: {', '.join(flag.choices)}." if flag.choices else ""
    told = " ".join(part for part in (flag.help, choices, "[required]" if flag.required else "") if part)
    settings = Parameter(
        name=flag.names,
        negative=negative,
        help=told,
        metavar=flag.kind.upper(),
        show_default=False if flag.default is None else (lambda _: flag.default),
        required=False,
    )
    return _keyword(name, _TYPES[flag.shape], settings)


def _own_parameters(nested: Sequence[str], command: Command) -> list[inspect.Parameter]:
    only = f" The only way for: {', '.join(nested)}." if nested else ""
    json_help = f"Inputs as one JSON object; flags win over it.{only}"
    quiet = Parameter(name=("--quiet", "-q"), help=QUIET, negative="", required=False)
    watch = Parameter(name="--watch", help=command.watch, negative="", required=False)
    return [
        _keyword("json_text", str, Parameter(name="--json", help=json_help, metavar="JSON", required=False)),
        _keyword("quiet", bool, quiet),
        *([_keyword("watch", bool, watch)] if command.watch else []),
        *(
            _keyword(f"own_{name}", str, Parameter(name=f"--{name}", help=told, required=False))
            for name, told in command.options.items()
        ),
    ]


def _keyword(name: str, kind: Any, settings: Parameter) -> inspect.Parameter:
    annotation = Annotated[kind | None, settings]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _json_object(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise MalformedRequest(f"--json is not valid JSON: {error}", key="json") from None
    if not isinstance(value, dict):
        raise MalformedRequest("--json takes a JSON object, such as '{\"age\": 5000}'", key="json")
    return cast("dict[str, Any]", value)

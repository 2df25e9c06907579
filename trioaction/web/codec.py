"""Requests and messages to raw inputs, outcomes to bytes.

Pure: bytes and plain values in and out, no request object of any framework, so that whatever reads the socket
can use it. It never validates inputs, which is the executor's work.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from http import HTTPStatus
from math import isfinite
from types import UnionType
from typing import Annotated, Any, TypeGuard, Union, cast, get_args, get_origin
from urllib.parse import parse_qsl

import structlog
from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, from_json, to_json

from trioaction.errors import (
    MalformedRequest,
    MethodNotAllowed,
    PayloadTooLarge,
    ResultNotJson,
    TrioactionError,
    Unauthorized,
    UnsupportedMediaType,
)
from trioaction.outcome import Outcome, encode_result

MAX_FIELDS = 1000
"""Of a query string or a form: decoding them is slow, and no action has as many inputs."""
SAFETY_HEADERS = (("x-content-type-options", "nosniff"), ("cache-control", "no-store"))
JSON_HEADERS = (("content-type", "application/json; charset=utf-8"), *SAFETY_HEADERS)
RETRY_AFTER_SECONDS = "1"
CHALLENGES = ('Basic realm="trioaction", charset="UTF-8"', 'Bearer realm="trioaction"')
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+\\?(?:"|\Z)', re.DOTALL)
_log = structlog.stdlib.get_logger("trioaction.web")

MessageId = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response; header names are in lower case. ``stream`` is the body where its end is not known."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    stream: AsyncIterator[bytes] | None = None

    def plus(self, *headers: tuple[str, str]) -> Answer:
        """The same with more headers."""
        return replace(self, headers=(*self.headers, *headers))


def list_fields(model: type[BaseModel] | None) -> frozenset[str]:
    """The inputs, by every name they have, for which ``?a=1&a=2`` is a list and ``?a=1`` one of one item."""
    if model is None:
        return frozenset()
    fields = ((name, info) for name, info in model.model_fields.items() if _is_many(info.annotation))
    return frozenset(name for field, info in fields for name in (field, *_aliases(info)))


def _aliases(field: FieldInfo) -> list[str]:
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias, field.alias]
    return [choice for choice in choices if isinstance(choice, str)]


def _is_many(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_many(get_args(annotation)[0])
    if origin is Union or origin is UnionType:
        return any(_is_many(member) for member in get_args(annotation))
    if aliased := getattr(origin or annotation, "__value__", None):
        return _is_many(aliased)
    kind = origin or annotation
    if not isinstance(kind, type) or issubclass(kind, (str, bytes, bytearray, Mapping)):
        return False
    return issubclass(kind, Collection) and not issubclass(kind, BaseModel)


def decode(
    *,
    path: Mapping[str, str],
    query: bytes,
    body: bytes,
    content_type: str,
    lists: AbstractSet[str],
    max_values: int,
) -> dict[str, Any]:
    """The raw inputs of a request: path parameters win over the body, the body over the query string.

    Raises MalformedRequest, PayloadTooLarge or UnsupportedMediaType, and nothing else.
    """
    inputs: dict[str, Any] = {}
    if query:
        inputs = _decode_pairs(query, lists, "query string")
    if body:
        inputs.update(_decode_body(body, content_type, lists, max_values))
    inputs.update(path)
    return inputs


def _decode_body(body: bytes, content_type: str, lists: AbstractSet[str], max_values: int) -> dict[str, Any]:
    media = content_type.partition(";")[0].strip().lower()
    if media == "application/json" or (media.startswith("application/") and media.endswith("+json")):
        _refuse_many_values(body, max_values)
        return decode_object(body, "body")
    if media == "application/x-www-form-urlencoded":
        return _decode_pairs(body, lists, "form")
    shown = f"{media[:100]} is not understood" if media else "The body has no Content-Type"
    raise UnsupportedMediaType(f"{shown}: send application/json or application/x-www-form-urlencoded")


def _refuse_many_values(body: bytes, most: int) -> None:
    """Each value may be an invalid input, and pydantic keeps some 500 bytes for each of those."""
    if body.count(b",") >= most and _STRINGS.sub(b"", body).count(b",") >= most:
        raise PayloadTooLarge(f"The body has more than {most} values ([web] max_values)")


def decode_object(text: bytes | str, what: str) -> dict[str, Any]:
    """A JSON object; raises MalformedRequest that says where it is wrong. Infinities are not JSON."""
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise MalformedRequest(f"The {what} is not valid JSON: {error}") from None
    if not _is_object(value):
        raise MalformedRequest(f"The {what} is not a JSON object")
    if b"Infinity" in to_json(value) and not _all_finite(value):  # from_json makes one of 1e999
        raise MalformedRequest(f"The {what} has a number that is too large")
    return value


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _all_finite(value: object) -> bool:
    if isinstance(value, dict):
        return all(_all_finite(item) for item in cast("dict[str, object]", value).values())
    if isinstance(value, list):
        return all(_all_finite(item) for item in cast("list[object]", value))
    return not isinstance(value, float) or isfinite(value)


def _decode_pairs(text: bytes, lists: AbstractSet[str], what: str) -> dict[str, Any]:
    try:
        pairs = parse_qsl(text.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except UnicodeDecodeError:
        raise MalformedRequest(f"The {what} is not valid UTF-8") from None
    except ValueError:
        raise MalformedRequest(f"The {what} has more than {MAX_FIELDS} fields") from None
    inputs: dict[str, Any] = {}
    for name, value in pairs:
        if name in lists:
            inputs.setdefault(name, []).append(value)
        else:
            inputs[name] = value
    return inputs


def encode(action: str, outcome: Outcome) -> Answer:
    """The response to a call."""
    body = _encode_outcome(action, outcome)
    return encode_error(body) if isinstance(body, TrioactionError) else _json(HTTPStatus.OK, body)


def _encode_outcome(action: str, outcome: Outcome) -> bytes | TrioactionError:
    if outcome.error is not None:
        return outcome.error
    try:
        return encode_result(outcome.result)
    except ResultNotJson as error:
        _log.error("result is not JSON", action=action, error=error.message)
        return error


def encode_json(value: Any, status: int = HTTPStatus.OK) -> Answer:
    """A response of the server's own, of plain values."""
    return _json(status, to_json(value))


def encode_error(error: TrioactionError) -> Answer:
    """The response for an error: its status, and its JSON form under ``error``."""
    status = error.http_status if HTTPStatus.BAD_REQUEST <= error.http_status < 600 else 500
    answer = _json(status, b'{"error":%b}' % _encode_error(error))
    if isinstance(error, MethodNotAllowed):
        return answer.plus(("allow", ", ".join(error.allowed)))
    if isinstance(error, Unauthorized):  # not for an application's own 401: browsers would ask for a password
        return answer.plus(*(("www-authenticate", challenge) for challenge in CHALLENGES))
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return answer.plus(("retry-after", RETRY_AFTER_SECONDS))
    return answer


def _json(status: int, body: bytes) -> Answer:
    return Answer(status, (*JSON_HEADERS, ("content-length", str(len(body)))), body)


def _encode_error(error: TrioactionError) -> bytes:
    """An application may give any object as the value that was wrong, even one that cannot be written."""
    form = error.to_json()
    try:
        return to_json(form, serialize_unknown=True, inf_nan_mode="null")
    except (PydanticSerializationError, ValueError, RecursionError):
        message = str(form["message"]).encode(errors="backslashreplace").decode()
        return to_json({"message": message, "type": error.type, "timestamp": form["timestamp"]})


@dataclass(frozen=True, slots=True)
class Message:
    """A websocket message that asks for a call."""

    action: str
    params: dict[str, Any]


def decode_message(data: str | bytes | None) -> tuple[MessageId, Message | TrioactionError]:
    """What a client sent, or what is wrong with it; its id as far as it could be read."""
    try:
        message = decode_object(data or b"", "message")
    except MalformedRequest as error:
        return None, error
    message_id = message.get("messageId")
    if not isinstance(message_id, MessageId):
        return None, MalformedRequest("messageId must be a string, a number, a boolean or null")
    try:
        return message_id, _decode_call(message)
    except MalformedRequest as error:
        return message_id, error


def _decode_call(message: dict[str, Any]) -> Message:
    if message.get("messageType") != "action":
        raise MalformedRequest('messageType must be "action"', key="messageType")
    action, params = message.get("action"), message.get("params")
    if not isinstance(action, str) or not action:
        raise MalformedRequest("action must be the name of an action", key="action")
    if params is None:
        return Message(action, {})
    if not _is_object(params):
        raise MalformedRequest("params must be an object", key="params")
    return Message(action, params)


def encode_reply(message_id: MessageId, action: str, outcome: Outcome) -> str:
    """The websocket message that answers a call."""
    body = _encode_outcome(action, outcome)
    if isinstance(body, TrioactionError):
        return encode_error_reply(message_id, body)
    return (b'{"messageId":%b,"response":%b}' % (to_json(message_id), body)).decode()


def encode_error_reply(message_id: MessageId, error: TrioactionError) -> str:
    """The websocket message that refuses a call, or tells how it failed."""
    return (b'{"messageId":%b,"error":%b}' % (to_json(message_id), _encode_error(error))).decode()

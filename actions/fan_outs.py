"""Fan-outs: how far one has come, for whoever has its id."""

from __future__ import annotations

from pydantic import BaseModel, Field

from trioaction import Action, Web, api


class FanOutStatus(Action):
    """Look up a fan-out by its id; one that is unknown or expired has zeros.

    Of the results and of the errors, one page is shown: at most ``limit``, from ``offset`` on.
    """

    name = "fanOut:status"
    web = Web("GET", "/fanOut/{fan_out_id}")

    class Inputs(BaseModel):
        fan_out_id: str
        offset: int = Field(0, ge=0, le=2**32)
        limit: int = Field(1000, ge=0, le=1000)

    async def run(self, params: Inputs) -> object:
        page = slice(params.offset, params.offset + params.limit)
        return await api.actions.fan_out_status(params.fan_out_id, results=page)

"""Fan-outs: how far one has come, for whoever has its id."""

from __future__ import annotations

from pydantic import BaseModel

from trioaction import Action, Web, api


class FanOutStatus(Action):
    """Look up a fan-out by its id; one that is unknown or expired has zeros."""

    name = "fanOut:status"
    web = Web("GET", "/fanOut/{fan_out_id}")

    class Inputs(BaseModel):
        fan_out_id: str

    async def run(self, params: Inputs) -> object:
        return await api.actions.fan_out_status(params.fan_out_id)

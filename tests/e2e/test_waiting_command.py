"""`trioaction enqueue`, `delayed`, `retries`, `workers`, `locks` and `recurring`."""

from __future__ import annotations

import json

import pytest
from e2e.desks import Desk, mail

from trioaction.resque.payload import encode


def test_a_job_is_enqueued_with_the_flags_of_its_action(desk: Desk) -> None:
    ran = desk.run(
        "enqueue", "mail:send", "--copies", "3", "--ids", "1", "--ids", "2", "--loud", "--to", "5", "-q"
    )
    shown = json.loads(ran.out)
    assert ran.out.count("\n") == 1
    assert (shown["action"], shown["queue"], shown["due"], shown["enqueued"]) == (
        "mail:send",
        "mail",
        None,
        True,
    )
    [raw] = desk.call("LRANGE", desk.key("queue:mail"), 0, -1)
    # as a program has them: numbers are numbers, and texts are texts
    assert json.loads(raw)["args"] == [{"copies": 3, "ids": [1, 2], "loud": True, "to": "5"}]
    assert desk.call("SCARD", desk.key("workers")) == 0


def test_secrets_are_enqueued_as_they_were_given(desk: Desk) -> None:
    desk.run("enqueue", "mail:send", "--token", "hunter2", "--queue", "slow")
    [raw] = desk.call("LRANGE", desk.key("queue:slow"), 0, -1)
    assert json.loads(raw)["args"] == [{"token": "hunter2"}]


def test_what_is_an_option_of_enqueue_is_given_as_json_where_an_input_is_called_so(desk: Desk) -> None:
    assert "only way for: at" in " ".join(
        desk.run("enqueue", "mail:send", "--help").out.replace("│", " ").split()
    )
    desk.run("enqueue", "mail:send", "--json", '{"at": "noon"}', "--at", "2030-12-24T08:00+01:00")
    [job] = desk.json("delayed", "list")["jobs"]
    assert (job["due"], job["args"]) == ("2030-12-24T07:00:00.000Z", [{"at": "noon"}])


def test_a_job_is_put_off(desk: Desk) -> None:
    first = json.loads(desk.run("enqueue", "mail:send", "--in", "1h", "-q").out)
    assert first["due"] is not None
    assert (
        json.loads(desk.run("enqueue", "mail:send", "--at", "1900000000").out)["due"]
        == "2030-03-17T17:46:40.000Z"
    )
    for words in (("--in", "soon"), ("--in", "1h", "--at", "5"), ("--at", "2030-12-24T08:00"), ("--in=-5",)):
        ran = desk.run("enqueue", "mail:send", *words, code=2)
        assert (ran.out, "Traceback" in ran.err) == ("", False)
    assert desk.json("delayed", "list")["count"] == 2


def test_inputs_are_checked_before_anything_is_written(desk: Desk) -> None:
    ran = desk.run("enqueue", "mail:send", "--copies", "many", code=2)
    assert "copies" in ran.err
    assert desk.call("EXISTS", desk.key("queue:mail")) == 0
    assert "did you mean mail:send" in desk.run("enqueue", "mail:sent", code=2).err
    assert "ACTION" in desk.run("enqueue", code=2).err.upper()


def test_a_refused_unique_job_is_told(desk: Desk) -> None:
    assert json.loads(desk.run("enqueue", "alone").out)["enqueued"] is True
    ran = desk.run("enqueue", "alone", code=1)
    assert json.loads(ran.out)["enqueued"] is False
    assert "alone is unique, and an equal job waits" in ran.err
    [lock] = desk.json("locks", "list")["locks"]
    assert lock["kind"] == "queued"
    assert desk.run("locks", "list", "--contains", "alone").out.count("\n") == 2
    assert desk.run("locks", "remove", lock["id"][:9], "--yes").out == "1 deleted\n"
    desk.run("locks", "remove", lock["id"], "-y", code=1)
    desk.run("enqueue", "alone")


def test_delayed_jobs_are_run_and_removed(desk: Desk) -> None:
    for name in ("ada", "bob", "eve", "zoe"):
        desk.run("enqueue", "mail:send", "--in", "1d", "--to", name, "--token", "hunter2")
    page = desk.json("delayed", "list", "--limit", "1")
    assert page["next"] is not None
    ran = desk.run("delayed", "list")
    assert "hunter2" not in ran.out
    assert "[[secret]]" in ran.out
    jobs = {job["args"][0]["to"]: job["id"] for job in desk.json("delayed", "list")["jobs"]}
    assert desk.json("delayed", "run", jobs["ada"]) == {"started": 1, "missing": []}
    assert desk.json("delayed", "run", jobs["ada"], code=1)["missing"] == [jobs["ada"]]
    given = json.dumps({"to": "bob", "token": "hunter2"})
    assert desk.json("delayed", "run", "--json-inputs", given) == {"started": 1}
    assert desk.json("delayed", "remove", jobs["eve"][:6], "-y") == {"deleted": 1, "missing": []}
    assert desk.json("delayed", "remove", "--action", "mail:send", "-y") == {"deleted": 1}
    assert desk.length("queue:mail") == 2
    assert desk.json("delayed", "repair") == {"mended": 0}


def test_delayed_jobs_are_moved_and_their_times_are_told(desk: Desk) -> None:
    given = json.dumps({"to": "ada"})
    for when in ("2030-12-24T08:00Z", "2031-12-24T08:00Z"):
        desk.run("enqueue", "mail:send", "--at", when, "--to", "ada")
    desk.run("enqueue", "mail:send", "--in", "1d", "--queue", "slow")
    ran = desk.run("delayed", "times", "mail:send", "--json-inputs", given)
    assert ran.out == "2030-12-24T08:00:00Z\n2031-12-24T08:00:00Z\n"
    assert desk.json("delayed", "times", "mail:send", "--queue", "slow")["times"] != []
    assert desk.json("delayed", "times", "mail:send", code=1) == {"times": []}
    assert "give --queue" in desk.run("delayed", "times", "other", code=2).err
    job = next(job for job in desk.json("delayed", "list")["jobs"] if job["due"][:4] == "2031")
    moved = desk.json("delayed", "move", job["id"], "--at", "2029-01-01T00:00Z")
    assert moved == {"moved": 1, "missing": []}
    times = desk.json("delayed", "times", "mail:send", "--json-inputs", given)["times"]
    assert [time[:4] for time in times] == ["2029", "2031"]  # of equal ones it is the one due first
    assert desk.run("delayed", "move", "--queue", "mail", "--at", "1900000000").out == "2 moved\n"
    assert desk.json("delayed", "times", "mail:send", "--json-inputs", given) == {
        "times": ["2030-03-17T17:46:40.000Z"]
    }
    for words in ((), ("--in", "soon"), ("--in", "1h", "--at", "5")):
        assert "Traceback" not in desk.run("delayed", "move", "--all", *words, code=2).err
    assert "Say which" in desk.run("delayed", "move", "--in", "1h", code=2).err


def test_who_waits_for_a_lock_is_shown(desk: Desk) -> None:
    name = 'mail:send:mail:[{"token":"hunter2"}]'
    desk.call("SADD", desk.key("queues"), "mail")
    desk.call("RPUSH", desk.key(f"trioaction:waiting:{name}"), *[b"4 mail" + mail(to="ada")] * 3)
    desk.call("ZADD", desk.key("trioaction:blocked"), 5e12, name)
    [lock] = desk.json("locks", "list")["locks"]
    shown = desk.json("locks", "show", lock["id"][:6], "--limit", "2")
    assert (shown["lock"], shown["waiting"], shown["next"]) == (lock, 3, 2)
    assert [job["queue"] for job in shown["jobs"]] == ["mail", "mail"]
    ran = desk.run("locks", "show", lock["id"], "--limit", "2")
    assert "3 in all; `--offset 2` shows more" in ran.out
    assert "hunter2" not in ran.out
    assert "no lock with the id" in desk.run("locks", "show", "0" * 40, code=1).err
    assert desk.json("queues", "clear", "mail", "-y") == {"deleted": 3}


def test_retries_are_run_and_removed(desk: Desk) -> None:
    for n in range(3):
        desk.call("ZADD", desk.key("trioaction:retry"), 1_900_000_000_000 + n, mail(to=str(n)))
    ran = desk.run("retries", "list")
    assert "2030-03-17T17:46:40Z" in ran.out
    assert "hunter2" not in ran.out
    first, *_ = (job["id"] for job in desk.json("retries", "list")["jobs"])
    assert desk.json("retries", "run", first[:10]) == {"started": 1, "missing": []}
    assert desk.json("retries", "remove", "--all", "-y") == {"deleted": 2}
    assert desk.length("queue:mail") == 1


def test_what_node_resque_keeps(desk: Desk) -> None:
    desk.call("SET", desk.key("resque-retry:mail:send:[]"), 1)
    [kept] = desk.json("retries", "node")["retries"]
    assert kept["attempts"] == 2
    assert kept["id"][:10] in desk.run("retries", "node").out
    assert desk.json("retries", "forget-node", kept["id"][:6], "-y") == {"deleted": 1}
    desk.run("retries", "forget-node", kept["id"], "-y", code=1)


def test_workers(desk: Desk) -> None:
    desk.call("SADD", desk.key("workers"), "far:1:mail")
    payload = encode("mail:send", "mail", {"token": "hunter2"}).decode()
    record = f'{{"queue":"mail","run_at":"2026-11-18T10:00:00Z","payload":{payload}}}'
    desk.call("SET", desk.key("worker:far:1:mail"), record)
    ran = desk.run("workers", "list")
    assert "mail:send" in ran.out
    assert "hunter2" not in ran.out
    assert [worker["queues"] for worker in desk.json("workers", "list")["workers"]] == [["mail"]]
    assert "older" in desk.run("workers", "clean", "--older-than", "1", code=2).err


def test_recurring_actions(desk: Desk) -> None:
    assert desk.run("recurring", "list").out.splitlines()[1].split()[:2] == ["hourly", "every"]
    assert desk.json("recurring", "stop", "hourly") == {"stopped": True, "changed": True}
    assert desk.run("recurring", "stop", "hourly").out == "hourly was stopped already\n"
    assert "stopped" in desk.run("recurring", "list").out
    assert desk.json("recurring", "start", "hourly") == {"stopped": False, "changed": True}
    assert desk.json("recurring", "run", "hourly") == {"started": True}
    ran = desk.run("recurring", "run", "hourly", code=1)
    assert (ran.out, "a run of it is going on" in ran.err) == ("", True)
    assert "did you mean 'hourly'" in desk.run("recurring", "stop", "hurly", code=1).err
    assert (
        "no recurring action 'hourly#odd'"
        in desk.run("recurring", "run", "hourly", "--name", "odd", code=1).err
    )


def test_the_embedded_server_is_started_where_none_runs(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL")
    desk.run("enqueue", "mail:send", "--to", "ada")
    assert desk.json("queues", "list")["queues"] == [{"name": "mail", "length": 1, "paused": False}]

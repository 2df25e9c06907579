"""`trioaction failed` and `trioaction queues`: what people see, what changes, and exit codes."""

from __future__ import annotations

import hashlib

import pytest
from e2e.desks import Desk, mail

from trioaction.resque.payload import encode


def ids_of(desk: Desk) -> list[str]:
    return [job["id"] for job in desk.json("failed", "list")["jobs"]]


def test_failed_jobs_are_listed_masked_and_cannot_command_a_terminal(desk: Desk) -> None:
    desk.fail(mail(to="ada"), error="gone\x1b[2J\nnow")
    desk.fail(encode("other", "q", {}), queue="q")
    ran = desk.run("failed", "list")
    assert ran.out.splitlines()[1].split()[1:3] == ["mail", "mail:send"]
    assert '{"token": "[[secret]]", "to": "ada"}' in ran.out
    assert "2026-11-18T10:00:00Z  OSError: gone?[2J now" in ran.out
    assert "hunter2" not in ran.out
    assert "\x1b" not in ran.out
    page = desk.json("failed", "list", "--queue", "q")
    assert (page["count"], [job["action"] for job in page["jobs"]], page["next"]) == (2, ["other"], None)
    assert desk.json("failed", "list", "--contains", "gone")["jobs"][0]["args"][0]["token"] == "[[secret]]"
    ran = desk.run("failed", "list", "--limit", "1")
    assert ran.out.splitlines()[-1] == "2 in all; `--offset 1` shows more"
    assert "limit" in desk.run("failed", "list", "--limit", "0", code=2).err


def test_one_failed_job_is_shown_with_its_traceback(desk: Desk) -> None:
    desk.fail(mail(to="ada"))
    [id] = ids_of(desk)
    ran = desk.run("failed", "show", id[:6].upper())
    assert f"id         {id}" in ran.out
    assert ran.out.splitlines()[-2:] == ["one", "two?[2J"]
    assert "hunter2" not in ran.out
    assert desk.json("failed", "show", id)["backtrace"] == ["one", "two\x1b[2J"]
    ran = desk.run("failed", "show", "0" * 40, code=1)
    assert (ran.out, "There is no failed job" in ran.err) == ("", True)
    for word in ("12345", "g" * 6, "1" * 41):
        assert "first 6 may do" in desk.run("failed", "show", word, code=2).err


def test_an_abbreviation_of_several_ids_is_refused(desk: Desk) -> None:
    bodies: dict[str, bytes] = {}
    number, twins = 0, None
    while twins is None:
        raw = encode("other", "q", {"n": number})
        failed = b'{"payload":%s,"queue":"q"}' % raw
        beginning = hashlib.sha1(failed).hexdigest()[:6]
        twins = (bodies[beginning], failed) if beginning in bodies else None
        bodies[beginning] = failed
        number += 1
    desk.call("RPUSH", desk.key("failed"), *twins)
    one, other = (hashlib.sha1(raw).hexdigest() for raw in twins)
    ran = desk.run("failed", "retry", one[:6], code=2)
    assert f"{one[:6]} is the beginning of several ids: {one}, {other}" in ran.err
    assert desk.length("failed") == 2
    assert desk.json("failed", "retry", one) == {"retried": 1, "missing": [], "unreadable": 0}


def test_failed_jobs_are_retried(desk: Desk) -> None:
    desk.fail(mail(to="ada"), mail(to="bob"), mail(to="eve"), mail(to="zoe"))
    ada, bob, *_ = ids_of(desk)
    assert desk.run("failed", "retry", ada[:7]).out == "1 retried\n"
    ran = desk.run("failed", "retry", bob, "0" * 40, "--to", "slow", code=1)
    assert (ran.out, f"There is none (any more) with the id {'0' * 40}" in ran.err) == ("1 retried\n", True)
    assert (desk.length("queue:mail"), desk.length("queue:slow")) == (1, 1)
    assert (
        desk.run("failed", "retry", "--action", "nothing", code=1).err
        == "trioaction: There was none of these\n"
    )
    assert desk.json("failed", "retry", "--contains", "away") == {"retried": 2, "unreadable": 0}
    assert desk.json("failed", "retry", "--all", code=1) == {"retried": 0, "unreadable": 0}
    desk.call("RPUSH", desk.key("failed"), b"odd")
    assert desk.json("failed", "retry", "--all", code=1) == {"retried": 0, "unreadable": 1}
    [odd] = ids_of(desk)
    ran = desk.run("failed", "retry", odd, code=1)
    assert "1 stay in the list" in ran.err


@pytest.mark.parametrize(
    "words",
    [
        ("failed", "remove", "--all"),
        ("queues", "clear", "mail"),
        ("delayed", "remove", "--all"),
        ("retries", "remove", "--all"),
        ("retries", "forget-node", "0" * 40),
        ("locks", "remove", "0" * 40),
    ],
)
def test_nothing_is_destroyed_unasked(desk: Desk, words: tuple[str, ...]) -> None:
    desk.fail(mail())
    desk.push("mail", mail())
    ran = desk.run(*words, code=2)
    assert ran.out == ""
    assert "There is nobody to ask: say so with --yes" in ran.err
    assert (desk.length("failed"), desk.length("queue:mail")) == (1, 1)


@pytest.mark.parametrize(
    "words", [("failed", "remove"), ("failed", "retry"), ("delayed", "remove"), ("retries", "run")]
)
def test_who_chooses_nothing_does_not_get_everything(desk: Desk, words: tuple[str, ...]) -> None:
    desk.fail(mail())
    assert "Say which" in desk.run(*words, code=2).err
    assert "stands alone" in desk.run(*words, "a" * 6, "--action", "a", code=2).err
    assert desk.length("failed") == 1


@pytest.mark.parametrize("flag", ["--contains", "--action", "--queue"])
def test_an_empty_text_does_not_mean_all(desk: Desk, flag: str) -> None:
    desk.fail(mail())
    for words in (
        ("failed", "remove", flag, "", "-y"),
        ("failed", "retry", f"{flag}="),
        ("failed", "list", flag, ""),
    ):
        ran = desk.run(*words, code=2)
        assert f'Invalid value "" for {flag}. It is empty' in ran.err
    assert desk.length("failed") == 1


def test_json_has_nothing_that_a_terminal_obeys(desk: Desk) -> None:
    text = "a\x7f\x9b31mb\u0085é"
    desk.fail(mail(to=text), error=text)
    ran = desk.run("failed", "list", "--json")
    assert r"a\u007f\u009b31mb\u0085é" in ran.out
    assert all(one == "\n" or one.isprintable() for one in ran.out)
    assert ran.json["jobs"][0]["error"] == text


def test_failed_jobs_are_removed(desk: Desk) -> None:
    desk.fail(mail(to="ada"), mail(to="bob"))
    desk.fail(encode("other", "q", {}), queue="q")
    ada, *_ = ids_of(desk)
    # of two words for one entry it is the second that is missing
    assert desk.json("failed", "remove", ada, ada[:8], "--yes", code=1) == {"removed": 1, "missing": [ada]}
    assert desk.json("failed", "remove", "--queue", "q", "-y") == {"removed": 1}
    assert desk.json("failed", "remove", "--all", "-y") == {"removed": 1}
    assert desk.length("failed") == 0


def test_queues(desk: Desk) -> None:
    desk.push("mail", mail(to="ada"), mail(to="bob"), encode("other", "mail", {"n": 1}))
    assert desk.run("queues", "list").out.splitlines() == ["QUEUE  JOBS", "mail   3"]
    assert desk.run("queues", "pause", "mail").out == "mail is paused\n"
    assert desk.json("queues", "pause", "mail") == {"paused": True, "changed": False}
    assert desk.json("queues", "list") == {"queues": [{"name": "mail", "length": 3, "paused": True}]}
    assert desk.json("queues", "resume", "mail") == {"paused": False, "changed": True}
    assert desk.run("queues", "pause", "hours").out == "hours is paused\n"
    ran = desk.run("queues", "show", "mail", "--limit", "2")
    assert '"to": "ada"' in ran.out
    assert "hunter2" not in ran.out
    assert ran.out.splitlines()[-1] == "3 in all; `--offset 2` shows more"
    assert desk.json(
        "queues", "clear", "mail", "--action", "other", "--json-inputs", '{"n": 2}', "-y", code=1
    )
    assert desk.json("queues", "clear", "mail", "--action", "other", "--json-inputs", '{"n": 1}', "-y") == {
        "deleted": 1
    }
    assert desk.run("queues", "clear", "mail", "--yes").out == "2 deleted\n"


def test_an_unknown_queue_is_told_with_names_like_it(desk: Desk) -> None:
    desk.push("mails", mail())
    for words in (("show", "mial"), ("pause", "mial"), ("clear", "mial", "-y")):
        ran = desk.run("queues", *words, code=1)
        assert (ran.out, "There is no queue 'mial'; did you mean 'mail" in ran.err) == ("", True)
    assert "give --action" in desk.run("queues", "clear", "mails", "--json-inputs", "{}", "-y", code=2).err
    for text in ("{", "[]"):
        words = ("--action", "a", "--json-inputs", text, "-y")
        assert "--json-inputs" in desk.run("queues", "clear", "mails", *words, code=2).err


def test_a_key_of_a_wrong_type_is_told_by_its_name(desk: Desk) -> None:
    desk.call("SET", desk.key("failed"), "odd")
    ran = desk.run("failed", "list", code=1)
    assert "WRONGTYPE" in ran.err
    assert "Traceback" not in ran.err


def test_wrong_usage_names_the_whole_command(desk: Desk) -> None:
    assert "`trioaction failed list --help`" in desk.run("failed", "list", "--limt", "1", code=2).err
    assert "list" in desk.run("failed").out

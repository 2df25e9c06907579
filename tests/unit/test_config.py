"""Settings: where they come from, who wins, and what is said of mistakes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from trioaction.config import ENV_PREFIX, Settings, load_settings, project_root, shown
from trioaction.errors import ConfigError


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine sets is none of these tests' business."""
    for name in list(os.environ):
        if name.upper().startswith((ENV_PREFIX, "REDIS_URL", "DATABASE_URL")):
            monkeypatch.delenv(name)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty project."""
    (tmp_path / "trioaction.toml").touch()
    return tmp_path


def wrote(project: Path, text: str) -> Path:
    (project / "trioaction.toml").write_text(text, "utf-8")
    return project


def refused(project: Path, flags: Mapping[str, Any] | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_settings(project, flags)
    assert caught.value.exit_code == 2
    return caught.value


# who wins


def test_without_anything_the_defaults_are_in_force(project: Path) -> None:
    settings = load_settings(project)
    assert (settings.tasks.queues, settings.tasks.concurrency, settings.tasks.grace) == (["*"], 10, 25)
    assert (settings.fan_out.batch_size, settings.fan_out.result_ttl) == (100, 600)
    assert (settings.actions.package, settings.actions.timeout) == ("actions", 300)
    assert (settings.web.host, settings.web.port, settings.web.prefix) == ("127.0.0.1", 8080, "/api")
    assert (settings.redis.url, settings.redis.namespace) == (None, "resque")
    assert settings.data_dir == project.resolve() / ".trioaction"


@pytest.mark.parametrize(
    ("sources", "port"),
    [
        ("", 8080),
        ("file", 1001),
        ("file environment", 1002),
        ("file environment flags", 1003),
        ("file flags", 1003),
        ("environment flags", 1003),
        ("environment", 1002),
        ("flags", 1003),
    ],
)
def test_flags_win_over_the_environment_and_that_over_the_file(
    sources: str, port: int, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "file" in sources:
        wrote(project, "[web]\nport = 1001")
    if "environment" in sources:
        monkeypatch.setenv("TRIOACTION_WEB__PORT", "1002")
    flags = {"web": {"port": 1003}} if "flags" in sources else {}
    assert load_settings(project, flags).web.port == port


def test_sources_add_up_key_by_key(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrote(project, '[web]\nhost = "0.0.0.0"\nport = 1\nprefix = "/v1"')
    monkeypatch.setenv("TRIOACTION_WEB__PORT", "2")
    web = load_settings(project, {"web": {"prefix": "/v2"}}).web
    assert (web.host, web.port, web.prefix) == ("0.0.0.0", 2, "/v2")


def test_a_list_is_replaced_and_not_added_to(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrote(project, '[tasks]\nqueues = ["a", "b"]')
    monkeypatch.setenv("TRIOACTION_TASKS__QUEUES", '["c"]')
    assert load_settings(project).tasks.queues == ["c"]


def test_the_environment_is_read_whatever_the_case(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIOACTION_fan_out__Batch_Size", "7")
    assert load_settings(project).fan_out.batch_size == 7


# aliases


@pytest.mark.parametrize(("alias", "section"), [("REDIS_URL", "redis"), ("DATABASE_URL", "database")])
def test_well_known_names_are_read(
    alias: str, section: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def url() -> str | None:
        secret = getattr(load_settings(project), section).url
        return secret and secret.get_secret_value()

    wrote(project, f'[{section}]\nurl = "scheme://file"')
    assert url() == "scheme://file"
    monkeypatch.setenv(alias, "scheme://alias")
    assert url() == "scheme://alias"
    monkeypatch.setenv(f"TRIOACTION_{section.upper()}__URL", "scheme://own-name")
    assert url() == "scheme://own-name"


def test_an_empty_alias_is_none(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "")
    assert load_settings(project).redis.url is None


# mistakes


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[web]\nprot = 1", "web.prot"),
        ("[webb]\nport = 1", "webb"),
        ("port = 1", "port"),
        ("[redis.url]\nhost = 1", "redis.url"),
    ],
)
def test_an_unknown_key_of_the_file_is_named(text: str, key: str, project: Path) -> None:
    error = refused(wrote(project, text))
    assert f"{key}: " in error.message
    assert "from trioaction.toml" in error.message
    assert error.key == key


def test_an_unknown_key_of_the_environment_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIOACTION_WEB__PROT", "1")
    error = refused(project)
    assert "web.prot: unknown setting, from the environment" in error.message


@pytest.mark.parametrize("name", ["TRIOACTION_WEBB__PORT", "TRIOACTION_PORT", "TRIOACTION_ROOT"])
def test_a_variable_of_no_section_is_an_error_that_lists_them(
    name: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    error = refused(project)
    assert name in error.message
    assert "TRIOACTION_WEB__..." in error.message
    assert error.key == name


def test_an_unknown_flag_is_named(project: Path) -> None:
    assert (
        "web.prot: unknown setting, from the command line" in refused(project, {"web": {"prot": 1}}).message
    )


@pytest.mark.parametrize("value", ["[a", "a,b", "'a'"])
def test_a_list_that_is_not_json_is_told_how_to_be_written(
    value: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIOACTION_TASKS__QUEUES", value)
    message = refused(project).message
    assert message.startswith("Environment variable TRIOACTION_TASKS__QUEUES is not JSON")
    assert 'a list like ["one", "two"]' in message


def test_a_table_that_is_not_json_is_told_how_to_be_written(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIOACTION_TASKS__QUEUES", '["a"]')
    monkeypatch.setenv("TRIOACTION_TASKS__RATES", "mail=10/s")
    error = refused(project)
    assert error.message.startswith("Environment variable TRIOACTION_TASKS__RATES is not JSON")
    assert 'a table like {"mail": "10/s"}' in error.message
    assert error.key == "TRIOACTION_TASKS__RATES"


def test_a_section_that_is_not_json_is_told_how_to_be_written(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIOACTION_TASKS", "{queues: a}")
    message = refused(project).message
    assert "TRIOACTION_TASKS is not JSON" in message


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("tasks", "concurrency", 0),
        ("tasks", "queues", []),
        ("tasks", "grace", -1),
        ("tasks", "lease", 0),
        ("fan_out", "batch_size", 0),
        ("web", "port", 65_536),
        ("web", "port", "http"),
        ("web", "prefix", "api"),
        ("web", "websocket_path", "ws"),
        ("redis", "namespace", ""),
        ("redis", "fsync", "never"),
        ("actions", "timeout", -1),
        ("log", "level", "loud"),
    ],
)
def test_a_bad_value_is_named_with_its_source(section: str, key: str, value: object, project: Path) -> None:
    message = refused(project, {section: {key: value}}).message
    assert f"{section}.{key}: " in message
    assert f"(got {value!r}), from the command line" in message


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("web", "allowed_hosts", "https://app.example"),
        ("web", "allowed_hosts", "app.example:443"),
        ("metrics", "allow", "10.0.0.1/8"),
    ],
)
def test_a_bad_item_of_a_list_is_named_by_its_place(
    section: str, key: str, value: str, project: Path
) -> None:
    assert f"{section}.{key}.0: " in refused(project, {section: {key: [value]}}).message


def test_a_lease_that_no_heartbeat_could_keep_is_refused(project: Path) -> None:
    message = refused(project, {"tasks": {"lease": 9}}).message
    assert "a lease of 9 s needs a heartbeat of 4.5 s at most, not of 5 s" in message


@pytest.mark.parametrize("ttl", ["1e15", "31536001", "0", "-1", "nan", "inf"])
def test_results_are_kept_for_a_year_at_most(
    ttl: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIOACTION_FAN_OUT__RESULT_TTL", ttl)
    problem = "fan_out.result_ttl: it must be seconds, above 0 and at most a year (31536000 s)"
    assert refused(project).message == f"Bad configuration: {problem} (got {ttl!r}), from the environment"


def test_the_source_that_is_blamed_is_the_one_that_won(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrote(project, "[web]\nport = -1")
    monkeypatch.setenv("TRIOACTION_WEB__PORT", "-2")
    assert "(got '-2'), from the environment" in refused(project).message


def test_all_mistakes_are_told_at_once(project: Path) -> None:
    message = refused(project, {"web": {"port": -1}, "tasks": {"slots": 3}}).message
    assert "web.port" in message
    assert "tasks.slots" in message


@pytest.mark.parametrize("text", ["[web", "a = ", "[web]\nport = 1\nport = 2"])
def test_a_file_that_is_not_toml_is_named(text: str, project: Path) -> None:
    message = refused(wrote(project, text)).message
    assert f"{project / 'trioaction.toml'} is not valid TOML" in message


def test_a_file_that_is_not_utf_8_is_named(project: Path) -> None:
    (project / "trioaction.toml").write_bytes(b'[web]\nhost = "\xff"')
    assert "is not valid TOML" in refused(project).message


# secrets


def test_secrets_are_masked_where_settings_are_shown(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:hush@localhost")
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hush@localhost")
    settings = load_settings(project)
    assert "hush" not in json.dumps(shown(settings)) + repr(settings)
    assert shown(settings)["redis"]["url"] == "**********"


def test_what_is_shown_is_plain_json(project: Path) -> None:
    values = shown(load_settings(project))
    assert json.loads(json.dumps(values)) == values
    assert set(values) == set(Settings.model_fields)


def test_a_secret_with_a_mistake_is_not_told(project: Path) -> None:
    wrote(project, '[redis]\nurl = ["redis://:hush@localhost"]')
    assert "hush" not in refused(project).message


# the project's folder


def test_the_root_is_the_nearest_folder_with_the_file(project: Path) -> None:
    inner = project / "a" / "b"
    inner.mkdir(parents=True)
    assert project_root(inner) == project.resolve()
    (project / "a" / "trioaction.toml").touch()
    assert project_root(inner) == (project / "a").resolve()
    assert load_settings(inner).root == (project / "a").resolve()


def test_without_the_file_the_root_is_where_one_is(tmp_path: Path) -> None:
    assert project_root(tmp_path) == tmp_path.resolve()


def test_a_folder_of_that_name_is_not_the_file(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "trioaction.toml").mkdir()
    assert project_root(inner) == inner.resolve()


def test_by_default_it_is_looked_for_from_the_working_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = project / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    assert load_settings().root == project.resolve()


def test_the_data_folder_resolves_from_the_root_unless_it_is_absolute(project: Path, tmp_path: Path) -> None:
    relative = load_settings(project, {"redis": {"data_dir": "x/../data"}})
    assert relative.data_dir == project.resolve() / "data"
    absolute = load_settings(project, {"redis": {"data_dir": tmp_path / "elsewhere"}})
    assert absolute.data_dir == (tmp_path / "elsewhere").resolve()


def test_settings_do_not_change(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(project)
    monkeypatch.setenv("TRIOACTION_WEB__PORT", "1")
    with pytest.raises(ValidationError):
        settings.web.port = 1
    assert settings.web.port == 8080

"""The filters that make a configuration from inventory variables, called as Ansible calls them."""

from __future__ import annotations

import copy
import datetime
import math
import re
import tomllib
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.ansible_role import load

FILTERS: dict[str, Any] = load("filter_plugins/fingergw.py").FilterModule().filters()
to_toml, merged, texts, mistakes, answer_timeout, readyz_url = (
    FILTERS[name]
    for name in (
        "to_toml",
        "fingergw_merged",
        "fingergw_texts",
        "fingergw_mistakes",
        "fingergw_answer_timeout",
        "fingergw_readyz_url",
    )
)

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
_scalars = st.booleans() | st.integers() | st.floats(allow_nan=False) | _texts
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=15,
)
PUBLIC = {"name": "public", "endpoint": "systemd:domain=INET6:name=public"}


@settings(max_examples=50)
@given(st.dictionaries(_texts, _values, max_size=5))
def test_toml_has_what_was_given(table: dict[str, Any]) -> None:
    """Whatever TOML can hold comes back from it with its type: control characters, empty tables, tables in lists."""
    read = tomllib.loads(to_toml(table))
    assert read == table
    assert _kinds(read) == _kinds(table)


def test_toml_numbers_that_are_none() -> None:
    """Infinity and not-a-number have words in TOML."""
    read = tomllib.loads(to_toml({"all": math.inf, "none": math.nan}))
    assert read["all"] == math.inf
    assert math.isnan(read["none"])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"backends": {"rota": {"timeout": None}}}, "backends.rota.timeout is empty: give it a value, or leave it out"),
        ({"routes": [{"user": "a"}, {"user": None}]}, "routes.1.user is empty: give it a value, or leave it out"),
        ({"log": {"since": datetime.date(2026, 1, 1)}}, "log.since is a date: TOML takes texts"),
        ({"log": {"level": b"info"}}, "log.level is a bytes: TOML takes texts"),
    ],
)
def test_toml_has_no_place_for_it(table: dict[str, Any], message: str) -> None:
    """What is nothing, or of no type that inventories and TOML share, is refused with the path to it."""
    with pytest.raises(AnsibleFilterError, match=re.escape(message)):
        to_toml(table)


def test_tables_are_merged_key_by_key() -> None:
    """The later layer wins where both have a value; what only one has stays; nothing that was given is changed."""
    layers = [
        {"backends": {"rota": {"timeout": 5, "url": "u"}, "menu": {"type": "menu"}}, "log": {"level": "info"}},
        {"backends": {"rota": {"timeout": 3}}},
        {"backends": {"rota": {"timeout": 2, "cache": {"ttl": 1}}}, "admin": {}},
    ]
    given_layers = copy.deepcopy(layers)
    assert merged(layers) == {
        "backends": {"rota": {"timeout": 2, "url": "u", "cache": {"ttl": 1}}, "menu": {"type": "menu"}},
        "log": {"level": "info"},
        "admin": {},
    }
    assert layers == given_layers


def test_named_tables_are_merged_by_name() -> None:
    """Known listeners and routes keep their places; new listeners come last, new routes first, in their order."""
    low = {
        "listeners": [{"name": "a", "endpoint": "tcp:1", "limits": {"rate": 1}}, {"name": "b", "endpoint": "tcp:2"}],
        "routes": [{"name": "x", "user": "x", "backends": ["p", "q"]}, {"name": "rest", "pattern": "*"}],
    }
    high = {
        "listeners": [{"name": "c", "endpoint": "tcp:3"}, {"name": "a", "limits": {"max": 2}}],
        "routes": [{"name": "rest", "clients": []}, {"name": "y"}, {"name": "x", "backends": ["r"]}, {"name": "z"}],
    }
    before = copy.deepcopy((low, high))
    assert merged([low, high]) == {
        "listeners": [
            {"name": "a", "endpoint": "tcp:1", "limits": {"rate": 1, "max": 2}},
            {"name": "b", "endpoint": "tcp:2"},
            {"name": "c", "endpoint": "tcp:3"},
        ],
        "routes": [
            {"name": "y"},
            {"name": "z"},
            {"name": "x", "user": "x", "backends": ["r"]},
            {"name": "rest", "pattern": "*", "clients": []},
        ],
    }
    assert (low, high) == before


@pytest.mark.parametrize(
    ("low", "high", "result"),
    [
        (["a", "b"], ["c"], ["c"]),
        ([{"user": "a"}], [{"user": "b"}], [{"user": "b"}]),
        ([{"name": "a"}, {"user": "b"}], [{"name": "a"}], [{"name": "a"}]),
        ([{"name": "a"}], {"name": "a"}, {"name": "a"}),
        ({"name": "a"}, "a", "a"),
    ],
)
def test_anything_else_is_replaced(low: object, high: object, result: object) -> None:
    """Lists of texts, lists in which not all have names, and values of another type give way to the later layer."""
    assert merged([{"routes": low}, {"routes": high}]) == {"routes": result}


def test_no_layers_are_an_empty_configuration() -> None:
    """It is check that says what is missing then."""
    assert merged([]) == {}


@pytest.mark.parametrize("layer", [["listeners"], "listeners", None])
def test_a_layer_must_be_a_table(layer: object) -> None:
    """Any other is refused with what it is."""
    with pytest.raises(AnsibleFilterError, match=f"must be a table, this one is a {type(layer).__name__}"):
        merged([{"log": {}}, layer])


def test_files_are_texts() -> None:
    """A text stays as it is; a table is TOML."""
    assert texts({"a.txt": "79", "b.toml": {"b": 79}, "c": ""}) == {"a.txt": "79", "b.toml": "b = 79\n", "c": ""}


@pytest.mark.parametrize(
    "endpoint",
    [
        "systemd:domain=INET6:name=public",
        "systemd:name=public:domain=INET6",
        "haproxy:systemd:domain=INET:name=public",
    ],
)
def test_ports_that_fit_their_listeners(endpoint: str) -> None:
    """A listener that takes a port from systemd, behind a proxy or not, has one; listeners of their own need none."""
    listeners = [{"name": "any", "endpoint": endpoint}, {"name": "own", "endpoint": "tcp:1079"}, {"name": "bare"}]
    assert mistakes({"listeners": listeners}, {"public": 79}, {"people.toml": ""}, {"rota.token": ""}, {}) == []


@pytest.mark.parametrize(
    ("listeners", "sockets", "mistake"),
    [
        ([PUBLIC], {}, "fingergw_sockets has no port for public, which a listener takes"),
        (
            [PUBLIC],
            {"public": 79, "other": 80},
            "no listener takes other of fingergw_sockets: give one the endpoint systemd:domain=INET6:name=other",
        ),
    ],
)
def test_ports_that_do_not_fit(listeners: list[object], sockets: dict[str, int], mistake: str) -> None:
    """A port that is missing or that nobody takes is a mistake, which says what to do."""
    assert mistakes({"listeners": listeners}, sockets, {}, {}, {}) == [mistake]


@pytest.mark.parametrize("place", [79, "79", "192.0.2.1:79", "[2001:db8::1]:65535"])
def test_places(place: object) -> None:
    """A port, or an address and a port, is what systemd can listen at."""
    assert mistakes({"listeners": [PUBLIC]}, {"public": place}, {}, {}, {}) == []


@pytest.mark.parametrize("place", [None, 0, 65536, "", "http", True, 79.5, [79], "[::1]", "79 80"])
def test_no_places(place: object) -> None:
    """Anything else is a mistake, before a unit has it."""
    (mistake,) = mistakes({"listeners": [PUBLIC]}, {"public": place}, {}, {}, {})
    assert mistake.startswith(f"public in fingergw_sockets is {place!r}: give it a port")


def test_one_place_twice() -> None:
    """Two listeners cannot have one port, however it is written."""
    other = {"name": "other", "endpoint": "systemd:domain=INET6:name=other"}
    found = mistakes({"listeners": [PUBLIC, other]}, {"public": 79, "other": "79"}, {}, {}, {})
    assert found == ["other and public in fingergw_sockets both have 79: give each a port of its own"]


@pytest.mark.parametrize("value", [None, 1234, True, ["a"]])
def test_files_that_are_no_texts(value: object) -> None:
    """What would be written as Python writes it is a mistake; so is a setting of the unit that is a list or nothing."""
    found = mistakes({}, {}, {"a.txt": value}, {"pin": value}, {"Environment": value})
    assert [mistake.split(":")[0] for mistake in found][:2] == [
        f"a.txt in fingergw_files is a {type(value).__name__}",
        f"pin in fingergw_secrets is a {type(value).__name__}",
    ]
    assert len(found) == (2 if isinstance(value, int) else 3)


@pytest.mark.parametrize(
    "configuration", [{"listeners": {"name": "a"}}, {"listeners": ["tcp:79"], "limits": "a", "admin": 1}]
)
def test_what_check_complains_of(configuration: dict[str, Any]) -> None:
    """Values of other types than the configuration's are left to ``fingergw check``, which says what is wrong."""
    assert mistakes(configuration, {}, {}, {}, {}) == []
    assert answer_timeout(configuration) == 15
    assert readyz_url(configuration) == ""


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../a", "a b", "-a", ".a", "a\n", "ä", "secrets", "fingergw.toml"]
)
@pytest.mark.parametrize("variable", ["fingergw_files", "fingergw_secrets"])
def test_names_that_are_no_files(name: str, variable: str) -> None:
    """A name that would leave the folder, hide, or take another file's place is a mistake."""
    files, secrets = ({name: ""}, {}) if variable == "fingergw_files" else ({}, {name: ""})
    (mistake,) = mistakes({}, {}, files, secrets, {})
    assert mistake.startswith(f"{name!r} in {variable} cannot name a file")


@pytest.mark.parametrize(
    ("configuration", "seconds"),
    [
        ({}, 15),
        ({"limits": {"answer_timeout": 5}, "listeners": [{"limits": {"answer_timeout": 40.5}}, {}]}, 40.5),
        ({"limits": {"answer_timeout": 5}, "listeners": [{"limits": {"answer_timeout": 3}}]}, 5),
        ({"listeners": [{"limits": {"answer_timeout": 3}}]}, 15),
        ({"limits": {"answer_timeout": 60}, "listeners": None}, 60),
    ],
)
def test_answer_timeout(configuration: dict[str, Any], seconds: float) -> None:
    """It is the longest that any listener allows; 15 where nothing is said."""
    assert answer_timeout(configuration) == seconds


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("tcp:9179", "http://127.0.0.1:9179/readyz"),
        ("tcp:port=9179", "http://127.0.0.1:9179/readyz"),
        ("tcp:9179:interface=192.0.2.1", "http://192.0.2.1:9179/readyz"),
        ("tcp:9179:interface=0.0.0.0", "http://127.0.0.1:9179/readyz"),
        (r"tcp6:9179:interface=\:\:", "http://[::1]:9179/readyz"),
        (r"tcp:9179:interface=2001\:db8\:\:1", "http://[2001:db8::1]:9179/readyz"),
        ("unix:/run/fingergw/admin.sock", ""),
        ("ssl:9179", ""),
        (None, ""),
    ],
)
def test_where_a_gateway_says_that_it_is_ready(endpoint: str | None, url: str) -> None:
    """The address is that of the [admin] endpoint as its own host reaches it; there is none where that is no TCP."""
    assert readyz_url({"admin": {"endpoint": endpoint}} if endpoint else {}) == url


def _kinds(value: object) -> object:
    """Return the types in a value, at their places."""
    if isinstance(value, dict):
        return {name: _kinds(item) for name, item in value.items()}
    return [_kinds(item) for item in value] if isinstance(value, list) else type(value)

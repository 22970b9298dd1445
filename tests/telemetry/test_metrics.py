"""The metrics page against promtool and the access log; the alert rules and the dashboard against the metrics."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from fingergw.app.gateway import Gateway
from fingergw.cache.memory import Memory
from fingergw.telemetry.metrics import Readings, exposition
from tests.support.admin import ADMIN, AdminCase, samples, value
from tests.support.configuration import HELLO
from tests.support.http_server import RawServer, Upstream, response
from tests.support.processes import ROOT
from tests.support.waiting import until

MONITORING = ROOT / "ansible" / "monitoring"
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [(target["expr"], target.get("legendFormat", "")) for panel in PANELS for target in panel["targets"]] + [
    (annotation["expr"], annotation["textFormat"]) for annotation in DASHBOARD["annotations"]["list"]
]
"""The dashboard's expressions and their legends."""
VARIABLES = [each["definition"] for each in DASHBOARD["templating"]["list"] if each["type"] == "query"]
RULES = (MONITORING / "alerts.yml").read_text()
NAME = re.compile(r"\b(?:fingergw|process|python)_\w+")
SELECTOR = re.compile(r"\b((?:fingergw|process|python)_\w+){([^}]*)}")
MATCHER = re.compile(r'(\w+)(?:=|=~|!=|!~)"')
BY = re.compile(r"by \(([\w, ]+)\)\s*\(\s*(?:(?:rate|increase)\()?((?:fingergw|process|python)_\w+)")
ADDED_LABELS = ("job", "instance")  # by Prometheus
HOSTILE_NAME = 'a "quoted\\" {name="x"} # TYPE evil counter\u00e9'
HERE = '[[listeners]]\nname = "here"\nendpoint = "tcp:0:interface=127.0.0.1"\n'


def promtool(*arguments: str | Path, stdin: bytes = b"") -> str:
    """Run promtool, which must succeed, and return its output."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed; Debian has it in the package prometheus")
    done = subprocess.run([program, *arguments], input=stdin, capture_output=True, check=False, timeout=60)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


class MetricsTest(AdminCase):
    """What a gateway counts."""

    def start_all(self, fails: list[bool]) -> Gateway:
        """Start a gateway with one of everything that is counted.

        :param fails: not empty while the cached backend's upstream fails.
        """

        def serve(server: RawServer, head: bytes) -> None:
            status = "503 Down" if fails or b"/broken" in head else "404 Not Found" if b"/nobody" in head else "200 OK"
            old = "Cache-Control: max-age=0, stale-while-revalidate=0, stale-if-error=600\r\n"
            server.send(response(b"up", status=status, extra=old))

        upstream = Upstream(self, serve)
        self.log = self.write("access.log", "")
        return self.start(f"""
            [[listeners]]
            name = "here"
            endpoint = "tcp:0:interface=127.0.0.1"
            limits = {{ rate = {{ queries = 1, per = 3600, burst = 15 }} }}
            [[listeners]]
            name = "closed"
            endpoint = "tcp:0:interface=127.0.0.1"
            deny = ["127.0.0.0/8"]
            [[listeners]]
            name = "decoy"
            endpoint = "unix:decoy.sock"
            decoy = true
            [[routes]]
            name = {json.dumps(HOSTILE_NAME, ensure_ascii=False)}
            user = "hello"
            backends = ["map"]
            [[routes]]
            pattern = "*"
            name = "web"
            backends = ["web"]
            [backends.map]
            type = "static"
            entries = {{ hello = "Hello" }}
            [backends.web]
            type = "http"
            url = "{upstream.url}/{{user}}"
            cache = {{}}
            [cache]
            store = "sqlite:cache.db"
            [log]
            access = "access.log"
            format = "json"
            [admin]
            endpoint = "tcp:0:interface=127.0.0.1:backlog=9"
        """)

    async def ask_all(self, gateway: Gateway, fails: list[bool]) -> None:
        """Send all kinds of queries: 17 connections, one of which is denied."""
        for query in (b"hello", b"nobody", b"broken", b"\x1b]0;stranger", b"\xff\xfestranger", b"stranger@example.org"):
            await self.ask(gateway, query + b"\r\n")
        for query in (b"", b"hello stranger", b"s" * 600, b"stranger{}\"',\\", b"/W hello"):
            await self.ask(gateway, query + b"\r\n")
        self.assertEqual(await self.ask(gateway, b"kept\r\n"), b"up\r\n")
        fails.append(True)
        self.assertEqual(await self.ask(gateway, b"kept\r\n"), b"up\r\n")
        for _ in range(2):
            await self.ask(gateway, b"hello\r\n")
        self.assertIn(b"Too many", await self.ask(gateway, b"hello\r\n"))
        await self.ask(gateway, b"", 1)
        self.flushLoggedErrors()

    async def test_the_text_is_what_prometheus_wants(self) -> None:
        """The page passes promtool and the OpenMetrics parser, and odd names are intact."""
        fails: list[bool] = []
        gateway = self.start_all(fails)
        await self.ask_all(gateway, fails)
        plain = await self.get(gateway, "/metrics")
        self.assertEqual(plain.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        self.assertEqual(promtool("check", "metrics", stdin=plain.body), "")
        accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
        opened = await self.get(gateway, "/metrics", accept=accept)
        self.assertIn("application/openmetrics-text; version=1.0.0", opened.headers["content-type"])
        parse: Any = text_string_to_metric_families
        families = list(parse(opened.body.decode()))
        self.assertEqual(len({family.name for family in families}), len(families))
        self.assertEqual(value(plain.body, "fingergw_queries_total", route=HOSTILE_NAME, outcome="answered"), 4)
        routes = {sample.labels.get("route") for family in families for sample in family.samples}
        self.assertIn(HOSTILE_NAME, routes)

    async def test_every_line_of_the_access_log_counts_once(self) -> None:
        """The queries by listener, route and outcome are those of the access log."""
        fails: list[bool] = []
        gateway = self.start_all(fails)
        await self.ask_all(gateway, fails)
        await self.ask(gateway, b"hello\r\n", 2)
        await gateway.parts.access_log.close()
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        logged = Counter((line["listener"], line["route"], line["outcome"]) for line in lines)
        counted = {
            (each.labels["listener"], each.labels["route"], each.labels["outcome"]): each.value
            for each in samples(await self.scrape(gateway))
            if each.name == "fingergw_queries_total"
        }
        self.assertEqual(counted, dict(logged))
        self.assertEqual(sum(counted.values()), 18)
        self.assertEqual(counted["decoy", "", "no_such_user"], 1)

    async def test_no_word_of_a_client_is_shown(self) -> None:
        """Labels are names from the configuration, whatever clients send."""
        fails: list[bool] = []
        gateway = self.start_all(fails)
        await self.ask_all(gateway, fails)
        text = (await self.scrape(gateway)).decode()
        for word in ("stranger", "example", "\x1b", "nobody", "127.0.0.1", "sss"):
            self.assertNotIn(word, text)

    async def test_rejections_by_reason(self) -> None:
        """Rejected clients and queries are counted by listener and reason; all reasons start at 0."""
        fails: list[bool] = []
        gateway = self.start_all(fails)
        before = await self.scrape(gateway)
        self.assertEqual(value(before, "fingergw_refusals_total"), 0)
        await self.ask_all(gateway, fails)
        after = await self.scrape(gateway)
        self.assertEqual(value(after, "fingergw_refusals_total", listener="here", reason="rate"), 1)
        self.assertEqual(value(after, "fingergw_refusals_total", listener="closed", reason="denied"), 1)
        self.assertEqual(value(after, "fingergw_refusals_total"), 2)

    async def test_backend_and_cache(self) -> None:
        """A backend's outcomes, and what its cache had, are counted."""
        fails: list[bool] = []
        gateway = self.start_all(fails)
        await self.ask_all(gateway, fails)
        text = await self.scrape(gateway)
        asked = {outcome: value(text, "fingergw_backend_requests_total", backend="web", outcome=outcome)
                 for outcome in ("answered", "missing", "failed", "given_up")}  # fmt: skip
        self.assertGreaterEqual(asked["answered"], 1)
        self.assertGreaterEqual(asked["missing"], 1)
        self.assertGreaterEqual(asked["failed"], 2)
        self.assertEqual(
            value(text, "fingergw_backend_request_duration_seconds_count", backend="web"), sum(asked.values())
        )
        self.assertEqual(value(text, "fingergw_cache_lookups_total", backend="web", state="expired"), 1)
        self.assertEqual(value(text, "fingergw_cache_rescues_total", backend="web"), 1)
        self.assertGreaterEqual(value(text, "fingergw_cache_entries"), 1)
        self.assertGreater(value(text, "fingergw_cache_bytes"), 0)
        self.assertNotIn(b'fingergw_cache_lookups_total{backend="map"', text)

    async def test_times(self) -> None:
        """Each bucket of a histogram counts the queries that took no longer, and the last one counts all."""
        gateway = self.start(HERE + ADMIN + HELLO)
        for seconds in (0.0005, 0.0025, 0.003, 700.0):
            gateway.listeners[0].connections.meter.times["hello"].add(seconds)
        text = await self.scrape(gateway)
        for bound, count in (("0.001", 1), ("0.0025", 2), ("0.005", 3), ("10.0", 3), ("+Inf", 4)):
            self.assertEqual(value(text, "fingergw_query_duration_seconds_bucket", route="hello", le=bound), count)
        self.assertEqual(value(text, "fingergw_query_duration_seconds_count"), 4)
        self.assertAlmostEqual(value(text, "fingergw_query_duration_seconds_sum"), 700.006)

    async def test_connections(self) -> None:
        """Open connections are shown, and their limit."""
        gateway = self.start(HERE + "limits = { max_connections = 7, max_waiting = 5 }\n" + ADMIN + HELLO)
        await self.connect(gateway)
        await until(lambda: gateway.listeners[0].connections.open, "the connection")
        await self.ask(gateway, b"hello\r\n")
        await until(lambda: len(gateway.listeners[0].connections.open) == 1, "the end of the other")
        text = await self.scrape(gateway)
        self.assertEqual(value(text, "fingergw_connections", listener="here"), 1)
        self.assertEqual(value(text, "fingergw_connections_accepted_total", listener="here"), 2)
        self.assertEqual(value(text, "fingergw_connections_limit", listener="here"), 7)
        self.assertEqual(value(text, "fingergw_waiting_queries", listener="here"), 0)
        self.assertEqual(value(text, "fingergw_waiting_queries_limit", listener="here"), 5)

    async def test_operation(self) -> None:
        """Reloads, the configuration's age and lost log lines are shown from the start; a store if there is one."""
        gateway = self.start(HERE + '[log]\naccess = "access.log"\n' + ADMIN + HELLO)
        text = await self.scrape(gateway)
        self.assertEqual(value(text, "fingergw_reloads_total", result="refused"), 0)
        self.assertEqual(value(text, "fingergw_reloads_total", result="applied"), 0)
        self.assertEqual(value(text, "fingergw_config_last_reload_successful"), 1)
        self.assertEqual(value(text, "fingergw_config_loaded_timestamp_seconds"), gateway.configured_at)
        self.assertEqual(value(text, "fingergw_access_log_lost_total"), 0)
        self.assertEqual(value(text, "fingergw_ready"), 1)
        self.assertNotIn(b"fingergw_cache_store", text)
        self.assertIn(b"\nprocess_resident_memory_bytes ", text)
        gateway.reloads["refused"] += 1
        gateway.last_reload_applied = False
        not_a_query: Any = None
        for _ in range(3):
            gateway.parts.access_log.add("here", "::1", not_a_query, "", "", "gone", 0, 0.0)
        gateway.parts.access_log.flush()
        text = await self.scrape(gateway)
        self.assertEqual(value(text, "fingergw_reloads_total", result="refused"), 1)
        self.assertEqual(value(text, "fingergw_config_last_reload_successful"), 0)
        self.assertEqual(value(text, "fingergw_access_log_lost_total"), 3)

    async def test_unknown_versions(self) -> None:
        """A request for an unknown version gets plain text."""
        gateway = self.start(HERE + ADMIN + HELLO)
        for wish in ("application/openmetrics-text; version=x", "text/plain; version=1.x", "\xff", ",;=,"):
            page = await self.get(gateway, "/metrics", accept=wish)
            self.assertEqual(page.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8", wish)
            self.assertIn(b"\nfingergw_ready 1.0\n", page.body)

    async def test_alerts_and_dashboard_use_existing_metrics(self) -> None:
        """All metrics and labels in the alert rules and the dashboard exist."""
        fails: list[bool] = []
        gateway = self.start_all(fails)
        await self.ask_all(gateway, fails)
        labels: dict[str, set[str]] = {}
        for sample in samples(await self.scrape(gateway)):
            labels.setdefault(sample.name, set(ADDED_LABELS)).update(sample.labels)
        expressions = [*RULES.split("- alert:")[1:], *(text for text, _ in EXPRESSIONS), *VARIABLES]
        self.assertGreater(len(expressions), 50)
        for text in expressions:
            for name in NAME.findall(text):
                self.assertIn(name, labels, text)
            for name, matchers in SELECTOR.findall(text):
                self.assertLessEqual(set(MATCHER.findall(matchers)), labels[name], text)
            for by, name in BY.findall(text):
                self.assertLessEqual(set(by.split(", ")), labels[name], text)
        for text, legend in EXPRESSIONS:
            for name in NAME.findall(text):
                self.assertLessEqual(set(re.findall(r"{{(\w+)}}", legend)), labels[name], text)
        for name, label in re.findall(r"label_values\((\w+).*, (\w+)\)", "\n".join(VARIABLES)):
            self.assertIn(label, labels[name])


def test_numbers_are_read_at_each_scrape() -> None:
    """Numbers are read when the first piece is asked for, and again for each scrape."""
    reloads = Counter[str]()
    reads: list[int] = []

    def read() -> Readings:
        reads.append(1)
        return Readings(True, reloads, True, 0.0, 0, (), {}, {}, {}, Memory(1, 1), None)

    for applied in (0, 1):
        reloads["applied"] = applied
        _, pieces = exposition(read, "")
        assert len(reads) == applied
        assert value(b"".join(pieces), "fingergw_reloads_total", result="applied") == applied
    assert len(reads) == 2


def test_alert_rules() -> None:
    """The rules pass promtool, and each fires when it should, alone."""
    alerts = re.findall(r"- alert: (\w+)", RULES)
    assert f"{len(alerts)} rules found" in promtool("check", "rules", MONITORING / "alerts.yml")
    tested = (MONITORING / "alerts_test.yml").read_text()
    assert [alert for alert in alerts if f'alertname="{alert}"' not in tested] == []
    assert "SUCCESS" in promtool("test", "rules", MONITORING / "alerts_test.yml")


def test_alerts_say_what_to_do() -> None:
    """Each alert has a severity, a summary, a description and an action."""
    for rule in RULES.split("- alert:")[1:]:
        assert re.search(r"severity: (critical|warning) }", rule), rule
        for annotation in ("summary", "description", "action"):
            said = rf"^          {annotation}: (?:\".+\"$|>-\n            \S)"
            assert re.search(said, rule, re.MULTILINE), rule


def test_dashboard_expressions() -> None:
    """Prometheus can parse the dashboard's expressions."""
    rules = [
        {"record": f"panel:{number}", "expr": text.replace("$__rate_interval", "5m")}
        for number, (text, _) in enumerate(EXPRESSIONS)
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
        file.flush()
        assert f"{len(rules)} rules found" in promtool("check", "rules", "--lint=none", file.name)


def test_dashboard_layout() -> None:
    """Panels have unique ids and do not overlap; all variables that are used exist."""
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    cells: Counter[tuple[int, int]] = Counter()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells.update(
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        )
    assert max(cells.values()) == 1
    known = {variable["name"] for variable in DASHBOARD["templating"]["list"]} | {"__rate_interval", "__all"}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD)))
    assert used - known == set()
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}

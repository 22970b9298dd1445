"""Options before a command, and the configuration that is read where none is named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import fingergw
from fingergw.cli import main
from fingergw.cli.command import COMMANDS
from fingergw.config.finding import PACKAGED
from tests.support.configuration import HELLO
from tests.support.processes import ROOT, forked
from tests.support.sockets import finger, free_port
from tests.support.waiting import wait_until

ARGUMENTS = {"explain": ["hello"], "init": ["new.toml"], "completion": ["fish"], "query": ["@127.0.0.1:9"]}
"""What a command needs beside options."""
GATEWAY = [
    *(["-c", "x"], ["--config", "x"], ["--config=x"], ["--daemonize"], ["-d", "/"], ["--rundir", "/"], ["--rundir=/"]),
    *(["--pidfile", "x"], ["--logfile", "x"], ["--syslog"], ["--prefix", "check"], ["--chroot", "/"], ["-u", "nobody"]),
    *(["--uid", "no-such-user"], ["-g", "0"], ["--gid", "0"], ["--umask", "9"], ["-r", "poll"], ["--reactor", "poll"]),
    ["--help-reactors"],
]
"""The options of the gateway, with values that some would refuse."""
HERE = '[[listeners]]\nname = "here"\nendpoint = "tcp:1079"\n'


class TestOptionsBeforeACommand:
    @pytest.mark.parametrize("command", COMMANDS)
    @pytest.mark.parametrize("option", GATEWAY, ids=lambda option: option[0])
    def test_of_the_gateway(
        self, command: str, option: list[str], in_folder: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """An option that a command has counts for it; any other is refused by its name, and nothing is done."""
        code = main([*option, command, *ARGUMENTS.get(command, [])])
        name = option[0].partition("=")[0]
        out, err = capfd.readouterr()
        assert out == ""
        if name in ("-c", "--config") and command in ("check", "explain", "config"):
            assert (code, "fingergw: 1 mistake:\nx: cannot be read" in err) == (78, True)
        else:
            assert (code, err) == (
                2,
                f"fingergw: {command} takes no {name}\nfingergw: try fingergw {command} --help\n",
            )
        assert list(in_folder.iterdir()) == []

    @pytest.mark.parametrize(
        ("words", "printed"),
        [
            (["--base-dir", "check", "check"], f"{PACKAGED}: no mistakes found\n"),
            (["--base-dir=/", "config"], '"unix:fingergw.sock"'),
            (["--listener", "socket", "explain", "hello"], '"socket"'),
            (["--listener", "explain", "--listener=socket", "--json", "explain", "hello"], '"name": "socket"'),
            (["-h", "check"], "usage: fingergw check"),
            (["--help", "query"], "usage: fingergw query"),
            (["-V", "init"], f"fingergw {fingergw.__version__}\n"),
            (["--", "check"], "no mistakes found\n"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_of_the_command(
        self, words: list[str], printed: str, in_folder: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """An option of the command's own counts before it, too; its value may be the name of a command."""
        (in_folder / "check").mkdir()
        with suppress(SystemExit):  # by --help and --version
            main(words)
        out, err = capfd.readouterr()
        assert err == ""
        assert printed in out

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (
                ["--timeout", "x", "query"],
                '-t/--timeout: expected a finite number of seconds above 0, such as 20, not "x"',
            ),
            (["--from", "1.2", "explain", "hello"], '--from: expected an IP address, or "unix", not "1.2"'),
            (["--json", "check"], 'unknown option "--json"'),
            (["check", "--config", ""], '-c/--config: expected a path, not ""'),
            (["check", "--base-dir="], '--base-dir: expected a path, not ""'),
            (["--chroot", ""], '--chroot: expected a path, not ""'),
            (["init", ""], 'FILE: expected a path, not ""'),
            (["--listener", "public"], 'unknown option "--listener"'),
            (["--base-dir", "."], 'unknown option "--base-dir"'),
            (["a.toml", "check"], 'unknown command "a.toml"'),
            (["--config", "check"], "check: cannot be read"),
            (["--", "--config", "x", "check"], 'unknown command "--config"'),
            (["--re", "poll", "query"], "query takes no --re"),
            (["check", "--daemonize"], 'unknown option "--daemonize"'),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_wrong(self, words: list[str], message: str, in_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """What cannot be meant is refused, in words for the command if there is one."""
        assert main(words) in (2, 78)
        assert message in capfd.readouterr().err

    @pytest.mark.parametrize("words", [["-c", "a.toml", "check"], ["check", "-c", "a.toml"]])
    def test_the_later_one_counts(self, words: list[str], in_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """Of two ``--config`` the later one counts, wherever they are."""
        Path("b.toml").write_text(HERE)
        assert main([*words, "--config", "b.toml"]) == 0
        assert capfd.readouterr().out == "b.toml: no mistakes found\n"

    @pytest.mark.parametrize("command", COMMANDS)
    def test_short_forms(self, command: str, capfd: pytest.CaptureFixture[str]) -> None:
        """Every command has -h and -V."""
        for option, printed in (("-h", f"usage: fingergw {command}"), ("-V", f"fingergw {fingergw.__version__}\n")):
            with pytest.raises(SystemExit) as ended:
                main([command, option])
            assert ended.value.code == 0
            assert capfd.readouterr().out.startswith(printed)


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


READING = (["check"], ["config"], ["explain", "hello"])
"""The commands that read a configuration, except running."""


class TestDefault:
    """Without ``--config``."""

    @pytest.mark.parametrize("words", READING, ids=lambda words: words[0])
    def test_in_the_folder(self, words: list[str], in_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """It is fingergw.toml in the working folder, if there is one."""
        Path("fingergw.toml").write_text(HERE)
        main(words)
        out, err = capfd.readouterr()
        assert err == ""
        assert (out == "fingergw.toml: no mistakes found\n") if words == ["check"] else ('"here"' in out)

    @pytest.mark.parametrize("words", READING, ids=lambda words: words[0])
    def test_packaged(self, words: list[str], in_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """If there is none, it is the one that comes with fingergw."""
        main(words)
        out, err = capfd.readouterr()
        assert err == ""
        assert (out == f"{PACKAGED}: no mistakes found\n") if words == ["check"] else ("tcp:1079" in out)

    @pytest.mark.parametrize("words", [[], *READING], ids=lambda words: (*words, "run")[0])
    @pytest.mark.parametrize("kind", ["folder", "link to nothing", "link to itself"])
    def test_unreadable(self, kind: str, words: list[str], in_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """One that is there and cannot be read is a mistake: no other is taken in its place."""
        path = Path("fingergw.toml")
        if kind == "folder":
            path.mkdir()
        else:
            path.symlink_to("none" if kind == "link to nothing" else path)
        assert main(words) == 78
        assert "fingergw: 1 mistake:\nfingergw.toml: cannot be read: " in capfd.readouterr().err

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
    def test_permissions(self, in_folder: Path) -> None:
        """So is one that the user may not read, and a folder in which the user may not look for it."""
        Path("fingergw.toml").write_text(HERE)
        code = "import os; from fingergw.cli import main; os.setgid(65534); os.setuid(65534); main(['check'])"
        for path in (in_folder / "fingergw.toml", in_folder):
            path.chmod(0o000)
            done = subprocess.run(
                [sys.executable, "-c", f"import fingergw.cli.check, fingergw.app.build; {code}"],
                capture_output=True,
                text=True,
                check=False,
            )
            assert "fingergw.toml: cannot be read: Permission denied" in done.stderr

    def test_running(self, in_folder: Path) -> None:
        """A gateway reads it too; a reload reads the same file, wherever --rundir leads. The log begins with it."""
        port = free_port()
        path = in_folder / "fingergw.toml"
        path.write_text(f'[[listeners]]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n{HELLO}')
        with forked(["--rundir", "/"], port=port, cwd=in_folder) as running:
            assert finger(port, b"hello\r\n") == b"Hello\r\n"
            path.write_text(path.read_text().replace("Hello", "Changed"))
            running.send_signal(signal.SIGHUP)
            wait_until(lambda: finger(port, b"hello\r\n") == b"Changed\r\n", "the reload")
            running.terminate()
            out, err = running.communicate(timeout=20)
        assert err == ""
        assert out.splitlines()[0].endswith(f"#info] fingergw {fingergw.__version__} with {path}")

    def test_plug_in(self, in_folder: Path) -> None:
        """The twistd plug-in takes the packaged one likewise; its log begins with the file's escaped path."""
        folder = in_folder / "\u00e9\n2026 [x] forged"
        folder.mkdir()
        code = """
import sys
from twisted.logger import globalLogPublisher, formatEvent
events = []
globalLogPublisher.addObserver(events.append)
from fingergw.app import tap
for path in ((), ("--config", sys.argv[1])):
    options = tap.Options()
    options.parseOptions(list(path))
    del events[:]
    tap.makeService(options)
    print(formatEvent(events[0]))
"""
        (folder / "fingergw.toml").write_text(HERE)
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder / "fingergw.toml")],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        begin = f"fingergw {fingergw.__version__} with "
        escaped = f"{in_folder}/\\u00e9\\n2026 [x] forged/fingergw.toml"
        assert done.stdout.splitlines() == [f"{begin}{PACKAGED}", f"{begin}{escaped}"]

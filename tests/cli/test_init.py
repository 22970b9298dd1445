"""``fingergw init``: a file to start from, with its schema beside it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fingergw.cli import main
from fingergw.config.schema import schema_text
from tests.support.processes import ROOT

SCHEMA = "fingergw.schema.json"


def test_writes_what_check_accepts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It writes a file without mistakes, whose first line names the schema beside it, and prints how to run it."""
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    said = "wrote fingergw.toml, and fingergw.schema.json for editors; run it: fingergw --config fingergw.toml\n"
    assert capsys.readouterr().out == said
    first, _, rest = (tmp_path / "fingergw.toml").read_text().partition("\n")
    assert first == f"#:schema ./{SCHEMA}"
    assert rest == (ROOT / "fingergw.toml").read_text().partition("\n")[2]
    assert (tmp_path / SCHEMA).read_text() == schema_text()
    assert main(["check", "--config", "fingergw.toml"]) == 0


def test_never_writes_over_a_configuration(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An existing file, or a dangling link, stays as it is, and nothing is written beside it."""
    (tmp_path / "mine.toml").write_text("mine")
    (tmp_path / "link.toml").symlink_to("nowhere")
    for name in ("mine.toml", "link.toml"):
        path = tmp_path / name
        assert main(["init", str(path)]) == 1
        assert capfd.readouterr().err == f"fingergw: {path} exists; name another file, or remove it first\n"
    assert (tmp_path / "mine.toml").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"link.toml", "mine.toml"}


def test_an_older_schema_of_ours_is_replaced(tmp_path: Path) -> None:
    """A schema that another version of fingergw wrote is replaced, and shared by several files."""
    for name in ("a.toml", "b.toml"):
        older = json.loads(schema_text())
        del older["definitions"]["menu"]
        (tmp_path / SCHEMA).write_text(json.dumps(older))
        assert main(["init", str(tmp_path / name)]) == 0
        assert (tmp_path / SCHEMA).read_text() == schema_text()


@pytest.mark.parametrize("text", ['{"title": "other"}', "[]", "no JSON"])
def test_another_file_by_the_schemas_name_is_left_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], text: str
) -> None:
    """Another file with the schema's name is not overwritten, and the message says what to do."""
    schema = tmp_path / SCHEMA
    schema.write_text(text)
    assert main(["init", str(tmp_path / "f.toml")]) == 1
    said = f"fingergw: {schema} exists and is not fingergw's; move it, or name a configuration in another folder\n"
    assert capfd.readouterr().err == said
    assert schema.read_text() == text
    assert list(tmp_path.iterdir()) == [schema]


def test_a_pipe_by_the_schemas_name(tmp_path: Path) -> None:
    """It does not wait for a pipe with the schema's name."""
    os.mkfifo(tmp_path / SCHEMA)
    assert main(["init", str(tmp_path / "f.toml")]) == 1


def test_no_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """For a folder that does not exist, the message says what to do."""
    path = tmp_path / "none" / "f"
    assert main(["init", str(path)]) == 1
    said = (
        f"fingergw: {path.parent / SCHEMA}: No such file or directory; make its folder first: mkdir -p {path.parent}\n"
    )
    assert capfd.readouterr().err == said

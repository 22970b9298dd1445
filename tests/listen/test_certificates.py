"""TLS certificates that are renewed while the gateway runs, and what is wrong with them."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from OpenSSL import SSL
from twisted.internet.ssl import CertificateOptions
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent

from fingergw.app.gateway import Gateway
from fingergw.core.errors import ListenError
from fingergw.listen.certificates import KeyPair, PemFolder, creator
from fingergw.listen.endpoints import server
from fingergw.net import watched
from fingergw.net.watched import Watched
from tests.support.configuration import HELLO
from tests.support.gateway import GatewayCase, port_of
from tests.support.good_certificates import AUTHORITY, CERTIFICATE, GOOD, KEY, issue, leaf, put
from tests.support.sockets import receive_all
from tests.support.waiting import DEADLINE_SECONDS, reactor

LOG_OFF = '[log]\naccess = "off"\n'


def shake_hands(serving: Any, name: str | None, authority: trustme.CA | None = None) -> bytes:
    """Do a handshake in memory, and return the server's certificate.

    :param name: what the client asks for; None for one that does not say.
    :param authority: whom the client trusts, and then it looks at the chain and the name too.
    """
    server: SSL.Connection = serving.serverConnectionForTLS(None)
    server.set_accept_state()
    context = ssl.create_default_context()
    context.check_hostname = authority is not None
    context.verify_mode = ssl.CERT_NONE if authority is None else ssl.CERT_REQUIRED
    if authority is not None:
        authority.configure_trust(context)
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(received, sent, server_hostname=name)
    for step in (client.do_handshake, server.do_handshake) * 3:
        with contextlib.suppress(ssl.SSLWantReadError, SSL.WantReadError):
            step()
        if sent.pending:
            server.bio_write(sent.read())
        with contextlib.suppress(SSL.WantReadError):
            received.write(server.bio_read(65536))
    certificate = client.getpeercert(binary_form=True)
    assert certificate is not None
    return certificate


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a change be seen at once, however busy the machine is."""
    monkeypatch.setattr(watched, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(watched, "PATIENCE_SECONDS", DEADLINE_SECONDS)


def reports_of(action: Callable[[], object]) -> list[str]:
    """Return what is logged while something is done."""
    with capturedLogs() as events:
        action()
    return [formatEvent(event) for event in events]


@pytest.mark.usefixtures("at_once")
def test_renewed_pair(tmp_path: Path) -> None:
    """Between the renewal of a certificate and of its key the old ones serve, and one line says so."""
    key, certificate = tmp_path / "k.pem", tmp_path / "c.pem"
    for first, second in (("ck"), ("kc")):
        old, new = issue("localhost"), issue("localhost")
        for part, path in (("k", key), ("c", certificate)):
            put(tmp_path, path.name, old, part)
        serving = creator(KeyPair(key, certificate))
        assert shake_hands(serving, "localhost") == leaf(old)
        put(tmp_path, f"{first}.pem", new, first)
        with capturedLogs() as events:
            assert [shake_hands(serving, "localhost") for _ in range(3)] == [leaf(old)] * 3
        (line,) = [formatEvent(event) for event in events]
        assert f"those from before stay in use: {key}: this is not the key of the certificate in {certificate}" in line
        put(tmp_path, f"{second}.pem", new, second)
        assert shake_hands(serving, "localhost", AUTHORITY) == leaf(new)


def test_full_chain(tmp_path: Path) -> None:
    """The certificates that follow the first in its file are sent as its chain, or those of a chain file instead."""
    between = AUTHORITY.create_child_ca()
    issued = between.issue_cert("localhost")
    put(tmp_path, "full.pem", issued)
    full = tmp_path / "full.pem"
    assert shake_hands(creator(KeyPair(full, full)), "localhost", AUTHORITY) == leaf(issued)
    own, chain = (blob.bytes() for blob in issued.cert_chain_pems[:2])
    (tmp_path / "own.pem").write_bytes(own)
    (tmp_path / "chain.pem").write_bytes(chain)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(creator(KeyPair(full, tmp_path / "own.pem")), "localhost", AUTHORITY)
    serving = creator(KeyPair(full, tmp_path / "own.pem", tmp_path / "chain.pem"))
    assert shake_hands(serving, "localhost", AUTHORITY) == leaf(issued)


def test_no_weaker_than_twisted(tmp_path: Path) -> None:
    """Protocol versions and ciphers are those that Twisted deems safe."""
    put(tmp_path, "own.pem", issue("localhost"))
    twisted = CertificateOptions().getContext()
    options = twisted.set_options(0)  # adds none
    assert options & SSL.OP_NO_TLSv1_1
    for files in (KeyPair(tmp_path / "own.pem", tmp_path / "own.pem"), PemFolder(tmp_path)):
        context = files.load()
        assert context.set_options(0) == options
        assert SSL.Connection(context).get_cipher_list() == SSL.Connection(twisted).get_cipher_list()


def test_names(tmp_path: Path) -> None:
    """Each name gets its certificate, whatever its case; a wildcard one level; anything else the first file's."""
    (tmp_path / "deeper").mkdir()
    a, b = (
        put(tmp_path, "a.pem", issue("a.example.org")),
        put(tmp_path, "b.pem", issue("b.example.org", "c.example.org")),
    )
    wild = put(tmp_path, "deeper/w.pem", issue("*.wild.example.org"))
    serving = creator(PemFolder(tmp_path))
    expected = {
        "a.example.org": a,
        "B.example.org": b,
        "c.example.org": b,
        "x.wild.example.org": wild,
        "x.y.wild.example.org": a,
        "other.example.org": a,
        None: a,
    }
    for name, issued in expected.items():
        assert shake_hands(serving, name) == leaf(issued), name
    assert shake_hands(serving, "c.example.org", AUTHORITY) == leaf(b)


def test_address_only(tmp_path: Path) -> None:
    """A certificate for an address alone serves those who ask for no name."""
    own = put(tmp_path, "own.pem", issue("127.0.0.1"))
    assert shake_hands(creator(PemFolder(tmp_path)), None) == leaf(own)


def test_chain_in_folder(tmp_path: Path) -> None:
    """A chain is put together from all of the folder's files, the authority's own certificate among them or not."""
    between = AUTHORITY.create_child_ca()
    issued = between.issue_cert("localhost")
    (tmp_path / "a.pem").write_bytes(issued.private_key_pem.bytes())
    for name, blob in zip(("b.pem", "c.pem"), issued.cert_chain_pems, strict=False):
        (tmp_path / name).write_bytes(blob.bytes())
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "root.pem"))
    assert shake_hands(creator(PemFolder(tmp_path)), "localhost", AUTHORITY) == leaf(issued)


@pytest.mark.usefixtures("at_once")
def test_folder_changes(tmp_path: Path) -> None:
    """In a folder a file that is renewed, added, removed, or in a new folder below it is seen."""
    a = put(tmp_path, "a.pem", issue("a.example.org"))
    serving = creator(PemFolder(tmp_path))
    assert shake_hands(serving, "a.example.org") == leaf(a)
    renewed = put(tmp_path, "a.pem", issue("a.example.org"))
    assert shake_hands(serving, "a.example.org") == leaf(renewed)
    later = put(tmp_path, "z.pem", issue("a.example.org", days=60))
    assert shake_hands(serving, "a.example.org") == leaf(later)
    (tmp_path / "z.pem").unlink()
    assert shake_hands(serving, "a.example.org") == leaf(renewed)
    (tmp_path / "b").mkdir()
    b = put(tmp_path, "b/b.pem", issue("b.example.org"))
    assert shake_hands(serving, "b.example.org") == leaf(b)
    assert shake_hands(serving, "a.example.org") == leaf(renewed)


def test_folder_without_a_file_for_a_moment(tmp_path: Path) -> None:
    """A file that is removed and made anew is not missed in between."""
    put(tmp_path, "a.pem", issue("a.example.org"))
    put(tmp_path, "b.pem", issue("b.example.org"))
    (tmp_path / "c").mkdir()
    put(tmp_path, "c/d.pem", issue("d.example.org"))
    files = [str(path.relative_to(tmp_path)) for path in PemFolder(tmp_path).files()]
    assert sorted(files) == [".", "a.pem", "b.pem", "c", "c/d.pem"]  # a folder's own time moves when a file goes
    folder, times = PemFolder(tmp_path), {"passed": 0.0, "ahead": 10.0}
    serving = Watched(
        folder.load, folder.files, pytest.fail, lambda: times["passed"], lambda: time.time() + times["ahead"]
    )
    before = serving.current()
    times.update(passed=2.0, ahead=0.0)
    (tmp_path / "b.pem").unlink()
    assert serving.current() is before
    times.update(passed=4.0, ahead=10.0)
    put(tmp_path, "b.pem", issue("b.example.org"))
    assert serving.current() is not before


@pytest.mark.usefixtures("at_once")
def test_folder_half_renewed(tmp_path: Path) -> None:
    """While one name's key and certificate do not match, every name keeps what it had."""
    a = put(tmp_path, "a.pem", issue("a.example.org"))
    for order in ("kc", "ck"):
        old, new = issue("b.example.org"), issue("b.example.org")
        for part in "kc":
            put(tmp_path, f"b-{part}.pem", old, part)
        serving = creator(PemFolder(tmp_path))
        put(tmp_path, f"b-{order[0]}.pem", new, order[0])
        with capturedLogs() as events:
            assert shake_hands(serving, "b.example.org") == leaf(old)
            assert shake_hands(serving, "a.example.org") == leaf(a)
        (line,) = [formatEvent(event) for event in events]
        assert f"{tmp_path}/b-k.pem: this is not the key of the certificate in {tmp_path}/b-c.pem" in line
        put(tmp_path, f"b-{order[1]}.pem", new, order[1])
        assert shake_hands(serving, "b.example.org") == leaf(new)


@pytest.mark.usefixtures("at_once")
def test_folder_gone(tmp_path: Path) -> None:
    """A folder that is emptied leaves what was in it."""
    own = put(tmp_path, "own.pem", issue("localhost"))
    serving = creator(PemFolder(tmp_path))
    (tmp_path / "own.pem").unlink()
    assert len(reports_of(lambda: shake_hands(serving, None))) == 1
    assert shake_hands(serving, None) == leaf(own)


def encrypted(pem: bytes) -> bytes:
    """Return a key with a passphrase on it."""
    key = load_pem_private_key(pem, None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame"))


# RFC 7919 §A.1
FFDHE2048 = bytes.fromhex(
    "FFFFFFFFFFFFFFFFADF85458A2BB4A9AAFDC5620273D3CF1D8B9C583CE2D3695A9E13641146433FBCC939DCE249B3EF97D2FE363630C75D8"
    "F681B202AEC4617AD3DF1ED5D5FD65612433F51F5F066ED0856365553DED1AF3B557135E7F57C935984F0C70E0E68B77E2A689DAF3EFE872"
    "1DF158A136ADE73530ACCA4F483A797ABC0AB182B324FB61D108A94BB2C8E3FBB96ADAB760D7F4681D4F42A3DE394DF4AE56EDE76372BB19"
    "0B07A7C8EE0A6D709E02FCE1CDF7E2ECC03404CD28342F619172FE9CE98583FF8E4F1232EEF28183C3FE3B1B4C6FAD733BB5FCBC2EC22005"
    "C58EF1837D1683B2C6F34A26C1B2EFFA886B423861285C97FFFFFFFFFFFFFFFF"
)
BROKEN = b"-----BEGIN %s-----\nAAAA\n-----END %s-----\n"
WRONG_PAIRS = {
    "no certificate": (KEY, b"", "c.pem: expected one or more certificates in PEM form"),
    "no key": (b"", CERTIFICATE, "k.pem: expected a private key in PEM form"),
    "another's": (issue("localhost").private_key_pem.bytes(), CERTIFICATE, "k.pem: this is not the key of the cert"),
    "encrypted": (
        encrypted(KEY),
        CERTIFICATE,
        "k.pem: this key is encrypted, and the gateway cannot ask for its passphrase",
    ),
    "broken key": (BROKEN % (b"PRIVATE KEY", b"PRIVATE KEY"), CERTIFICATE, "k.pem: a private key in it is broken"),
    "broken": (
        KEY,
        BROKEN % (b"CERTIFICATE", b"CERTIFICATE"),
        "c.pem: a certificate in it cannot be parsed; replace the file with a certificate in PEM form",
    ),
    "binary": (KEY, bytes(range(256)), "c.pem: expected one or more certificates in PEM form"),
}


@pytest.mark.parametrize("case", WRONG_PAIRS)
def test_wrong_pairs(tmp_path: Path, case: str) -> None:
    """What is wrong with a key or a certificate is said with the file's name, by ``check`` too, and asks nobody."""
    key, certificate, message = WRONG_PAIRS[case]
    (tmp_path / "k.pem").write_bytes(key)
    (tmp_path / "c.pem").write_bytes(certificate)
    with pytest.raises(ListenError) as caught:
        server(f"ssl:0:privateKey={tmp_path}/k.pem:certKey={tmp_path}/c.pem").secured(reactor)
    assert str(caught.value).startswith(f"{tmp_path}/{message}")
    assert "sesame" not in str(caught.value)
    if case not in ("no certificate", "no key", "binary"):  # which are no mistakes in a folder with others
        with pytest.raises(ListenError) as caught:
            server(f"tls:{tmp_path}:0").secured(reactor)
        assert message.partition(":")[0] in str(caught.value)


def test_wrong_others(tmp_path: Path) -> None:
    """Chains, Diffie-Hellman parameters and methods are looked at too."""
    put(tmp_path, "own.pem", GOOD)
    (tmp_path / "other.pem").write_text("no PEM")
    for argument, message in {
        f"extraCertChain={tmp_path}/other.pem": "other.pem: expected one or more certificates in PEM form",
        f"extraCertChain={tmp_path}/none.pem": "none.pem: No such file or directory",
        f"dhParameters={tmp_path}/other.pem": "other.pem: cannot be used for TLS: TLS: ",
        f"dhParameters={tmp_path}/none.pem": "none.pem: No such file or directory",
        "sslmethod=Context": "expected sslmethod to be one of",
        "certKey=/nonexistent": "/nonexistent: No such file or directory",
    }.items():
        with pytest.raises(ListenError, match=message):
            server(f"ssl:0:privateKey={tmp_path}/own.pem:{argument}").secured(reactor)


def test_diffie_hellman(tmp_path: Path) -> None:
    """Good Diffie-Hellman parameters are taken (the group of RFC 7919 of 2048 bits)."""
    put(tmp_path, "own.pem", GOOD)
    encoded = b64encode(b"\x30\x82\x01\x08\x02\x82\x01\x01\x00" + FFDHE2048 + b"\x02\x01\x02")  # p, and 2, in DER
    pem = b"-----BEGIN DH PARAMETERS-----\n%s\n-----END DH PARAMETERS-----\n"
    (tmp_path / "dh.pem").write_bytes(pem % b"\n".join(encoded[at : at + 64] for at in range(0, len(encoded), 64)))
    path = tmp_path / "own.pem"
    assert shake_hands(creator(KeyPair(path, path, dh_parameters=tmp_path / "dh.pem")), "localhost") == leaf(GOOD)


def test_folder_without_pairs(tmp_path: Path) -> None:
    """A folder in which nothing can serve is a mistake; a key of something else beside a pair is none."""
    for parts in ("k", "c"):
        put(tmp_path, "own.pem", GOOD, parts)
        with pytest.raises(ListenError, match=r"has no \*\.pem file with a certificate and its key"):
            PemFolder(tmp_path).load()
    put(tmp_path, "own.pem", GOOD)
    put(tmp_path, "account.pem", issue("localhost"), "k")
    PemFolder(tmp_path).load()


def test_pipes_and_devices(tmp_path: Path) -> None:
    """A file that is none, and could be read for ever, is a mistake; in a folder it is passed over."""
    put(tmp_path, "own.pem", GOOD)
    os.mkfifo(tmp_path / "pipe.pem")
    own = f"ssl:0:privateKey={tmp_path}/own.pem"
    for endpoint in (
        f"ssl:0:privateKey={tmp_path}/pipe.pem",
        f"{own}:certKey=/dev/zero",
        f"{own}:extraCertChain={tmp_path}/pipe.pem",
        f"{own}:dhParameters={tmp_path}/pipe.pem",
    ):
        with pytest.raises(ListenError, match="not a regular file; name a regular file"):
            server(endpoint).secured(reactor)
    server(f"tls:{tmp_path}:0").secured(reactor)


@pytest.mark.usefixtures("at_once")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_folder_of_the_past_user(tmp_path: Path) -> None:
    """Certificates that cannot be reached since root was given up serve on, as do others' beside them."""
    archive, live = tmp_path / "archive", tmp_path / "live"  # as certbot has them
    for name in ("a.example", "b.example"):
        (live / name).mkdir(parents=True)
        (archive / name).mkdir(parents=True)
        put(archive / name, "all1.pem", issue(name))
        (live / name / "all.pem").symlink_to(f"../../archive/{name}/all1.pem")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & 0o001:
            folder.chmod(0o711)
    serving = creator(PemFolder(live))
    before = [shake_hands(serving, name) for name in ("a.example", "b.example")]
    for closed in (live / "b.example", archive / "b.example"):
        (archive / "b.example").chmod(0o755)
        closed.chmod(0o700)
        put(archive / "a.example", "all1.pem", issue("a.example"))
        os.seteuid(65534)
        try:
            logged = reports_of(lambda: [shake_hands(serving, "a.example") for _ in range(3)])
            assert [shake_hands(serving, name) for name in ("a.example", "b.example")] == before
        finally:
            os.seteuid(0)
        assert len(logged) == 1
        assert "Permission denied" in logged[0]
        assert f"{live}/b.example" in logged[0]
        assert "see to it that the gateway's group can read it" in logged[0]
        (live / "b.example").chmod(0o755)


def test_keys_as_openssl_writes_them(tmp_path: Path) -> None:
    """A key of the older form, behind parameters and text, is read."""
    older = load_pem_private_key(KEY, None).private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )
    text = b"Some text\n-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    (tmp_path / "own.pem").write_bytes(CERTIFICATE + text + older)
    path = tmp_path / "own.pem"
    assert shake_hands(creator(KeyPair(path, path)), "localhost") == leaf(GOOD)
    assert shake_hands(creator(PemFolder(tmp_path)), "localhost") == leaf(GOOD)


class TlsCase(GatewayCase):
    """Tests with clients that check certificates."""

    def _connect(self, gateway: Gateway) -> ssl.SSLSocket:
        address: Any = gateway.listeners[0].port
        context = ssl.create_default_context()
        AUTHORITY.configure_trust(context)
        plain = socket.create_connection((address.getHost().host, port_of(gateway)), timeout=10)
        client = context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)
        self.addCleanup(client.close)
        return client

    async def _connected(self, gateway: Gateway) -> ssl.SSLSocket:
        client: ssl.SSLSocket = await deferToThread(self._connect, gateway)
        return client


class StormTests(TlsCase):
    """Renewal by the clock on the wall."""

    async def test_no_handshake_is_lost(self) -> None:
        """While certificate and key are replaced one after the other, every client is served."""
        folder = self.write("x", "").parent
        old, new = issue("localhost"), issue("localhost")
        for part in "kc":
            put(folder, f"{part}.pem", old, part)
        endpoint = "ssl:0:privateKey=k.pem:certKey=c.pem:interface=127.0.0.1"
        gateway = self.start(f"[[listeners]]\nendpoint = '{endpoint}'\n" + HELLO + LOG_OFF)
        seen = []
        began_at = time.monotonic()
        steps = [(0.9, "c"), (1.2, "k")]  # at the first look they do not match
        with capturedLogs() as events:
            while leaf(new) not in seen and time.monotonic() < began_at + DEADLINE_SECONDS:
                if steps and time.monotonic() > began_at + steps[0][0]:
                    part = steps.pop(0)[1]
                    put(folder, f"{part}.pem", new, part)
                client = await self._connected(gateway)
                seen.append(client.getpeercert(binary_form=True))
                client.sendall(b"hello\r\n")
                assert await deferToThread(receive_all, client) == b"Hello\r\n"
                client.close()
        assert seen[0] == leaf(old)
        assert seen[-1] == leaf(new)
        assert events == []


@pytest.mark.usefixtures("at_once")
class RenewalTests(TlsCase):
    """A gateway whose certificates are renewed, and clients that check them."""

    async def _check(self, endpoint: str) -> None:
        folder = self.write("x", "").parent
        old = put(folder, "own.pem", issue("localhost"))
        gateway = self.start(f"[[listeners]]\nendpoint = '{endpoint}'\n" + HELLO + LOG_OFF)
        client = await self._connected(gateway)
        new = put(folder, "own.pem", issue("localhost"))
        other = await self._connected(gateway)
        assert client.getpeercert(binary_form=True) == leaf(old)
        assert other.getpeercert(binary_form=True) == leaf(new)
        for each in (client, other):
            each.sendall(b"hello\r\n")
            assert await deferToThread(receive_all, each) == b"Hello\r\n"

    async def test_ssl(self) -> None:
        """A new connection has the renewed certificate, and one that was open before is answered too."""
        await self._check("ssl:0:privateKey=own.pem:interface=127.0.0.1")

    async def test_tls(self) -> None:
        """Likewise with a folder."""
        await self._check(r"tls:.:0:interface=\:\:1")

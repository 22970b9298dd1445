"""A store in Redis, shared by several gateways. Importing it installs the reactor, as txredisapi does."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, get_args

import txredisapi
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from fingergw.cache.shares import Owner
from fingergw.cache.store import MARK_SECONDS, Claim, Found, Mark
from fingergw.net.reasons import reason

_AGE_BYTES = 64  # a reply has a line before the value; this is more than it takes
_MAX_ERROR_CHARACTERS = 200
_PROBE_SECONDS = 1.0
_CLAIMS = get_args(Claim)
# A claim that Redis runs later than this is void: its gateway does not wait any more.
_LATE_MS = 250

# KEYS: the value's key and its lock's. ARGV[1]: this store's token. ARGV[2]: when the script was sent, by Redis's
# clock, which all gateways share; a Redis that was stopped runs it much later. A value begins with a line "1 KEEP": the
# milliseconds that it was put for. Its age is how many of them have passed.
_COMMON = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local late = now - ARGV[2]
local function text(key, last)
  return redis.call('TYPE', key).ok == 'string' and redis.call('GETRANGE', key, 0, last)
end
"""
_CLAIM = f"""{_COMMON}
local keep = string.match(text(KEYS[1], 17) or '', '^1 (%d+)\\n')
local left = redis.call('PTTL', KEYS[1])
if keep and left >= 0 and redis.call('STRLEN', KEYS[1]) - #keep - 3 <= tonumber(ARGV[3]) then
  local value = redis.call('GETRANGE', KEYS[1], #keep + 3, -1)
  if redis.sha1hex(value) ~= ARGV[4] then
    return string.format('%.0f\\n', math.max(0, keep - left)) .. value
  end
end
if math.abs(late) > {_LATE_MS} then return {{ok = string.format('late %.0f', now)}} end
local lock = text(KEYS[2], 63)
if not lock or redis.call('PTTL', KEYS[2]) < 0 or lock == ARGV[1] or lock == 'failed' and ARGV[6] == '0' then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[5])
  return {{ok = 'granted'}}
end
return {{ok = (lock == 'failed' or lock == 'not shared') and lock or 'held'}}
"""
_GIVE_UP = """
local lock = text(KEYS[2], 63)
if lock == ARGV[1] or lock == 'not shared' then
  if ARGV[3] == '' then redis.call('DEL', KEYS[2]) else redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4]) end
end
return {ok = 'done'}
"""
_PUT = f"""{_COMMON}
local left = ARGV[6] - math.max(0, late)
if left > 0 then redis.call('SET', KEYS[1], ARGV[5], 'PX', left) end
{_GIVE_UP}"""
_DROP = f"{_COMMON} redis.call('DEL', KEYS[1]) {_GIVE_UP}"
_RELEASE = f"{_COMMON} {_GIVE_UP}"


class _Connection(txredisapi.BaseRedisProtocol):  # type: ignore[misc]  # it has no types
    """A connection that is aborted at the first thing that cannot be a reply of the scripts, AUTH or SELECT.

    This also bounds the memory that it takes, as no reply is a list. hiredis, which has no bounds, is never used.

    :param max_bytes: the largest reply.
    :param secret: text that is removed from errors.
    :param lost: fires when the connection is lost.
    """

    connected: int
    secret = ""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(charset=None, convertNumbers=False)
        self.max_bytes = max_bytes
        self.lost: Deferred[None] = Deferred()

    def abort(self, why: str) -> None:
        """Abort the connection; calls that wait for a reply fail."""
        if self.connected:
            self.connected = 0
            self.transport.abortConnection()
        while self.replyQueue.waiting:
            self.replyQueue.put(txredisapi.ConnectionError(why))

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        if not self.connected:  # the rest of the read in which it was aborted
            return
        try:
            super().dataReceived(data, unpause)
        except UnicodeDecodeError:
            self.abort("it does not speak Redis's protocol: a line is not UTF-8")

    def lineReceived(self, line: str) -> bool:
        """Handle a line.

        :return: whether to ignore the rest of the same read.
        """
        kind, rest = line[:1], line[1:]
        if kind == "-":
            super().lineReceived("-" + self._fit(rest))
        elif kind == "+" or (kind == "$" and rest.isdecimal() and len(rest) < 10 and int(rest) <= self.max_bytes):
            super().lineReceived(line)
        else:
            self.abort(f"it does not speak Redis's protocol: {self._fit(line)!r}")
        return not self.connected

    def lineLengthExceeded(self, line: bytes) -> None:  # the inherited method would wait until all is sent
        self.abort("it does not speak Redis's protocol: a line has no end")

    def replyReceived(self, reply: object) -> None:
        if self.replyQueue.waiting:
            super().replyReceived(reply)
        else:
            self.abort("it has sent a reply to no command")

    def connectionLost(self, why: Failure) -> None:
        self.connected = 0
        self.abort(self._fit(reason(why.value)))
        super().connectionLost(why)
        self.lost.callback(None)

    def _fit(self, text: str) -> str:
        """Return an error's text, short and without the secret, for the log."""
        text = text.partition(", with args")[0]  # Redis repeats the arguments here, cut off anywhere
        text = text.replace(self.secret, "***") if self.secret else text
        return "".join(character if character.isprintable() else "?" for character in text[:_MAX_ERROR_CHARACTERS])


@define(eq=False, repr=False)
class RedisStore:
    """Keeps values, and claims under ``fingergw:lock:``, where no value's key can be.

    Calls have no timeout, but close() ends them.

    :param max_value_bytes: longer values are neither put nor found.
    :param seconds: a monotonic clock.
    :param ahead_ms: how far Redis's clock is ahead of that one, as far as is known.
    :param connection: None while the store is closed.
    """

    endpoint: IStreamClientEndpoint
    database: int
    username: str | None
    password: str | None
    max_value_bytes: int
    seconds: Callable[[], float]
    ahead_ms: int = field(init=False, default=0)
    connection: _Connection | None = field(init=False, default=None)
    _token: str = field(init=False, factory=lambda: secrets.token_hex(16))

    async def open(self) -> None:
        await self.close()
        connection = _Connection(self.max_value_bytes + _AGE_BYTES)
        try:
            factory = Factory.forProtocol(lambda: connection)
            factory.noisy = False  # or it would log two lines for each attempt
            await self.endpoint.connect(factory)
            self.connection = connection
            if self.password is not None:
                connection.secret = self.password
                await connection.auth(self.password, self.username)
                connection.secret = ""  # it may be a word by which txredisapi recognises an error
            await connection.select(self.database)
            # Try what is used later: Redis may be a replica, or full, or forbid a command.
            probe = f"fingergw:probe:{self._token}"
            await self.claim(probe, "", _PROBE_SECONDS, waited=False)  # first, as it reads Redis's clock
            await self.put(probe, b"", _PROBE_SECONDS, missing=False, owner=Owner("", ""))
        except BaseException:
            connection.abort("not opened")
            raise

    async def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abort("closed")
            await connection.lost  # in the reactor's next iteration, whatever Redis does

    async def claim(self, key: str, known: str, lock_seconds: float, waited: bool) -> Found | Claim:
        claiming = (_CLAIM, key, self.max_value_bytes, known, _milliseconds(lock_seconds), int(waited))
        reply = await self._run(*claiming)
        if isinstance(reply, str) and reply.startswith("late ") and reply[5:].isdecimal():
            # perhaps it only seems late: the clocks have drifted, or Redis's was set, or has not been read yet
            self.ahead_ms = int(reply[5:]) - self._now_ms()
            reply = await self._run(*claiming)
        if reply in _CLAIMS:
            return reply  # type: ignore[no-any-return]
        age, _, value = reply.partition(b"\n") if isinstance(reply, bytes) else (b"", b"", b"")
        if not age.isdigit():
            raise self._unexpected()
        return Found(value, int(age) / 1000)

    async def put(
        self, key: str, value: bytes, keep_seconds: float, missing: bool, owner: Owner, mark: Mark = ""
    ) -> None:
        if len(value) > self.max_value_bytes:
            return await self.drop(key, mark)  # nobody would find it
        keep = _milliseconds(keep_seconds)
        return await self._give_up(_PUT, key, mark, b"1 %d\n%b" % (keep, value), keep)

    async def drop(self, key: str, mark: Mark = "") -> None:
        await self._give_up(_DROP, key, mark)

    async def release(self, key: str, mark: Mark) -> None:
        await self._give_up(_RELEASE, key, mark)

    async def _give_up(self, script: str, key: str, mark: Mark, *value: bytes | int) -> None:
        if await self._run(script, key, mark, _milliseconds(MARK_SECONDS[mark]), *value) != "done":
            raise self._unexpected()

    async def _run(self, script: str, key: str, *arguments: str | bytes | int) -> Any:
        if self.connection is None:
            raise txredisapi.ConnectionError("not open")
        sent_at = self._now_ms() + self.ahead_ms
        return await self.connection.eval(script, [key, f"fingergw:lock:{key}"], [self._token, sent_at, *arguments])

    def _now_ms(self) -> int:
        return int(self.seconds() * 1000)

    def _unexpected(self) -> Exception:
        """Abort the connection, and return the error to raise."""
        error: Exception = txredisapi.InvalidResponse("it does not reply as fingergw's scripts do")
        if self.connection is not None:
            self.connection.abort(str(error))
        return error


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))  # Redis refuses 0

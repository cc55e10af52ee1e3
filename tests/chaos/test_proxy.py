"""What passes through the proxy, and what is done to it, over real sockets and made-up time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import chaos_rules
from yottabench.chaos.proxy import ChaosProxy, Time
from yottabench.chaos.rules import Rule, Rules, read_rule

pytestmark = pytest.mark.anyio
ENOUGH_S = 20.0


@attrs.define
class MadeUp:
    """Time that passes only where somebody sleeps; `waits` is how long each did."""

    now_s: float = 0.0
    waits: list[float] = attrs.field(factory=list)

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)

    def passing(self) -> Time:
        return Time(now_s=lambda: self.now_s, sleep=self.sleep)


@attrs.define(eq=False)
class Client:
    """One connection through the proxy. Reads give what came until `size` bytes, the end, or a reset."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def hear(self, size: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(size), ENOUGH_S)

    async def hear_all(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), ENOUGH_S)


@attrs.define(eq=False)
class Line:
    """A proxy before a server that says back what it hears, and then hangs up as its client does."""

    proxy: ChaosProxy
    port: int
    time: MadeUp
    heard: list[bytes]
    ends: list[str]
    ended: asyncio.Event
    clients: list[Client] = attrs.field(factory=list)

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def end(self) -> str:
        """How the server's oldest connection ended: `orderly` or `reset`."""
        async with asyncio.timeout(ENOUGH_S):
            await self.ended.wait()
        return self.ends[0]


@contextlib.asynccontextmanager
async def line(*rules: str | Rule, seed: int = 1) -> AsyncIterator[Line]:
    heard: list[bytes] = []
    ends: list[str] = []
    ended = asyncio.Event()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        how = "orderly"
        try:
            while data := await reader.read(65536):
                heard.append(data)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            how = "reset"
        ends.append(how)
        ended.set()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    time = MadeUp()
    proxy = ChaosProxy("127.0.0.1", server.sockets[0].getsockname()[1], Rules(seed), passing=time.passing())
    for rule in rules:
        proxy.add(read_rule(rule) if isinstance(rule, str) else rule)
    _, port = await proxy.start("127.0.0.1", 0)
    there = Line(proxy, port, time, heard, ends, ended)
    try:
        yield there
    finally:
        for client in there.clients:
            client.writer.close()
            with contextlib.suppress(ConnectionError):
                await client.writer.wait_closed()
        await proxy.close()
        server.close()
        await server.wait_closed()


async def test_without_rules_everything_passes_both_ways_and_ends_as_it_ended() -> None:
    data = bytes(range(256)) * 4096  # a megabyte
    async with line() as there:
        client = await there.client()
        saying = asyncio.ensure_future(client.say(data))
        assert await client.hear(len(data)) == data
        await saying
        client.writer.write_eof()  # one side has ended, the other may still speak
        assert await client.hear_all() == b""
        assert await there.end() == "orderly"
        stats = there.proxy.stats()
        assert (stats["connections"], stats["bytes_to_target"], stats["bytes_to_client"]) == (1, len(data), len(data))


async def test_a_reset_is_passed_on_as_a_reset() -> None:
    async with line() as there:
        client = await there.client()
        await client.say(b"hello")
        await client.hear(5)
        client.writer.transport.abort()
        # An abort with nothing unread is an orderly end on this side; what matters is that it comes through at once.
        assert await there.end() in {"orderly", "reset"}


async def test_nobody_behind_the_proxy_is_a_reset() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    free = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    proxy = ChaosProxy("127.0.0.1", free, Rules())
    _, port = await proxy.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), ENOUGH_S)
    assert proxy.stats()["unreachable"] == 1
    writer.close()
    await proxy.close()


async def test_latency_holds_each_piece_back_and_keeps_their_order() -> None:
    async with line("latency ms=200 jitter=150 towards=client") as there:
        client = await there.client()
        for number in range(20):
            await client.say(b"%03d" % number)
            assert await client.hear(3) == b"%03d" % number
        assert all(0.05 <= wait <= 0.35 for wait in there.time.waits)
        assert len(set(there.time.waits)) > 10


async def test_the_end_of_a_connection_is_as_late_as_its_last_bytes() -> None:
    async with line("latency ms=60000") as there:
        client = await there.client()
        await client.say(b"and then I hung up")
        client.writer.write_eof()
        assert await client.hear_all() == b"and then I hung up"
        assert sum(there.time.waits) == pytest.approx(120)


async def test_a_slow_lane_passes_so_many_bytes_a_second() -> None:
    async with line("slow rate=1000 towards=client") as there:
        client = await there.client()
        await client.say(b"x" * 5000)
        assert await client.hear(5000) == b"x" * 5000
        assert sum(there.time.waits) == pytest.approx(5, abs=0.1)
        assert max(there.time.waits) <= 0.05 + 1e-9


@pytest.mark.parametrize("after", [0, 1, 7, 10])
async def test_a_cut_comes_at_its_byte_and_is_an_orderly_end(after: int) -> None:
    async with line(f"cut towards=client after={after}") as there:
        client = await there.client()
        await client.say(b"0123456789")
        assert await client.hear_all() == b"0123456789"[:after]


@pytest.mark.parametrize("after", [0, 4])
async def test_a_reset_comes_at_its_byte_and_both_sides_see_it(after: int) -> None:
    async with line(f"reset towards=client after={after}") as there:
        client = await there.client()
        await client.say(b"0123456789")
        with pytest.raises(ConnectionResetError):
            await client.hear_all()
        if after:
            assert await there.end() == "reset"
        else:
            assert there.heard == []  # the target never hears of it


async def test_a_cut_towards_the_target_leaves_it_with_a_part() -> None:
    async with line("cut towards=target after=4") as there:
        client = await there.client()
        await client.say(b"0123456789")
        await client.hear_all()
        assert await there.end() == "orderly"
        assert b"".join(there.heard) == b"0123"


async def test_garbage_replaces_bytes_and_leaves_the_others() -> None:
    async with line("garbage towards=client after=4 size=6") as there:
        client = await there.client()
        sent = b"a" * 100
        for at in range(0, 100, 5):  # in pieces, which must not matter
            await client.say(sent[at : at + 5])
        got = await client.hear(100)
        assert (got[:4], got[10:]) == (sent[:4], sent[10:])
        assert got[4:10] != sent[4:10]
        assert b"".join(there.heard) == sent


async def test_half_open_says_nothing_and_ends_nothing() -> None:
    async with line("half-open towards=client after=3") as there:
        client = await there.client()
        await client.say(b"abc")
        assert await client.hear(3) == b"abc"
        await client.say(b"defgh")
        async with asyncio.timeout(ENOUGH_S):
            while b"".join(there.heard) != b"abcdefgh":  # noqa: ASYNC110 -- the server has no event for it
                await asyncio.sleep(0.001)
        # It got everything and its answer is swallowed: nothing is there to read, and the connection stands.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.05)
        assert there.proxy.open_connections == 1


@pytest.mark.parametrize("after", [0, 2])
async def test_a_connection_that_is_dead_both_ways_is_let_go_when_a_side_leaves(after: int) -> None:
    async with line(f"half-open after={after}") as there:
        client = await there.client()
        await client.say(b"hi")
        assert await client.hear(after) == b"hi"[:after]
        await client.say(b"anybody there?")
        client.writer.close()
        await there.end()
        assert b"".join(there.heard) == b"hi"[:after]


async def test_a_rule_strikes_open_connections_from_their_next_bytes_on_and_goes_with_its_removal() -> None:
    async with line() as there:
        client = await there.client()
        await client.say(b"before")
        assert await client.hear(6) == b"before"
        spoils = there.proxy.add(read_rule("garbage towards=client size=3"))
        await client.say(b"during")
        got = await client.hear(6)
        assert (got[:3] != b"dur", got[3:]) == (True, b"ing")
        assert (spoils.given, spoils.struck) == (1, 1)
        cuts = there.proxy.add(read_rule("cut towards=client after=1"))
        assert there.proxy.remove(cuts.id)
        await client.say(b"after")
        assert await client.hear(5) == b"after"
        assert not there.proxy.remove(cuts.id)


async def test_a_share_of_connections_is_struck_and_the_others_are_left_alone() -> None:
    async with line("reset probability=0.5") as there:
        fates = []
        for _ in range(40):
            client = await there.client()
            await client.say(b"x")
            try:
                fates.append(await client.hear(1) == b"x")
            except (ConnectionError, asyncio.IncompleteReadError):
                fates.append(False)
        (rule,) = there.proxy.stats()["rules"]
        assert rule["struck"] == fates.count(False)
        assert 8 <= rule["struck"] <= 32


@settings(max_examples=40)
@given(chaos_rules(), st.binary(min_size=1, max_size=3000), st.integers(0, 5))
def test_whatever_the_rule_what_arrives_is_a_beginning_of_what_was_sent(rule: Rule, data: bytes, seed: int) -> None:
    async def main() -> None:
        async with line(rule, seed=seed) as there:
            client = await there.client()
            await client.say(data)
            if rule.kind == "half-open":
                return
            client.writer.write_eof()
            with contextlib.suppress(ConnectionError):
                got = await client.hear_all()
                if rule.kind == "garbage":
                    assert len(got) == len(data)
                else:
                    assert data.startswith(got)
                if rule.kind in {"latency", "slow"}:
                    assert got == data

    asyncio.run(main())


async def test_closing_breaks_off_what_is_open() -> None:
    async with line() as there:
        client = await there.client()
        await client.say(b"x")
        await client.hear(1)
        await there.proxy.close()
        with pytest.raises(ConnectionResetError):
            await client.hear_all()
        assert there.proxy.open_connections == 0

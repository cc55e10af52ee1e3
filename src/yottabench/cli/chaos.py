"""`yottabench chaos`: a TCP proxy that breaks connections, to stand between any two programs."""

import asyncio
import contextlib
import ipaddress
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yottabench.cli.connect import EXIT_FAILED, AsJson, stop

if TYPE_CHECKING:
    from yottabench.chaos.proxy import ChaosProxy
    from yottabench.chaos.rules import Rule

_HELP = "A fault, such as 'latency ms=200 jitter=50' or 'cut towards=client after=0..5000 probability=0.1'; repeatable."


def chaos(
    target: Annotated[str, typer.Option(help="Where connections lead: host:port, or a URL of http.")],
    listen: Annotated[str, typer.Option(help="Address to listen on; port 0 takes any free one.")] = "127.0.0.1:0",
    rule: Annotated[list[str] | None, typer.Option(help=_HELP)] = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn by chance; the same seed, the same faults.")] = 0,
    read_stdin: Annotated[
        bool,
        typer.Option("--stdin", help="Take commands: add RULE, remove ID, clear, stats. The end of it ends the proxy."),
    ] = False,
    anybody: Annotated[bool, typer.Option("--anybody", help="Listen on an address that others can reach.")] = False,
    as_json: AsJson = False,
) -> None:
    """Pass TCP connections on to a target and break them: latency, slow, garbage, cut, reset, half-open.

    Nothing of what passes is looked at, kept or printed.
    """
    from yottabench.chaos.proxy import ChaosProxy
    from yottabench.chaos.rules import RuleError, Rules, read_rule

    here, there = _address(listen, "--listen"), _address(target, "--target")
    if not anybody and not _is_loopback(here[0]):
        stop(f"--listen {listen} can be reached from other machines. Say --anybody if that is meant.")
    try:
        rules = [read_rule(text) for text in rule or ()]
    except RuleError as error:
        stop(f"--rule: {error}")
    proxy = ChaosProxy(*there, Rules(seed))
    try:
        asyncio.run(_run(proxy, here, rules, read_stdin=read_stdin, as_json=as_json))
    except OSError as error:
        stop(f"{listen} cannot be listened on: {error.strerror or error}. Choose another with --listen.", EXIT_FAILED)


def _address(text: str, option: str) -> tuple[str, int]:
    rest = text.removeprefix("http://").rstrip("/")
    host, _, port = rest.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or "/" in host or not (port.isascii() and port.isdigit()) or int(port[:6]) > 65535:
        stop(f"{option} must be host:port, such as 127.0.0.1:8080, but is {text!r}.")
    if option == "--target" and int(port) == 0:
        stop("--target must name a port from 1 to 65535.")
    return host, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _run(
    proxy: "ChaosProxy", here: tuple[str, int], rules: "list[Rule]", *, read_stdin: bool, as_json: bool
) -> None:
    for rule in rules:
        proxy.add(rule)
    host, port = await proxy.start(*here)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    _announce(proxy, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", as_json)
    reading = asyncio.ensure_future(_commands(proxy, ended)) if read_stdin else None
    await ended.wait()
    if reading is not None:
        reading.cancel()
    stats = proxy.stats()
    await proxy.close()
    _say(json.dumps({"ended": True, **stats}) if as_json else _summary(stats))


def _announce(proxy: "ChaosProxy", address: str, as_json: bool) -> None:
    host, port = proxy.target
    rules = [{"id": live.id, "rule": str(live.rule)} for live in proxy.rules.live.values()]
    if as_json:
        ready = {"ready": True, "listen": address, "target": f"{host}:{port}", "pid": os.getpid(), "rules": rules}
        _say(json.dumps(ready))
        return
    _say(f"yottabench chaos listens on {address} and passes on to {host}:{port}")
    for each in rules:
        _say(f"  {each['id']}   {each['rule']}")
    if not rules:
        _say("  no rules: everything passes as it is")
    _say("Stop it with Ctrl-C.")


def _summary(stats: dict[str, Any]) -> str:
    lines = [f"{stats['connections']} connections, {stats['unreachable']} of them found no target"]
    lines += [f"  {each['id']}   struck {each['struck']}   {each['rule']}" for each in stats["rules"]]
    return "\n".join(lines)


def _say(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


async def _commands(proxy: "ChaosProxy", ended: asyncio.Event) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        if words := line.decode("utf-8", "replace").strip():
            _say(json.dumps(obey(proxy, words)))
    ended.set()


def obey(proxy: "ChaosProxy", command: str) -> dict[str, Any]:
    """Do what one line of standard input says; what came of it."""
    from yottabench.chaos.rules import RuleError, read_rule

    verb, _, rest = command.partition(" ")
    if verb == "add":
        try:
            live = proxy.add(read_rule(rest))
        except RuleError as error:
            return {"error": str(error)}
        return {"added": live.id, "rule": str(live.rule)}
    if verb == "remove":
        if proxy.remove(rest.strip()):
            return {"removed": rest.strip()}
        return {"error": f"There is no rule {rest.strip()!r}. The command stats lists them."}
    if verb == "clear":
        found = list(proxy.rules.live)
        for rule_id in found:
            proxy.remove(rule_id)
        return {"cleared": found}
    if verb == "stats":
        return proxy.stats()
    return {"error": f"{verb!r} is no command. Say add RULE, remove ID, clear or stats."}

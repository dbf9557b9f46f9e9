"""The commands. Each imports what it needs when it runs, so that `serve` starts without what only the others use."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from proxy.settings import Settings

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_SETTINGS = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    code: int = options.run(options)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="completion-proxy",
        description="A reverse proxy that keeps code completion alive: Vertex AI first, Claude when Vertex fails.",
    )
    parser.add_argument("--version", action="version", version=f"completion-proxy {version('completion-proxy')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    serve = commands.add_parser("serve", help="run the proxy")
    serve.add_argument("--config", type=Path, metavar="FILE.toml", help="settings; the environment wins over it")
    serve.set_defaults(run=_serve)

    demo = commands.add_parser("demo", help="a simulated outage on loopback, no credentials needed")
    demo.add_argument("--fast", action="store_true", help="the same in under 8 seconds")
    demo.set_defaults(run=_demo)

    simulate = commands.add_parser("simulate", help="run the simulated providers alone")
    simulate.add_argument("--vertex-port", type=_port, default=9001, metavar="N", help="0 picks one (default 9001)")
    simulate.add_argument("--claude-port", type=_port, default=9002, metavar="N", help="0 picks one (default 9002)")
    simulate.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    simulate.set_defaults(run=_simulate)

    check = commands.add_parser("check", help="validate the settings, then probe each upstream once")
    check.add_argument("--config", type=Path, metavar="FILE.toml", help="settings; the environment wins over it")
    check.add_argument("--offline", action="store_true", help="only the settings")
    check.set_defaults(run=_check)

    status = commands.add_parser("status", help="what a running proxy knows: who serves, circuits, probes, switches")
    status.add_argument("--url", default=_admin_url(), help="of the admin listener (default: from the environment)")
    status.add_argument("--json", action="store_true", help="as the admin listener gives it")
    status.set_defaults(run=_status)

    incidents = commands.add_parser("incidents", help="what happened: a line each, or the draft of a post-mortem")
    incidents.add_argument("--url", default=_admin_url(), help="of the admin listener (default: from the environment)")
    incidents.add_argument("--markdown", action="store_true", help="the draft of a post-mortem, of the latest one")
    incidents.add_argument("--id", metavar="ID", help="this one only, as the list names it")
    incidents.set_defaults(run=_incidents)

    override = commands.add_parser("override", help="force an upstream in a running proxy, and let go of it")
    _override_parser(override)
    return parser


def _override_parser(override: argparse.ArgumentParser) -> None:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--url", default=_admin_url(), help="of the admin listener (default: from the environment)")
    signed = argparse.ArgumentParser(add_help=False)
    signed.add_argument("--actor", default=None, help="who does it (default: the user and host that it is done from)")
    signed.add_argument(
        "--token-file", type=Path, metavar="FILE", help="holds the admin token (default: COMPLETION_PROXY_ADMIN_TOKEN)"
    )
    commands = override.add_subparsers(title="commands", metavar="COMMAND", required=True)
    commands.add_parser("show", parents=[shared], help="the one in effect").set_defaults(run=_override_show)

    setting = commands.add_parser("set", parents=[shared, signed], help="force an upstream; it ends by itself")
    setting.add_argument("mode", choices=["vertex", "claude"])
    setting.add_argument("--reason", required=True, help="for whoever comes after you, as 'INC-123: empty answers'")
    setting.add_argument("--for", dest="length", type=_length, metavar="2h", help="90s, 30m, 2h, 1d (default 2h)")
    setting.add_argument("--percent", type=float, metavar="N", help="the share of the callers, always the same ones")
    setting.add_argument("--force", action="store_true", help="even if the upstream is proven dead")
    setting.set_defaults(run=_override_set)

    clearing = commands.add_parser("clear", parents=[shared, signed], help="let the circuits decide again")
    clearing.set_defaults(run=_override_clear)


def _length(text: str) -> float:
    from proxy.override_desk import length_of

    try:
        return length_of(text).total_seconds()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to 65535")
    return int(text)


def _settings(options: argparse.Namespace) -> Settings | None:
    """The settings, or None after every problem with them has been written."""
    from proxy.settings import SettingsError, load_settings

    try:
        return load_settings(options.config)
    except SettingsError as error:
        count = len(error.problems)
        _complain(f"{count} setting{' is' if count == 1 else 's are'} wrong:")
        for problem in error.problems:
            sys.stderr.write(f"  {problem}\n")
        return None


def _serve(options: argparse.Namespace) -> int:
    import signal

    # What it asks for is done in any case: the settings are about to be read. It must not end the process meanwhile.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    settings = _settings(options)
    if settings is None:
        return EXIT_SETTINGS
    from proxy import logs
    from proxy.commands.serve import serve

    logs.configure()
    return _run(serve(settings, options.config))


def _demo(options: argparse.Namespace) -> int:
    from proxy.commands.demo import run_demo

    return _run(run_demo(fast=options.fast))


def _simulate(options: argparse.Namespace) -> int:
    from proxy.simulator.run import simulate

    async def run() -> int:
        try:
            await simulate(options.vertex_port, options.claude_port, _say, host=options.host)
        except OSError as error:
            _complain(f"cannot listen: {error.strerror or error}; choose with --host, --vertex-port, --claude-port")
            return EXIT_FAILED
        return EXIT_OK

    return _run(run())


def _check(options: argparse.Namespace) -> int:
    settings = _settings(options)
    if settings is None:
        return EXIT_SETTINGS
    if options.offline:
        _say("the settings are valid\n")
        return EXIT_OK
    from proxy.commands.check import check

    return _run(check(settings, _say))


def _status(options: argparse.Namespace) -> int:
    from proxy.commands.status import show_status

    return _run(show_status(options.url, _say, _complain, as_json=options.json))


def _incidents(options: argparse.Namespace) -> int:
    from proxy.commands.incidents import show_incidents

    return _run(show_incidents(options.url, _say, _complain, markdown=options.markdown, chosen=options.id))


def _override_show(options: argparse.Namespace) -> int:
    from proxy.commands.override import show_override

    return _run(show_override(options.url, _say, _complain))


def _override_set(options: argparse.Namespace) -> int:
    from proxy.commands.override import set_override

    wish = {"mode": options.mode, "reason": options.reason, "actor": _actor(options), "force": options.force}
    if options.length is not None:
        wish["ttl_seconds"] = options.length
    if options.percent is not None:
        wish["percent"] = options.percent
    return _signed(options, lambda token: set_override(options.url, wish, token, _say, _complain))


def _override_clear(options: argparse.Namespace) -> int:
    from proxy.commands.override import clear_override

    return _signed(options, lambda token: clear_override(options.url, _actor(options), token, _say, _complain))


def _actor(options: argparse.Namespace) -> str:
    import getpass
    import socket

    if options.actor is not None:
        return str(options.actor)
    with contextlib.suppress(OSError, KeyError):  # a container's user may have no name
        return f"{getpass.getuser()}@{socket.gethostname()}"
    return f"uid {os.getuid()}@{socket.gethostname()}"


def _signed(options: argparse.Namespace, run: Callable[[str | None], Coroutine[Any, Any, int]]) -> int:
    from proxy.commands.client import TokenUnusable, admin_token

    try:
        token = admin_token(options.token_file)
    except TokenUnusable as error:
        _complain(str(error))
        return EXIT_SETTINGS
    return _run(run(token))


def _admin_url() -> str:
    """Where the proxy of this environment has its admin listener; whoever asks need not have its secrets."""
    host = os.environ.get("COMPLETION_PROXY_ADMIN_HOST") or "127.0.0.1"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (read, not bound)
    return f"http://{f'[{host}]' if ':' in host else host}:{os.environ.get('COMPLETION_PROXY_ADMIN_PORT') or '8081'}"


def _run(command: Coroutine[Any, Any, int]) -> int:
    import asyncio

    loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with contextlib.suppress(ImportError):
        import uvloop

        loop_factory = uvloop.new_event_loop
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(command)
    except KeyboardInterrupt:
        return EXIT_FAILED


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _complain(text: str) -> None:
    sys.stderr.write(f"completion-proxy: {text}\n")

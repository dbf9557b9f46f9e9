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
    simulate.set_defaults(run=_simulate)

    check = commands.add_parser("check", help="validate the settings, then probe each upstream once")
    check.add_argument("--config", type=Path, metavar="FILE.toml", help="settings; the environment wins over it")
    check.add_argument("--offline", action="store_true", help="only the settings")
    check.set_defaults(run=_check)

    status = commands.add_parser("status", help="what a running proxy knows: who serves, circuits, probes, switches")
    status.add_argument("--url", default=_admin_url(), help="of the admin listener (default: from the environment)")
    status.add_argument("--json", action="store_true", help="as the admin listener gives it")
    status.set_defaults(run=_status)
    return parser


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
    settings = _settings(options)
    if settings is None:
        return EXIT_SETTINGS
    from proxy import logs
    from proxy.serve import serve

    logs.configure()
    return _run(serve(settings))


def _demo(options: argparse.Namespace) -> int:
    from proxy.demo import run_demo

    return _run(run_demo(fast=options.fast))


def _simulate(options: argparse.Namespace) -> int:
    from proxy.simulator.run import simulate

    async def run() -> int:
        try:
            await simulate(options.vertex_port, options.claude_port, lambda text: _say(text))
        except OSError as error:
            _complain(f"cannot listen: {error.strerror or error}; choose with --vertex-port and --claude-port")
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
    from proxy.check import check

    return _run(check(settings, _say))


def _status(options: argparse.Namespace) -> int:
    from proxy.show_status import show_status

    return _run(show_status(options.url, _say, _complain, as_json=options.json))


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

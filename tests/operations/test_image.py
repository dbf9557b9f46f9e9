"""The image's recipe, held against the files that it is made of; where no daemon is, it cannot be built."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import yaml

from proxy.simulator import simulate
from tests.rig import rig

ROOT = Path(__file__).parents[2]
RECIPE = re.sub(r"\\\n", "", (ROOT / "deploy/Dockerfile").read_text("utf-8"))
BUILD, FINAL = (f"FROM {stage}" for stage in RECIPE.split("\nFROM ")[1:])
PINS = re.compile(r"^(?P<pin>[\w.-]+==[^\\\n]+?)\s*\\\n(?P<hashes>(?:    --hash=\S+(?: \\)?\n)+)", re.MULTILINE)


def words(text: str, instruction: str) -> list[list[str]]:
    return [line.split()[1:] for line in text.splitlines() if line.startswith(f"{instruction} ")]


def pins(path: str) -> dict[str, set[str]]:
    text = (ROOT / path).read_text("utf-8")
    found = {match["pin"]: set(re.findall(r"sha256:\w+", match["hashes"])) for match in PINS.finditer(text)}
    assert len(found) == len(re.findall("^[^ #\n]", text, re.MULTILINE))
    return found


def test_an_image_of_what_was_not_tested() -> None:
    tested = pins("requirements.lock")
    for lock in ("deploy/runtime.lock", "deploy/build.lock"):
        assert pins(lock).items() <= tested.items(), "run: make lock"
        text = (ROOT / lock).read_text("utf-8")
        assert "://" not in text
        assert "index" not in text


def test_a_lock_without_what_the_proxy_imports() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wanted = {
        "deploy/runtime.lock": [
            *project["project"]["dependencies"],
            *project["project"]["optional-dependencies"]["openfeature"],
        ],
        "deploy/build.lock": project["build-system"]["requires"],
    }
    for lock, requirements in wanted.items():
        names = {re.split(r"[=<>;\[ ]", requirement)[0] for requirement in requirements}
        assert names <= {pin.partition("==")[0] for pin in pins(lock)}, "run: make lock"


def test_a_part_of_the_image_that_is_not_there_or_not_sent() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in ignored
    sources = [source for parts in words(BUILD, "COPY") for source in parts[:-1]]
    assert {f"!{source}" for source in sources} == {line for line in ignored if line.startswith("!")}
    for source in sources:
        assert (ROOT / source).exists(), source


def test_the_image_runs_as_root_or_holds_what_built_it() -> None:
    ((user,),) = words(FINAL, "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert [parts[0] for parts in words(FINAL, "COPY")] == ["--from=build"]
    assert not re.search(r"\b(pip|apt-get|apk)\b", FINAL)
    deployment = yaml.safe_load((ROOT / "deploy/kubernetes/deployment.yaml").read_text("utf-8"))
    pod = deployment["spec"]["template"]["spec"]["securityContext"]
    assert user == f"{pod['runAsUser']}:{pod['runAsGroup']}"
    assert f"--owner={pod['runAsUser']} --group={pod['fsGroup']}" in FINAL


def test_packages_taken_without_their_hashes() -> None:
    for install in re.findall(r"pip (?:--python \S+ )?(?:install|wheel)[^&\n]*", BUILD):
        assert "--require-hashes" in install or "--no-index" in install, install


async def _health(port: str) -> int:
    (((_, command),),) = [re.findall(r"^HEALTHCHECK (.*) CMD (\[.*\])$", FINAL, re.MULTILINE)]
    python, *arguments = json.loads(command)
    assert python == "python"
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env={**os.environ, "COMPLETION_PROXY_ADMIN_PORT": port},
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    return await process.wait()


async def test_a_dead_proxy_found_healthy_or_a_live_one_dead() -> None:
    async with rig() as running:
        port = running.app.admin_address.rpartition(":")[2]
        assert await _health(port) == 0
        assert await _health(str(running.vertex.port)) != 0  # which answers, and not with 200
    assert await _health(port) != 0


async def test_the_simulators_out_of_reach_of_the_other_services() -> None:
    said: asyncio.Queue[str] = asyncio.Queue()
    running = asyncio.create_task(simulate(0, 0, said.put_nowait, host="127.0.0.2"))
    try:
        guide = await asyncio.wait_for(said.get(), 10)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert len(set(re.findall(r"http://127\.0\.0\.2:\d+", guide))) == 2

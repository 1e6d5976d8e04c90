"""Forward-auth as in docs/gate.md: a real nginx asks a real gate before it passes a request on."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.integration.enforcement.conftest import GateClient, State
from tests.integration.enforcement.nginx import find
from tests.support import eventually, free_port

PAGE = Path(__file__).parents[3] / "docs/gate.md"
WHOLE = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  server {{ listen 127.0.0.1:{port}; {documented} }}
}}
"""
pytestmark = pytest.mark.skipif(find() is None, reason="nginx is not installed, and its package can't be fetched")


def documented(app: str, gate: str, key: str) -> str:
    """The locations that the page shows, with addresses of this test."""
    found = re.search(r"```nginx\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    text = found[1].replace("http://app.internal:8000", app).replace("http://127.0.0.1:8081", gate)
    return text.replace("tg_…", key)


@pytest.fixture
async def nginx(gate: GateClient, tmp_path: Path) -> AsyncIterator[str]:
    async def passed_on(request: web.Request) -> web.Response:
        return web.Response(text=request.headers.get("X-Tallygate-Remaining", "not said"))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", passed_on)
    async with TestServer(app) as server:
        port = free_port()
        locations = documented(str(server.make_url("")), str(gate.client.make_url("")).rstrip("/"), gate.platform)
        conf = tmp_path / "nginx.conf"
        conf.write_text(WHOLE.format(folder=tmp_path, port=port, documented=locations))
        program = find()
        assert program is not None
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(program, "-p", tmp_path, "-c", conf, stderr=quiet)
        url = f"http://127.0.0.1:{port}"

        async def answers() -> bool:
            assert process.returncode is None, (tmp_path / "error.log").read_text()
            async with aiohttp.ClientSession() as session, session.get(url):
                return True

        try:
            await eventually(answers, timeout=10)
            yield url
        finally:
            process.terminate()
            await process.wait()


async def test_nginx_passes_on_what_the_gate_allows_and_nothing_else(
    nginx: str, gate: GateClient, state: State
) -> None:
    await state.counter("grand", "calls", "9")
    await state.counter("grand", "voice", "35999")
    async with aiohttp.ClientSession() as session:
        calls = f"{nginx}/calls/start"
        async with session.post(calls, headers={"X-Tenant": "grand"}, data=b"x") as allowed:
            assert (allowed.status, await allowed.text()) == (200, "1")
        await state.counter("grand", "voice", "36000")
        await eventually(lambda: gate.says("voice", used="36000"))
        for tenant, reason in (("grand", "limit-reached"), ("nobody", "unknown-tenant")):
            async with session.post(calls, headers={"X-Tenant": tenant}) as denied:
                assert (denied.status, denied.headers["X-Tallygate-Reason"]) == (403, reason)
        await gate.client.close()
        async with session.post(calls, headers={"X-Tenant": "grand"}) as error:
            assert error.status == 500  # nginx knows no other word for an auth server that is away

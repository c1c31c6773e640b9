"""Nobody uses the inspector without its token, under a foreign name, or from a foreign page."""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

import outlast.web
from outlast.core.errors import ConfigurationError
from outlast.ports.durability.backend import Backend
from tests.web.desk import Idle
from tests.web.site import Site, inspected, listening

PATHS = ["", "static/app.js", "api/about", "api/fleet", "api/nothing", "nothing"]


@pytest.mark.parametrize("path", PATHS)
async def test_nothing_is_served_without_the_token(site: Site, path: str) -> None:
    async with httpx2.AsyncClient(base_url=site.address) as stranger:
        answer = await stranger.get(path)
        assert answer.status_code == 401
        assert "Open the whole URL that was printed" in answer.text
        stranger.cookies.update(dict.fromkeys(site.client.cookies, "x" * 48))
        assert (await stranger.get(path)).status_code == 401


async def test_a_wrong_token_says_so_and_gives_no_cookie(site: Site) -> None:
    async with httpx2.AsyncClient(base_url=site.address) as stranger:
        for wrong in (
            "x",
            site.inspector.token[:-1],
            site.inspector.token + "0",
            "é\udcff".encode("utf-8", "replace").decode(),
        ):
            answer = await stranger.get("", params={"token": wrong})
            assert answer.status_code == 401
            assert "the token in the URL is wrong" in answer.text
            assert site.inspector.token not in answer.text
            assert not answer.cookies


async def test_the_token_becomes_a_cookie_that_no_script_and_no_other_site_can_use(site: Site) -> None:
    async with httpx2.AsyncClient(base_url=site.address) as visitor:
        answer = await visitor.get(f"?token={site.inspector.token}")
        assert (answer.status_code, answer.headers["location"]) == (303, "./")
        cookie = answer.headers["set-cookie"]
        assert {"HttpOnly", "Path=/", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}
        page = await visitor.get("")
        assert page.status_code == 200
        assert site.inspector.token not in page.text


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]:80"]
)
async def test_a_foreign_host_is_refused(site: Site, host: str) -> None:
    for path in PATHS:
        answer = await site.client.get(path, headers={"Host": host})
        assert answer.status_code in (400, 403)
        if answer.status_code == 403:
            assert "does not serve the host" in answer.text


@pytest.mark.parametrize("host", ["localhost:8000", "LOCALHOST", "[::1]:9", "127.0.0.1"])
async def test_the_names_of_the_machine_itself_are_served(site: Site, host: str) -> None:
    assert (await site.client.get("api/about", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    ],
)
async def test_a_request_from_another_page_is_refused_and_does_nothing(
    site: Site, backend: Backend, headers: dict[str, str]
) -> None:
    execution = await backend.start(Idle, id="i-1")
    for answer in (
        await site.client.get("api/fleet", headers=headers),
        await site.client.post(
            "api/actions/terminate", json={"id": "i-1"}, headers={**headers, "Sec-Fetch-Mode": "cors"}
        ),
    ):
        assert answer.status_code == 403
        assert answer.json()["error"]["kind"] == "ForeignOrigin"
    assert (await execution.describe()).ended_at is None


async def test_a_link_from_another_page_opens_the_page(site: Site) -> None:
    visit = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert (await site.client.get("", headers=visit)).status_code == 200
    assert (await site.client.post("api/actions/cancel", json={"id": "x"}, headers=visit)).status_code == 403


async def test_a_form_of_another_page_cannot_be_an_action(site: Site) -> None:
    answer = await site.client.post(
        "api/actions/cancel", content=b'{"id": "x"}', headers={"Content-Type": "text/plain"}
    )
    assert (answer.status_code, answer.json()["error"]["kind"]) == (415, "NotJson")


async def test_every_answer_forbids_code_that_is_not_ours(site: Site) -> None:
    for path in ["", "static/app.js", "api/about", "nothing"]:
        for client in (site.client, httpx2.AsyncClient(base_url=site.address)):
            headers = (await client.get(path)).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            if client is not site.client:
                await client.aclose()


async def test_files_outside_of_the_page_are_not_served(site: Site) -> None:
    for path in ("../application.py", "..%2fapplication.py", "vendor/manifest.json", "%2e%2e/answers.py", ""):
        assert (await site.client.get(f"static/{path}")).status_code == 404


async def test_a_file_that_did_not_change_is_not_sent_again(site: Site) -> None:
    first = await site.client.get("static/app.js")
    again = await site.client.get("static/app.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_it_can_be_mounted_in_another_application(backend: Backend) -> None:
    app = outlast.web.inspector(backend)
    outer = Starlette(routes=[Mount("/tools/inspector", app)])
    async with (
        listening(outer) as address,
        httpx2.AsyncClient(base_url=address, follow_redirects=True) as client,
    ):
        page = await client.get(f"tools/inspector/?token={app.token}")
        assert (page.status_code, page.url.path) == (200, "/tools/inspector/")
        assert "Path=/tools/inspector/" in page.history[0].headers["set-cookie"]
        assert (await client.get("tools/inspector/api/about")).json()["read_only"] is False
        assert (await client.get("tools/inspector/static/app.js")).status_code == 200
        stranger = await client.get("tools/inspector/api/fleet", headers={"Origin": "http://evil.example"})
        assert stranger.json()["error"]["kind"] == "ForeignOrigin"


async def test_other_hosts_are_served_if_they_are_named(backend: Backend) -> None:
    async with inspected(backend, hosts=["tools.example", "127.0.0.1"]) as site:
        named = {"Host": "tools.example", "Origin": "https://tools.example"}
        assert (await site.client.get("api/about", headers=named)).status_code == 200
        assert (await site.client.get("api/about", headers={"Host": "localhost"})).status_code == 403


@pytest.mark.parametrize("token", ["short", "with space and more", "ümläute-sind-nicht-gut", "a;b" * 10])
async def test_a_token_that_is_weak_or_no_cookie_is_refused(backend: Backend, token: str) -> None:
    with pytest.raises(ConfigurationError, match="16 ASCII letters and digits"):
        outlast.web.inspector(backend, token=token)


async def test_tokens_are_different(backend: Backend) -> None:
    tokens = await asyncio.gather(
        *(asyncio.to_thread(lambda: outlast.web.inspector(backend).token) for _ in range(5))
    )
    assert len({*tokens}) == 5

"""Both sessions of Mistral's SDK keep the session contract, streamed or not, over a real HTTP server."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import pytest

from outlast.adapters.mistral import LocalSession, RemoteSession
from outlast.testing.contracts.session.contract import SessionCapability, SessionContract
from outlast.testing.contracts.session.programs import SessionProgram, SessionWorld
from tests.adapters.mistral_worlds import Cloud, mistral_world


class MistralContract(SessionContract):
    make: ClassVar[Any]
    stream: ClassVar[bool]
    cloud: ClassVar[Cloud]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def serve(cls, request: pytest.FixtureRequest) -> Iterator[None]:
        request.cls.cloud = cloud = Cloud()
        with cloud.server:
            yield

    def open(self, program: SessionProgram) -> AbstractContextManager[SessionWorld]:
        return mistral_world(self.cloud, program, type(self).make, stream=self.stream)


@pytest.mark.server
class TestRemoteSession(MistralContract):
    make: ClassVar[Any] = RemoteSession
    stream = False
    capabilities = frozenset({SessionCapability.SERVER, SessionCapability.MEMORY, SessionCapability.USAGE})


@pytest.mark.server
class TestRemoteSessionStreamed(TestRemoteSession):
    stream = True


@pytest.mark.nightly
@pytest.mark.server
class TestRemoteSessionThatHandsOffItself(TestRemoteSession):
    make: ClassVar[Any] = functools.partial(RemoteSession, handoff_execution="client")


@pytest.mark.server
class TestLocalSession(MistralContract):
    make = LocalSession
    stream = False
    capabilities = frozenset({SessionCapability.SERVER, SessionCapability.USAGE})


@pytest.mark.server
class TestLocalSessionStreamed(TestLocalSession):
    stream = True

"""A gateway that asks for an API key, as Temporal Cloud does, in front of a server that asks for none."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from tests.adapters.certificates import Certificates

CALLS_AT_ONCE = 64
"""A worker keeps some ten calls open that wait for tasks."""


REFUSAL = "the gateway refuses this key"


@dataclass(eq=False)
class Gateway(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    """Passes calls on, as bytes, if they bring the key; refuses all others with `status`."""

    server: Any
    key: str
    status: grpc.StatusCode = grpc.StatusCode.UNAUTHENTICATED
    address: str = ""
    brought: list[tuple[str, str | None]] = field(default_factory=list)
    """The method and the `authorization` of every call."""
    _passed: set[Any] = field(default_factory=set)

    def change_key(self, key: str) -> None:
        """Take this key alone from now on; calls that came in with another one are refused now."""
        self.key = key
        for passed in list(self._passed):
            passed.cancel()

    def service(self, handler_call_details: Any) -> Any:
        """Take any method that has one request and one answer, as all of Temporal's have."""
        method = handler_call_details.method
        return grpc.unary_unary_rpc_method_handler(functools.partial(self._call, method))

    def _call(self, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        metadata = dict(context.invocation_metadata())
        authorization = metadata.pop("authorization", None)
        self.brought.append((method.rpartition("/")[2], authorization))
        if authorization != f"Bearer {self.key}":
            context.abort(self.status, REFUSAL)
        metadata.pop("user-agent", None)
        passed = self.server.unary_unary(method).future(
            request, timeout=context.time_remaining(), metadata=tuple(metadata.items())
        )
        self._passed.add(passed)
        context.add_callback(passed.cancel)
        answer = b""
        try:
            answer = passed.result()
        except grpc.FutureCancelledError:
            context.abort(self.status, REFUSAL)
        except grpc.RpcError as error:
            context.set_trailing_metadata(error.trailing_metadata() or ())
            context.abort(error.code(), error.details())
        finally:
            self._passed.discard(passed)
        return answer


@contextmanager
def gateway(server: str, key: str, certificates: Certificates | None = None) -> Iterator[Gateway]:
    """Run a gateway to `server` for the time of the block, with TLS if there are certificates."""
    with grpc.insecure_channel(server) as channel, ThreadPoolExecutor(CALLS_AT_ONCE) as executor:
        made = Gateway(channel, key)
        serving = grpc.server(executor, handlers=[made])
        if certificates is None:
            port = serving.add_insecure_port("127.0.0.1:0")
        else:
            pair = certificates.key.read_bytes(), certificates.certificate.read_bytes()
            port = serving.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        made.address = f"127.0.0.1:{port}"
        serving.start()
        try:
            yield made
        finally:
            serving.stop(None).wait()

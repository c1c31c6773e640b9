"""Errors for a Temporal that cannot be reached, or refuses, in terms of what a user can change.

Temporal's client gives most reasons only in the text of an exception, in the words of the libraries below it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from temporalio.client import WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from outlast.core.errors import (
    ConfigurationError,
    DefinitionError,
    ExecutionNotFound,
    MissingCredentials,
    OutlastError,
    StorageUnavailable,
)

REFUSALS = frozenset({RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED})

_STATUS = re.compile(r'Status \{ code: (PermissionDenied|Unauthenticated), message: "(.*?)"')
_UNTRUSTED = re.compile(r"InvalidCertificate\((\w+)")

_CREDENTIALS = (
    "check the API key (api_key_env in the URL, or api_key) or the client certificate (tls_cert, tls_key), "
    "and that it is meant for this namespace"
)


def refused(place: str, message: str) -> MissingCredentials:
    """Return the error for credentials that the service does not accept."""
    return MissingCredentials(f"Temporal refuses access{place}: {message}; {_CREDENTIALS}")


def refusal_in(error: BaseException) -> MissingCredentials | None:
    """Return the refusal in an exception of Temporal's client, or in its cause; None if there is none."""
    for one in (error, error.__cause__):
        if (status := _STATUS.search(str(one))) is not None:
            return refused("", status[2])
    return None


def unreachable(address: str, error: Exception, *, tls: bool) -> OutlastError:
    """Return the reason why connecting failed. It never has the text of a header."""
    message = str(error)
    if (refusal := refusal_in(error)) is not None:
        return refusal
    if (untrusted := _UNTRUSTED.search(message)) is not None:
        remedy = (
            "the certificate is for another name: connect by that name, or give it as tls_server_name"
            if untrusted[1].startswith("NotValidForName")
            else "give the certificate of the authority that signed it as tls_ca"
        )
        return ConfigurationError(f"the certificate of {address} is not trusted ({untrusted[1]}); {remedy}")
    if "InconsistentKeys" in message or "PrivateKeyParseError" in message:
        return ConfigurationError("tls_cert and tls_key must be a certificate and its own key, in PEM format")
    if tls and ("AlertReceived" in message or "hyper::Error" in message):
        # The TLS alert that would prove it is often lost, because the service closes the connection after it.
        sort = MissingCredentials if "AlertReceived" in message else StorageUnavailable
        return sort(
            f"{address} ends the TLS connection; it may want a client certificate: "
            "give one that it trusts as tls_cert and tls_key"
        )
    if tls and "InvalidContentType" in message:
        return ConfigurationError(f"{address} does not talk TLS; connect with tls=false")
    return StorageUnavailable(
        f"no Temporal service answers at {address}; start it, or correct the URL "
        "(a service with TLS needs tls=true)"
    )


def namespace_refused(namespace: str, address: str, error: RPCError) -> OutlastError:
    """Return the reason why the service refuses a namespace."""
    place = f"namespace {namespace!r} at {address}"
    if error.status is RPCStatusCode.NOT_FOUND:
        return ConfigurationError(
            f"Temporal has no {place}; correct the URL, or create it: "
            f"temporal operator namespace create --namespace {namespace}"
        )
    if error.status in REFUSALS:
        return refused(f" to {place}", error.message)
    return StorageUnavailable(f"Temporal does not answer for {place}: {error.message}")


@contextmanager
def translated(execution_id: str) -> Iterator[None]:
    """Turn exceptions of the service or the network inside the block into our errors."""
    try:
        yield
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise ExecutionNotFound(execution_id) from error
        if error.status in REFUSALS:
            raise refused("", error.message) from error
        if error.status is RPCStatusCode.INVALID_ARGUMENT:
            raise DefinitionError(f"Temporal refuses it: {error.message}") from error
        raise StorageUnavailable(f"Temporal does not answer: {error.message}") from error
    except WorkflowQueryFailedError as error:
        raise StorageUnavailable(f"no worker can answer: {error}") from error

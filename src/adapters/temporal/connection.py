"""The options of a connection, read from the query of a URL."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from temporalio.service import TLSConfig

from outlast.core.errors import ConfigurationError, MissingCredentials

_FILES = {"tls_ca": "server_root_ca_cert", "tls_cert": "client_cert", "tls_key": "client_private_key"}
_KNOWN = ("tls", "tls_server_name", *_FILES, "api_key_env")


def connection_options(query: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments for `temporalio.client.Client.connect` from the query of a Temporal URL.

    Certificates and keys are read from files and variables, so that a URL holds no secret.

    Raises:
        ConfigurationError: an option is unknown, contradicts another, or names a file that cannot be read.
        MissingCredentials: the variable that `api_key_env` names is not set.
    """
    for name in query:
        if name not in _KNOWN:
            raise ConfigurationError(
                f"unknown option {name!r}; a Temporal URL is temporal://host:port/namespace, "
                f"and its query can have {', '.join(_KNOWN)}"
            )
    options: dict[str, Any] = {}
    if query.get("tls", "true") not in ("true", "false"):
        raise ConfigurationError("in a Temporal URL, tls is true or false")
    details: dict[str, Any] = {_FILES[name]: _contents(name, query[name]) for name in _FILES if name in query}
    if "tls_server_name" in query:
        details["domain"] = query["tls_server_name"]
    if ("tls_cert" in query) != ("tls_key" in query):
        raise ConfigurationError("mTLS needs both tls_cert and tls_key in the Temporal URL")
    if query.get("tls") == "false":
        if details:
            raise ConfigurationError("the Temporal URL says tls=false, and gives options of TLS")
        options["tls"] = False
    elif details:
        options["tls"] = TLSConfig(**details)
    elif "tls" in query:
        options["tls"] = True
    if (variable := query.get("api_key_env")) is not None:
        key = os.environ.get(variable, "").strip()
        if not key:
            raise MissingCredentials(
                f"the Temporal URL takes its API key from {variable!r}, which is not set"
            )
        options["api_key"] = key
    return options


def _contents(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{name} of the Temporal URL cannot be read: {error}") from error

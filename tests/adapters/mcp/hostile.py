"""MCP servers that mean harm: `python -I -S hostile.py stdio|http KIND`.

They do what is right until a tool is called, and then what KIND says. Over HTTP the port is printed.
"""

from __future__ import annotations

import gzip
import json
import sys
import threading
import time
import zlib
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

LISTED: dict[str, Any] = {"tools": [{"name": "harm", "inputSchema": {"type": "object"}}]}
GREETING: dict[str, Any] = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "hostile", "version": "1"},
}
LOG: dict[str, Any] = {
    "jsonrpc": "2.0",
    "method": "notifications/message",
    "params": {"level": "info", "data": "x" * 50},
}


def answer_to(request: Mapping[str, Any]) -> dict[str, Any]:
    answer = {"jsonrpc": "2.0", "id": request.get("id")}
    results = {"initialize": GREETING, "tools/list": LISTED}
    if sys.argv[2] == "greeting":
        results["initialize"] = GREETING | {"serverInfo": {"icons": [{}] * 20_000}}
    if request["method"] in results:
        return answer | {"result": results[request["method"]]}
    return answer | {"error": {"code": -32601, "message": "Method not found"}}


def result_of(kind: str) -> dict[str, Any] | None:
    results: dict[str, dict[str, Any]] = {
        "blocks": {"content": [{"type": "text", "text": "x"}] * 5000},
        "no-blocks": {"content": [{}] * 10_000},
        "values": {"content": [], "structuredContent": {"a": [[]] * 500_000}},
        "deep": {"content": [], "structuredContent": {"a": json.loads("[" * 400 + "]" * 400)}},
        "annotations": {
            "content": [{"type": "text", "text": "x", "annotations": {"audience": [1] * 40_000}}]
        },
        "fine": {"content": [{"type": "text", "text": "fine"}]},
    }
    return results.get(kind)


# stdio


def over_stdio(kind: str) -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if "id" not in request:
            continue
        if request["method"] != "tools/call":
            write(json.dumps(answer_to(request)) + "\n")
        elif (result := result_of(kind)) is not None:
            write(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}) + "\n")
        else:
            harm(kind)


def harm(kind: str) -> None:
    """Do harm until the pipe is closed; read nothing any more."""
    number = 0
    if kind == "drip":
        write('{"jsonrpc": "2.0", "x": "' + "x" * 4_000_000)
    while True:
        number += 1
        if kind == "logs":
            write(json.dumps(LOG) + "\n")
        elif kind == "pings":
            write(json.dumps({"jsonrpc": "2.0", "id": f"p{number}", "method": "ping"}) + "\n")
        elif kind == "unasked":
            write(json.dumps({"jsonrpc": "2.0", "id": number + 1000, "result": {"content": []}}) + "\n")
        elif kind == "large":
            params = {"messages": [{}] * 10_000, "maxTokens": 1}
            write(
                json.dumps(
                    {
                        "jsonrpc": "2.0",
                        "id": f"p{number}",
                        "method": "sampling/createMessage",
                        "params": params,
                    }
                )
                + "\n"
            )
        elif kind == "unreadable":
            write('{"no": "message"}\n')
        elif kind == "blanks":
            write("\n" * 100_000)
        elif kind == "junk":
            write("loading\n" * 10_000)
        elif kind == "drip":
            write("x")
        elif kind == "stderr":
            sys.stderr.write("\n" * 10_000 + "x\n" * 10_000)
            sys.stderr.flush()
        else:
            time.sleep(1)  # deaf


def write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


# HTTP


STREAMS: list[Handler] = []
"""The streams of the older transport."""


def bomb(head: bytes, piece: bytes, megabytes: int, tail: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    pieces = [packer.compress(piece * (1_000_000 // len(piece))) for _ in range(megabytes)]
    return b"".join([packer.compress(head), *pieces, packer.compress(tail), packer.flush()])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kind: ClassVar[str] = ""
    body: ClassVar[bytes] = b""

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        if self.path != "/sse":
            self.answer(405, "text/plain", b"")
            return
        self.start(200, "text/event-stream")
        STREAMS.append(self)
        self.send(b"event: endpoint\ndata: /messages\n\n")
        while True:
            time.sleep(1)

    do_DELETE = do_GET

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        is_sse = self.path == "/messages"
        if "id" not in request:
            self.answer(202, "text/plain", b"")
            return
        if request["method"] == "tools/call" and result_of(self.kind) is None:
            if is_sse:
                self.answer(202, "text/plain", b"")
                self.flood(STREAMS[-1])
            else:
                self.harm()
            return
        answer = answer_to(request)
        if request["method"] == "tools/call":
            answer = {"jsonrpc": "2.0", "id": request["id"], "result": result_of(self.kind)}
        body = json.dumps(answer).encode()
        if is_sse:
            self.answer(202, "text/plain", b"")
            STREAMS[-1].send(b"data: " + body + b"\n\n")
        else:
            self.answer(200, "application/json", gzip.compress(body), "gzip")

    def harm(self) -> None:
        if self.kind == "redirect":
            self.answer(307, "text/plain", self.body, "gzip", location="/mcp")
        elif self.kind == "error":
            self.answer(400, "application/json", self.body, "gzip")
        elif self.kind == "json":
            self.answer(200, "application/json", self.body, "gzip")
        elif self.kind in ("event", "comments"):
            self.answer(200, "text/event-stream", self.body, "gzip")
        elif self.kind == "brotli":
            self.answer(200, "application/json", b"x", "br")
        elif self.kind == "not-gzip":
            self.answer(200, "application/json", b"\xff" * 100, "gzip")
        elif self.kind == "again":
            self.answer(200, "text/event-stream", b"id: 1\nretry: 0\ndata:\n\n")
        elif self.kind == "drip":
            self.start(200, "application/json")
            self.forever(b" ", 0.01)
        else:
            self.start(200, "text/event-stream")
            self.flood(self)

    def flood(self, stream: Handler) -> None:
        log = b"data: " + json.dumps(LOG).encode() + b"\n\n"
        stream.forever({"logs": log, "comment": b":\n" * 1000, "blanks": b"\n" * 1000}[self.kind], 0)

    def forever(self, data: bytes, seconds: float) -> None:
        while True:
            self.send(data)
            time.sleep(seconds)

    def answer(self, status: int, kind: str, body: bytes, encoding: str = "", location: str = "") -> None:
        self.start(
            status, kind, {"content-length": len(body), "content-encoding": encoding, "location": location}
        )
        self.send(body)

    def start(self, status: int, kind: str, headers: Mapping[str, Any] | None = None) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        for name, value in (headers or {"connection": "close"}).items():
            if value != "":
                self.send_header(name, str(value))
        self.end_headers()

    def send(self, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing: the client hangs up, as it should."""


def over_http(kind: str) -> None:
    Handler.kind = kind
    Handler.body = {
        "event": lambda: bomb(b"data: ", b" ", 200, b"1\n\n"),
        "comments": lambda: bomb(b"", b":\n", 50, b"\n"),
    }.get(kind, lambda: bomb(b"{", b" ", 200, b"}"))()
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    {"stdio": over_stdio, "http": over_http}[sys.argv[1]](sys.argv[2])

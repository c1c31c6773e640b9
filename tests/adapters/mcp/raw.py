"""A stdio server that no SDK would let anybody write: `python -I -S raw.py TOOLS RESULT`, both JSON.

It says whatever RESULT is; for null, the variables of its process, and for "meta" the `_meta` of the call.
Each request is noted on stderr.
"""

import json
import os
import sys


def main(tools: str, result: str) -> None:
    variables = {"content": [{"type": "text", "text": json.dumps(dict(os.environ))}]}
    for line in sys.stdin:
        request = json.loads(line)
        if "id" not in request:
            continue
        print(request["method"], file=sys.stderr, flush=True)
        meta = {"content": [{"type": "text", "text": json.dumps(request.get("params", {}).get("_meta"))}]}
        answers = {
            "initialize": {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "raw", "version": "1"},
            },
            "tools/list": {"tools": json.loads(tools)},
            "tools/call": {"null": variables, '"meta"': meta}.get(result) or json.loads(result),
        }
        answer = {"jsonrpc": "2.0", "id": request["id"]}
        if request["method"] in answers:
            answer["result"] = answers[request["method"]]
        else:
            answer["error"] = {"code": -32601, "message": "Method not found"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

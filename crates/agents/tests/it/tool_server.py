"""A server of tools (Model Context Protocol) that misbehaves as its argument says."""

import json
import os
import sys
import time

MODE = sys.argv[1] if len(sys.argv) > 1 else "well"
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}}
PIXEL = "iVBORw0KGgo="


def say(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def tools():
    if MODE == "many":
        return [{"name": f"tool{n}", "description": f"Number {n}.", "inputSchema": SCHEMA} for n in range(50)]
    return [
        {"name": "echo", "description": "Says it again.", "inputSchema": SCHEMA, "annotations": {"readOnlyHint": True}},
        {"name": "write", "description": "Writes a file.", "inputSchema": SCHEMA},
        {"broken": True},
    ]


def call(name, text):
    if name == "write":
        open("written", "w").write(text)
    if text == "die":
        print("out of memory", file=sys.stderr, flush=True)
        os._exit(3)
    if text == "hang":
        open("hanging", "w").close()
        time.sleep(1000)
    if text == "wrong":
        return {"content": [{"type": "text", "text": "no such thing"}], "isError": True}
    if text == "picture":
        return {"content": [{"type": "image", "mimeType": "image/png", "data": PIXEL}]}
    if text == "long":
        return {"content": [{"type": "text", "text": "x" * 50000}]}
    return {"content": [{"type": "text", "text": f"{name}: {text} {os.environ.get('GREETING', '')}".strip()}]}


if MODE == "die":
    sys.exit("cannot find my database")
for line in sys.stdin:
    message = json.loads(line)
    method, number = message.get("method"), message.get("id")
    if MODE == "noise":
        print("listening ...\n\n{}\n[]\n", flush=True)
        say(method="notifications/message", params={})
        say(id="mine", method="sampling/createMessage", params={})
    if method == "initialize":
        say(id=number, result={"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}, "serverInfo": {}})
    elif method == "tools/list":
        if "cursor" in message["params"]:
            say(id=number, result={"tools": tools()[1:]})
        else:
            say(id=number, result={"tools": tools()[:1], "nextCursor": "more"})
    elif method == "tools/call" and message["params"]["name"] == "none":
        say(id=number, error={"code": -32602, "message": "unknown tool"})
    elif method == "tools/call":
        arguments = message["params"]["arguments"]
        say(id=number, result=call(message["params"]["name"], arguments.get("text", "")))

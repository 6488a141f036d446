#!/usr/bin/env python3
"""An agent that speaks ACP and does as its first argument says, well or badly. What it hears is in $HOME/heard, a JSON value a line."""
import json, os, signal, subprocess, sys, time

how = sys.argv[1]
home = os.environ["HOME"]


def say(**message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def note(what):
    with open(home + "/heard", "a") as heard:
        heard.write(json.dumps(what) + "\n")


def update(**fields):
    say(method="session/update", params={"sessionId": "s-1", "update": fields})


def chunk(text, **more):
    update(sessionUpdate="agent_message_chunk", content={"type": "text", "text": text}, **more)


def hear():
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return json.loads(line)


def ask(method, **params):
    say(id="mine", method=method, params={"sessionId": "s-1", **params})
    while True:
        message = hear()
        if message.get("id") == "mine" and "method" not in message:
            note({"answer": message.get("result", message.get("error"))})
            return message


def permission(kind, raw):
    options = [{"optionId": "yes", "name": "Yes", "kind": "allow_once"}, {"optionId": "no", "name": "No", "kind": "reject_once"}]
    answer = ask("session/request_permission", toolCall={"toolCallId": "p", "kind": kind, "title": kind, "rawInput": raw}, options=options)
    return answer["result"]["outcome"].get("optionId")


def until_canceled():
    while hear().get("method") != "session/cancel":
        pass
    note("canceled")


def work(text):
    """Does what the prompt is for; returns the reason why it stops."""
    if how == "dies" and not os.path.exists(home + "/died"):
        open(home + "/died", "w").close()
        chunk("I begin")
        update(sessionUpdate="tool_call", toolCallId="1", title="touch a", kind="execute", status="in_progress", rawInput={"command": "touch a"})
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exits-0":
        print("out of memory", file=sys.stderr)
        sys.exit(0)
    if how == "says-nothing":
        return "end_turn"
    if how == "flood":
        for at in range(100):
            chunk("x" * (1 << 20), messageId=f"m-{at // 10}")
            update(sessionUpdate="tool_call_update", toolCallId=f"{at}", status="completed", rawOutput="y" * (1 << 16))
    if how == "waits" or (how == "waits-once" and not os.path.exists(home + "/waited")):
        open(home + "/waited", "w").close()
        subprocess.Popen(["sleep", "5"], start_new_session=True)
        open("working", "w").close()
        until_canceled()
        return "cancelled"
    if how == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open("working", "w").close()
        while True:
            time.sleep(1000)
    if how == "asks":
        form = {"type": "object", "properties": {"q": {"type": "string", "oneOf": [{"const": "A", "title": "A"}, {"const": "B", "title": "B"}]}}}
        chunk("I wonder.")
        if "A person answers" not in text:
            ask("elicitation/create", mode="form", message="A or B?", requestedSchema=form)
            until_canceled()
            return "cancelled"
    if how == "wants-leave":
        inside = permission("edit", {"file_path": os.getcwd() + "/a"})
        outside = permission("edit", {"file_path": "/etc/passwd"})
        strange = ask("cursor/made_up")["error"]["code"]
        chunk(f"{inside} {outside} {strange}")
        return "end_turn"
    if how == "plans":
        if permission("execute", {"command": "touch made"}) == "yes":
            open("made", "w").close()
        permission("switch_mode", {"plan": "1. look\n2. leap"})
        until_canceled()
        return "cancelled"
    if how == "refuses":
        return "refusal"
    if how == "slow-comment":
        open("working", "w").close()
        while not os.path.exists("go"):
            time.sleep(0.01)
    update(sessionUpdate="agent_thought_chunk", content={"type": "text", "text": "hm"})
    update(sessionUpdate="something_new", x=1)
    chunk("Looking ", messageId="a")
    chunk("around.", messageId="a")
    update(sessionUpdate="tool_call", toolCallId="1", title="Terminal", kind="execute", status="pending", rawInput={})
    update(sessionUpdate="tool_call_update", toolCallId="1", rawInput={"command": "touch made"})
    open("made", "w").close()
    update(sessionUpdate="tool_call_update", toolCallId="1", status="completed", rawOutput={"formatted_output": "made it"})
    update(sessionUpdate="tool_call_update", toolCallId="2", title="cat no", status="failed", content=[{"type": "content", "content": {"type": "text", "text": "no such file"}}])
    update(sessionUpdate="plan", entries=[{"content": "look", "status": "completed"}, {"content": "leap", "status": "in_progress"}])
    chunk("All done.", messageId="b")
    return "end_turn"


if how == "silent":
    time.sleep(1000)
if how == "exits-3":
    print("no license", file=sys.stderr)
    sys.exit(3)
if how == "garbage":
    while True:
        print("Loading \x1b[31m…", flush=True)
print("Welcome!", flush=True)
while True:
    message = hear()
    method, params = message.get("method"), message.get("params", {})
    if method == "initialize":
        version = 2 if how == "version-2" else 1
        say(id=message["id"], result={"protocolVersion": version, "agentCapabilities": {"loadSession": how != "forgets"}})
    elif method == "session/new":
        note("new")
        modes = {"currentModeId": "ask", "availableModes": [{"id": "ask"}, {"id": "yolo"}]}
        say(id=message["id"], result={"sessionId": "s-1", "modes": modes})
    elif method == "session/load":
        note("load")
        chunk("told long ago")
        say(id=message["id"], result={"modes": {"availableModes": [{"id": "yolo"}]}})
    elif method == "session/set_mode":
        note({"mode": params["modeId"]})
        say(id=message["id"], result={})
    elif method == "session/prompt":
        text = params["prompt"][0]["text"]
        note({"prompt": text})
        if how == "gives-up":
            say(id=message["id"], error={"code": -32603, "message": "Internal error", "data": {"details": "401 from the provider"}})
        else:
            say(id=message["id"], result={"stopReason": work(text)})
    elif "id" in message and method:
        say(id=message["id"], error={"code": -32601, "message": "no"})

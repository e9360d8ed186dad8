"""The WebSocket, and the AI SDK's chat read by the AI SDK itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import connect_sse
from tornado import httpclient, websocket

from tests.api.test_http import problem
from tests.doubles.openai_server import OpenAIServer, Say, cell
from tests.jupyter import JupyterServer

AI_SDK = Path(__file__).parents[1] / "ai_sdk"


# -- WebSocket --------------------------------------------------------------------------------------------------------


async def opened(jupyter: JupyterServer, session: str, after: int = 0) -> websocket.WebSocketClientConnection:
    url = f"{jupyter.url.replace('http', 'ws', 1)}cellwright/api/v1/sessions/{session}/ws?after={after}"
    request = httpclient.HTTPRequest(url, headers={"Authorization": "token testing"})
    return await websocket.websocket_connect(request)


async def until(socket: websocket.WebSocketClientConnection, *kinds: str) -> list[dict[str, Any]]:
    """What is told, up to the first of these kinds."""
    told: list[dict[str, Any]] = []
    while not told or told[-1]["event"] not in kinds:
        message = await socket.read_message()
        assert message is not None, told
        told.append(json.loads(message))
    return told


async def test_a_turn_over_the_socket(jupyter: JupyterServer, session: str, model: OpenAIServer) -> None:
    """Asked, watched and resumed over one connection: the events are those of the stream, numbered without a gap."""
    model.script([cell("6 * 7"), Say("It is 42.", between_s=0.02)])
    socket = await opened(jupyter, session)
    await socket.write_message(json.dumps({"type": "query", "id": "a", "query": "6*7?"}))
    told = await until(socket, "turn.completed")
    accepted = next(message for message in told if message["event"] == "accepted")
    assert (accepted["re"], accepted["data"]["n"]) == ("a", 1)
    numbers = [message["id"] for message in told if message.get("id") is not None]
    assert numbers == list(range(1, len(numbers) + 1))
    assert any(message["event"] == "message.delta" for message in told)
    socket.close()
    again = await opened(jupyter, session, after=numbers[3])
    durable = [message for message in await until(again, "turn.completed") if message["id"] is not None]
    assert [message["id"] for message in durable] == numbers[4:]
    assert durable == [m for m in told if m.get("id") is not None and m["id"] > numbers[3]]
    again.close()


async def test_stop_and_approve_over_the_socket(jupyter: JupyterServer, session: str, model: OpenAIServer) -> None:
    """A cell is approved, and a turn is stopped."""
    model.script([cell("print('allowed')"), cell("import time; time.sleep(60)"), Say("never")])
    socket = await opened(jupyter, session)
    await socket.write_message(json.dumps({"type": "query", "query": "go", "approval": "ask"}))
    for source in ("allowed", "sleep"):
        asked = (await until(socket, "approval.requested"))[-1]["data"]
        assert source in asked["source"]
        decision = {"type": "approve", "turn_id": asked["turn_id"], "call_id": asked["call_id"], "decision": "approve"}
        await socket.write_message(json.dumps(decision))
    await until(socket, "cell.started")
    await socket.write_message(json.dumps({"type": "stop", "id": "s", "turn_id": asked["turn_id"]}))
    assert (await until(socket, "turn.stopped"))[-1]["data"]["turn_id"] == asked["turn_id"]
    socket.close()


async def test_what_comes_with_a_question(jupyter: JupyterServer, session: str, model: OpenAIServer) -> None:
    """Images and documents are taken over the socket as they are by POST: kept as artifacts, and named to the model."""
    model.script([Say("I see.")])
    socket = await opened(jupyter, session)
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    said = {
        "type": "query",
        "query": "What is this?",
        "images": [{"data": f"data:image/png;base64,{pixel}", "name": "dot"}],
        "documents": [{"name": "notes.md", "content": "# Notes"}],
    }
    await socket.write_message(json.dumps(said))
    await until(socket, "turn.completed")
    socket.close()
    held = {row["name"] for row in jupyter.call("GET", f"/sessions/{session}/artifacts")["artifacts"]}
    assert {"dot.png", "notes.md"} <= held


async def test_nonsense_over_the_socket(jupyter: JupyterServer, session: str) -> None:
    """What cannot be understood is answered with a problem, and the connection goes on."""
    socket = await opened(jupyter, session)
    absent = "5c7f0a39-8a52-4dd2-a5ee-ff3c62cf6f4b"
    for said, status in (
        ("{", 422),
        ("[]", 422),
        ('"x"', 422),
        (json.dumps({"type": "nosuch", "id": "n"}), 422),
        (json.dumps({"type": "query", "id": "n"}), 422),
        (json.dumps({"type": "query", "id": "n", "query": " "}), 422),
        (json.dumps({"type": "query", "id": "n", "query": "q", "more": 1}), 422),
        (json.dumps({"type": "stop", "id": "n", "turn_id": absent}), 404),
        (json.dumps({"type": "stop", "id": "n", "turn_id": "x"}), 404),
        ("[" * 10_000, 422),
    ):
        await socket.write_message(said)
        told = (await until(socket, "problem"))[-1]
        assert (told["data"]["status"], told["re"]) == (status, "n" if '"n"' in said else ""), said
    socket.close()
    for after in ("x", "-1", "9" * 30):
        url = f"{jupyter.url.replace('http', 'ws', 1)}cellwright/api/v1/sessions/{session}/ws?after={after}"
        with pytest.raises(httpclient.HTTPClientError) as refused:
            await websocket.websocket_connect(httpclient.HTTPRequest(url, headers={"Authorization": "token testing"}))
        assert refused.value.code == 422


# -- AI SDK -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def ai_sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The npm package `ai`, as locked, installed beside a program that uses it."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("not installed here: node and npm")
    folder = tmp_path_factory.mktemp("ai_sdk")
    for name in ("package.json", "package-lock.json", "chat.mjs"):
        shutil.copy(AI_SDK / name, folder)
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env=_outer_environment())
    if re.search(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|E40[134]|ENETUNREACH", done.stderr):
        pytest.skip("npm's registry is out of reach")
    assert done.returncode == 0, done.stderr
    return folder


def _outer_environment() -> dict[str, str]:
    """With the home of whoever runs the tests: npm keeps its settings there."""
    import pwd

    return {**os.environ, "HOME": pwd.getpwuid(os.getuid()).pw_dir}


def chat(ai_sdk: Path, jupyter: JupyterServer, chat_id: str, text: str, how: str = "send") -> Any:
    api = f"{jupyter.url}cellwright/api/v1/agent/chat"
    command = ["node", "chat.mjs", api, "testing", chat_id, text, how]
    done = subprocess.run(command, cwd=ai_sdk, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_ai_sdk_reads_a_turn(ai_sdk: Path, jupyter: JupyterServer, model: OpenAIServer) -> None:
    """Text, reasoning, the tool call with its result, files and sources, as `useChat` would show them."""
    source = "import pandas as pd\npd.DataFrame({'a': [1]}).to_csv('made.csv')\n'made'"
    model.script([cell(source, "make", thinking="I make a file."), Say("Here is **made.csv**.", between_s=0.02)])
    told = chat(ai_sdk, jupyter, "chat-one", "Make a file.")
    assert told["errors"] == []
    parts = told["message"]["parts"]
    kinds = [part["type"] for part in parts]
    assert kinds.count("step-start") == 2
    text = next(part for part in parts if part["type"] == "text")
    assert (text["text"], text["state"]) == ("Here is **made.csv**.", "done")
    assert next(part["text"] for part in parts if part["type"] == "reasoning") == "I make a file."
    tool = next(part for part in parts if part["type"] == "dynamic-tool")
    assert (tool["toolName"], tool["state"], tool["input"]["source"]) == ("run_cell", "output-available", source)
    assert "made" in tool["output"]
    ran = next(part for part in parts if part["type"] == "data-cell")
    assert ran["data"]["status"] == "ok"
    assert next(part["filename"] for part in parts if part["type"] == "source-document") == "made.csv"
    file = next(part for part in parts if part["type"] == "file")
    assert httpx.get(f"{jupyter.url[:-1]}{file['url']}?token=testing", trust_env=False).text.startswith(",a")
    assert told["message"]["metadata"]["status"] == "completed"
    assert told["message"]["metadata"]["session_id"] == jupyter.call("GET", "/sessions/chat-one")["id"]
    assert told["updates"] > 5
    model.script([Say(status=401)])
    assert "key" in chat(ai_sdk, jupyter, "chat-one", "Again.")["errors"][0]


def test_the_ai_sdk_resumes(ai_sdk: Path, jupyter: JupyterServer, model: OpenAIServer) -> None:
    """A reader that comes in the middle gets the whole message; with no turn under way it gets nothing."""
    model.script([cell("import time; time.sleep(2)"), Say("Long " * 40, between_s=0.1)])
    sent: list[Any] = []
    first = threading.Thread(target=lambda: sent.append(chat(ai_sdk, jupyter, "chat-two", "Take your time.")))
    first.start()
    while (
        jupyter.http.get("/sessions/chat-two").status_code != 200
        or not jupyter.call("GET", "/sessions/chat-two")["state"]["busy"]
    ):
        time.sleep(0.05)
    resumed = chat(ai_sdk, jupyter, "chat-two", "", "resume")
    first.join()
    assert resumed["errors"] == []
    assert resumed["message"]["parts"][-1]["text"] == "Long " * 40 == sent[0]["message"]["parts"][-1]["text"]
    assert chat(ai_sdk, jupyter, "chat-two", "", "resume") is None


def test_a_failed_attempt_in_a_chat(jupyter: JupyterServer, model: OpenAIServer) -> None:
    """What was streamed of a failed attempt is named as discarded; the parts that stay hold what the log holds."""
    model.script([Say("Half of it " * 20, cut_after_chunks=6, between_s=0.1), Say("The whole answer.")])
    parts: list[dict[str, Any]] = []
    with connect_sse(
        jupyter.http, "POST", "/agent/chat", json={"message": "?"}, headers={"Accept": "text/event-stream"}
    ) as source:
        assert source.response.headers["x-vercel-ai-ui-message-stream"] == "v1"
        session = source.response.headers["x-session-id"]
        for event in source.iter_sse():
            if event.data != "[DONE]":
                parts.append(event.json())
    discarded = {part["data"]["part"] for part in parts if part["type"] == "data-discarded"}
    texts: dict[str, str] = {}
    for part in parts:
        if part["type"] == "text-delta":
            texts[part["id"]] = texts.get(part["id"], "") + part["delta"]
    assert len(discarded) == 1
    assert [text for name, text in texts.items() if name not in discarded] == ["The whole answer."]
    assert jupyter.call("GET", f"/sessions/{session}/messages")["messages"][-1]["content"] == "The whole answer."


def test_bad_chats(jupyter: JupyterServer) -> None:
    """A body without a question is refused before anything is made."""
    before = jupyter.call("GET", "/sessions")["total"]
    user = {"role": "user", "parts": [{"type": "text", "text": "q"}]}
    for body in (
        {},
        {"message": "m", "messages": [user]},
        {"messages": []},
        {"messages": [{"role": "assistant", "parts": []}]},
        {"messages": [{"role": "user", "parts": [{"type": "file", "url": "http://example.org/x"}]}]},
        {"messages": [{"role": "user", "parts": [*user["parts"], {"type": "file", "url": "http://x/y"}]}]},
        {"messages": [user], "trigger": "nosuch"},
        {"message": "x" * 300_000},
    ):
        problem(jupyter.http.post("/agent/chat", json=body), 422)
    assert jupyter.call("GET", "/sessions")["total"] == before

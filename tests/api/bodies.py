"""A body that validates, for each route that takes one."""

from __future__ import annotations

from typing import Any

BODIES: dict[str, dict[str, Any]] = {
    "/sessions": {"title": "t"},
    "/sessions/{session}": {"title": "t"},
    "/sessions/{session}/query": {"query": "q"},
    "/sessions/{session}/execute": {"source": "1"},
    "/sessions/{session}/messages": {"content": "c"},
    "/sessions/{session}/artifacts": {"name": "n.txt", "text": "t"},
    "/sessions/{session}/context": {"context": {"a": 1}},
    "/sessions/{session}/context/compress": {"max_tokens": 500},
    "/sessions/{session}/context/inherit": {"from": "5c7f0a39-8a52-4dd2-a5ee-ff3c62cf6f4b"},
    "/sessions/{session}/shares": {"role": "read"},
    "/messages/{message}": {"content": "c"},
    "/turns/{turn}/approvals/{call}": {"decision": "approve"},
    "/artifacts/{artifact}": {"description": "d"},
    "/artifacts/{artifact}/share": {"session_id": "5c7f0a39-8a52-4dd2-a5ee-ff3c62cf6f4b"},
    "/artifacts/{artifact}/parents": {"parents": ["5c7f0a39-8a52-4dd2-a5ee-ff3c62cf6f4b"]},
    "/agent/quick": {"query": "q", "context": {"session_id": "quick"}},
    "/agent/chat": {"message": "m"},
    "/preferences": {"max_context_messages": 20},
    "/clean": {"dry_run": True},
}


def body_of(route: Any) -> dict[str, Any]:
    """How to send a valid request to a route, for httpx."""
    if route.takes == "multipart/form-data":
        return {"files": {"file": ("a.csv", b"a\n1\n")}}
    if route.body is not None:
        return {"json": BODIES[route.path]}
    return {"params": {"q": "q"}} if route.path == "/search" else {}

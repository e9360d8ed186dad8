"""What a single-user server asks of its JupyterHub: who a token belongs to."""

from __future__ import annotations

import http.server
import json
import threading

SCOPES = ["access:servers!user=ann", "read:users"]


class Hub:
    """The Hub's API on loopback. `token-NAME` is NAME's; all of USERS may enter ann's server, others may not."""

    USERS = ("ann", "bob")

    def __enter__(self) -> Hub:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.headers.get("Authorization", "").rpartition(" ")[2].removeprefix("token-")
                if self.path.startswith("/hub/api/user"):
                    known = name in (*Hub.USERS, "stranger")
                    scopes = SCOPES if name in Hub.USERS else []
                    user = {"name": name, "kind": "user", "admin": False, "groups": [], "scopes": scopes}
                    self._answer(user if known else {"message": "no such token"}, 200 if known else 403)
                else:
                    self._answer({"version": "5.2.0"}, 200)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self._answer({}, 200)

            def _answer(self, told: object, status: int) -> None:
                data = json.dumps(told).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

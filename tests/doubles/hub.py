"""What a single-user server asks of its JupyterHub: who a token belongs to, and who logs in."""

from __future__ import annotations

import http.server
import json
import threading
import urllib.parse

SCOPES = ["access:servers!user=ann", "read:users"]


class Hub:
    """The Hub's API on loopback. `token-NAME` is NAME's; all of USERS may enter ann's server, others may not.

    Whoever logs in with a browser is ann.
    """

    USERS = ("ann", "bob")

    server = ""
    """Where browsers find ann's server: a real Hub's proxy has both under one address."""

    def __enter__(self) -> Hub:
        hub = self
        self.asked: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.asked.append(self.path)
                name = self.headers.get("Authorization", "").rpartition(" ")[2].removeprefix("token-")
                if self.path.startswith("/hub/api/oauth2/authorize"):
                    asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
                    back = urllib.parse.urlencode({"code": "ann", "state": asked["state"]})
                    self.send_response(302)
                    self.send_header("Location", f"{hub.server}{asked['redirect_uri']}?{back}")
                    self.end_headers()
                elif self.path.startswith("/hub/api/user"):
                    known = name in (*Hub.USERS, "stranger")
                    scopes = SCOPES if name in Hub.USERS else []
                    user = {"name": name, "kind": "user", "admin": False, "groups": [], "scopes": scopes}
                    self._answer(user if known else {"message": "no such token"}, 200 if known else 403)
                else:
                    self._answer({"version": "5.2.0"}, 200)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                login = self.path.startswith("/hub/api/oauth2/token")
                self._answer({"access_token": "token-ann", "token_type": "Bearer"} if login else {}, 200)

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

    def settings(self, port: int, host: str = "") -> dict[str, str]:
        """The environment that the Hub gives to ann's server; `host` where browsers find the Hub."""
        self.server = f"http://127.0.0.1:{port}"
        return {
            "JUPYTERHUB_API_TOKEN": "token-ann",
            "JUPYTERHUB_API_URL": f"{self.url}/hub/api",
            "JUPYTERHUB_BASE_URL": "/",
            "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-ann",
            "JUPYTERHUB_HOST": host,
            "JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["access:servers!user=ann"]',
            "JUPYTERHUB_OAUTH_CALLBACK_URL": "/user/ann/oauth_callback",
            "JUPYTERHUB_SERVICE_PREFIX": "/user/ann/",
            "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}/user/ann/",
            "JUPYTERHUB_USER": "ann",
            "JUPYTERHUB_ACTIVITY_URL": f"{self.url}/hub/api/users/ann/activity",
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

"""A server that leaves an orphan in a session of its own, as daemons do, and answers every request with "{}"."""

import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

LEAVE = "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)"


class Answers(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")


if __name__ == "__main__":
    subprocess.run([sys.executable, "-c", LEAVE], check=True)
    HTTPServer(("127.0.0.1", int(os.environ["PEER_PORT"])), Answers).serve_forever()

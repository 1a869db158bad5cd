"""Takes webhooks of osmTalk's: verifies, stores, answers, and only then works.

    WEBHOOK_SECRET=whsec_... python3 receiver.py

What is to be done with an event is the function handle() in handler.py.  An event
is stored once, by the digest of its bytes, which are the same at every
attempt; it is handed over again, after a while and after a restart, until
handle() has returned without an exception.

Further environment: WEBHOOK_SECRET_OLD (valid too, while a secret is being
replaced), SPOOL (directory, one for each process), HOST, PORT, RETRY_SECONDS.
"""

import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import queue
import tempfile
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from handler import handle

SECRETS = [s for s in (os.environ["WEBHOOK_SECRET"], os.environ.get("WEBHOOK_SECRET_OLD")) if s]
SPOOL = pathlib.Path(os.environ.get("SPOOL", "spool"))
ADDRESS = (os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8080")))
RETRY_SECONDS = float(os.environ.get("RETRY_SECONDS", "60"))
MAX_BYTES = 1024 * 1024  # osmtalk.max_payload is a quarter of that, unless it was raised
pending: "queue.Queue[str]" = queue.Queue()  # stored, and not handled yet


def verify(raw_body: bytes, secret: str, header: str) -> bool:
    expected = "sha256=" + hmac.new(secret.encode(), raw_body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), header.encode())


def store(raw_body: bytes) -> None:
    """Returns when the body is on disk, whatever happens to this process then."""
    name = hashlib.sha256(raw_body).hexdigest()
    with tempfile.NamedTemporaryFile(dir=SPOOL, suffix=".part") as file:  # only we may read it
        file.write(raw_body)
        file.flush()
        os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # it has come before
            os.link(file.name, SPOOL / f"{name}.json")
            pending.put(name)
    directory = os.open(SPOOL, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 15  # of each read and write

    def do_POST(self) -> None:
        try:
            length = int(self.headers["Content-Length"])
        except (TypeError, ValueError):
            return self.answer(411)
        if not 0 <= length <= MAX_BYTES:
            return self.answer(413)

        raw_body = self.rfile.read(length)  # the bytes as they came
        signature = self.headers.get("X-OsmTalk-Signature", "")
        if not any([verify(raw_body, secret, signature) for secret in SECRETS]):
            return self.answer(401)
        store(raw_body)
        return self.answer(204)

    def answer(self, status: int) -> None:
        self.send_response(status)
        if status >= 300:
            self.send_header("Connection", "close")
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args) -> None:
        pass


def work() -> None:
    while True:
        name = pending.get()
        try:
            handle(json.loads((SPOOL / f"{name}.json").read_bytes()))
            (SPOOL / f"{name}.done").touch()
        except Exception:
            traceback.print_exc()
            threading.Timer(RETRY_SECONDS, pending.put, [name]).start()


if __name__ == "__main__":
    if not SECRETS:
        raise SystemExit("WEBHOOK_SECRET is empty")
    SPOOL.mkdir(mode=0o700, exist_ok=True)
    for part in SPOOL.glob("*.part"):
        part.unlink()
    for stored in SPOOL.glob("*.json"):
        if not stored.with_suffix(".done").exists():
            pending.put(stored.stem)
    threading.Thread(target=work, daemon=True).start()
    server = ThreadingHTTPServer(ADDRESS, Receiver)
    print("listening on %s:%d" % ADDRESS, flush=True)
    server.serve_forever()

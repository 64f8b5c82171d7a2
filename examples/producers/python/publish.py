"""publish.py SUBJECT ID BODY: hands one job to a pool, and exits 0 once the broker holds it.

It speaks the NATS protocol by the standard library alone, without TLS. With the package nats-py it
is `await (await nats.connect(url)).jetstream().publish(subject, body, headers={"Nats-Msg-Id": id})`.
"""

import json
import os
import socket
import sys
import urllib.parse
import uuid


class NATS:
    def __init__(self, url, timeout):
        where = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((where.hostname, where.port or 4222), timeout)
        self.lines = self.socket.makefile("rb")
        options = {"verbose": False, "pedantic": False, "lang": "python3", "version": "1", "protocol": 1, "headers": True, "no_responders": True}
        if where.password:
            options |= {"user": urllib.parse.unquote(where.username), "pass": urllib.parse.unquote(where.password)}
        elif where.username:
            options["auth_token"] = urllib.parse.unquote(where.username)
        self.send(f"CONNECT {json.dumps(options)}\r\n".encode())

    def send(self, data):
        self.socket.sendall(data)

    def request(self, subject, headers, body):
        """Publishes a message and returns headers and body of the answer."""
        inbox = f"_INBOX.{uuid.uuid4().hex}"
        head = "NATS/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
        head = head.encode()
        self.send(f"SUB {inbox} 1\r\nUNSUB 1 1\r\nHPUB {subject} {inbox} {len(head)} {len(head) + len(body)}\r\n".encode() + head + body + b"\r\n")
        while True:
            line = self.lines.readline()
            if not line:
                raise ConnectionError("the server closed the connection")
            words = line.decode().split()
            match words[0] if words else "":
                case "PING":
                    self.send(b"PONG\r\n")
                case "-ERR":
                    raise ConnectionError(line.decode().strip())
                case "MSG":
                    return b"", self.lines.read(int(words[-1]))
                case "HMSG":
                    message = self.lines.read(int(words[-1]))
                    return message[: int(words[-2])], message[int(words[-2]) :]


def publish(url, subject, ident, body, timeout=5, tries=5):
    """Without the broker's answer nobody knows whether it has the job: it is sent again, under the same id."""
    for attempt in range(1, tries + 1):
        try:
            head, answer = NATS(url, timeout).request(subject, {"Nats-Msg-Id": ident}, body)
        except (OSError, ConnectionError):
            if attempt == tries:
                raise
            continue
        if head.startswith(b"NATS/1.0 503"):
            raise SystemExit(f"no stream takes {subject}")
        ack = json.loads(answer)
        if "error" in ack:
            raise SystemExit(f"the broker refused the job: {ack['error']}")
        return ack


if __name__ == "__main__":
    subject, ident, body = sys.argv[1:]
    ack = publish(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"), subject, ident, body.encode())
    print(f"stream {ack['stream']} sequence {ack['seq']} duplicate {str(ack.get('duplicate', False)).lower()}")

import base64, hashlib, hmac, json, os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def signed(headers, body):
    key = base64.b64decode(os.environ["SECRET"].removeprefix("whsec_"))
    ident, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not stamp.isdigit() or abs(time.time() - int(stamp)) > 300:
        return False
    mac = hmac.new(key, f"{ident}.{stamp}.".encode() + body, hashlib.sha256).digest()
    want = "v1," + base64.b64encode(mac).decode()
    return any(hmac.compare_digest(got, want) for got in headers.get("webhook-signature", "").split())


def bill(event):
    ident, data = event["rollcalluid"], event.get("data")
    amount = data.get("amount") if isinstance(data, dict) else None
    if not isinstance(amount, int):
        return {"id": ident, "status": "fail", "error": "no amount"}
    if amount < 0:
        return {"id": ident, "status": "fail", "error": "negative amount"}
    return {"id": ident, "status": "ok"}


class Service(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not signed(self.headers, body):
            return self.answer(401, b"bad signature")
        results = [bill(event) for event in json.loads(body)]
        self.answer(200, json.dumps({"results": results}).encode())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Service).serve_forever()

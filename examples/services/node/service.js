const crypto = require("node:crypto");
const http = require("node:http");

function signed(headers, body) {
  const key = Buffer.from(process.env.SECRET.replace(/^whsec_/, ""), "base64");
  const id = headers["webhook-id"], stamp = headers["webhook-timestamp"];
  if (!(Math.abs(Date.now() / 1000 - Number(stamp)) <= 300)) return false;
  const mac = crypto.createHmac("sha256", key).update(`${id}.${stamp}.`).update(body).digest("base64");
  const want = Buffer.from(`v1,${mac}`);
  return (headers["webhook-signature"] || "").split(" ").some((text) => {
    const got = Buffer.from(text);
    return got.length === want.length && crypto.timingSafeEqual(got, want);
  });
}

function bill({ rollcalluid: id, data }) {
  if (typeof data?.amount !== "number") return { id, status: "fail", error: "no amount" };
  if (data.amount < 0) return { id, status: "fail", error: "negative amount" };
  return { id, status: "ok" };
}

http.createServer((req, res) => {
  const chunks = [];
  req.on("data", (chunk) => chunks.push(chunk));
  req.on("end", () => {
    const body = Buffer.concat(chunks);
    if (!signed(req.headers, body)) return res.writeHead(401).end("bad signature");
    const results = JSON.parse(body).map(bill);
    res.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify({ results }));
  });
}).listen(Number(process.env.PORT), "127.0.0.1");

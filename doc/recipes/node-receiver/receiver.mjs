// receiver.mjs - takes webhooks of osmTalk's: verifies, stores, answers, and only then works
//
//     WEBHOOK_SECRET=whsec_... node receiver.mjs
//
// What is to be done with an event is the default export of handler.mjs in the
// current directory.  An event is stored once, by the digest of its bytes, which are the
// same at every attempt; it is handed over again, after a while and after a
// restart, until the handler has returned without an error.
//
// Further environment: WEBHOOK_SECRET_OLD (valid too, while a secret is being
// replaced), SPOOL (directory, one for each process), HOST, PORT, RETRY_SECONDS.

import crypto from "node:crypto";
import fs from "node:fs/promises";
import http from "node:http";
import path from "node:path";
import { pathToFileURL } from "node:url";

const { WEBHOOK_SECRET, WEBHOOK_SECRET_OLD, SPOOL = "spool", HOST = "127.0.0.1" } = process.env;
const port = Number(process.env.PORT ?? 8080);
const retryAfter = Number(process.env.RETRY_SECONDS ?? 60) * 1000;
const secrets = [WEBHOOK_SECRET, WEBHOOK_SECRET_OLD].filter(Boolean);
const maxBytes = 1024 * 1024; // osmtalk.max_payload is a quarter of that, unless it was raised
const pending = new Set(); // stored, and not handled yet
let working = false;

if (!WEBHOOK_SECRET) throw new Error("WEBHOOK_SECRET is not set");
const { default: handle } = await import(pathToFileURL(path.resolve("handler.mjs")));

function verify(rawBody, secret, headerValue) {
  if (typeof headerValue !== "string") return false;
  const [algo, sig] = headerValue.split("=");
  if (algo !== "sha256" || sig === undefined) return false;
  const expected = crypto.createHmac("sha256", secret).update(rawBody).digest();
  const given = Buffer.from(sig, "hex");
  // timingSafeEqual throws on buffers of different lengths
  return given.length === expected.length && crypto.timingSafeEqual(given, expected);
}

// Returns when the body is on disk, whatever happens to this process then.
async function store(rawBody) {
  const name = crypto.createHash("sha256").update(rawBody).digest("hex");
  const temporary = path.join(SPOOL, `${crypto.randomUUID()}.part`);
  const file = await fs.open(temporary, "wx", 0o600);
  try {
    await file.writeFile(rawBody);
    await file.sync();
    await fs.link(temporary, path.join(SPOOL, `${name}.json`));
    pending.add(name);
  } catch (error) {
    if (error.code !== "EEXIST") throw error; // it has come before
  } finally {
    await file.close();
    await fs.unlink(temporary);
  }
  const directory = await fs.open(SPOOL);
  await directory.sync().finally(() => directory.close());
}

async function receive(request, response) {
  const answer = (status) => response.writeHead(status, status < 300 ? {} : { Connection: "close" }).end();
  const length = Number(request.headers["content-length"] ?? NaN);
  if (request.method !== "POST") return answer(405);
  if (Number.isNaN(length)) return answer(411);
  if (length > maxBytes) return answer(413);

  const rawBody = Buffer.concat(await request.toArray()); // the bytes as they came
  const signature = request.headers["x-osmtalk-signature"];
  if (!secrets.some((secret) => verify(rawBody, secret, signature))) return answer(401);

  await store(rawBody);
  answer(204);
  work();
}

async function work() {
  if (working) return; // whoever works sees what is added meanwhile
  working = true;
  for (const name of pending) {
    const file = path.join(SPOOL, name);
    try {
      const event = JSON.parse(await fs.readFile(`${file}.json`, "utf8"));
      await withinAMinute(handle(event));
      await fs.writeFile(`${file}.done`, "");
      pending.delete(name);
    } catch (error) {
      console.error(`${file}.json waits for another try: ${error.message}`);
    }
  }
  working = false;
}

async function withinAMinute(promise) {
  let timer;
  const timeout = new Promise((_, reject) => {
    timer = setTimeout(reject, 60_000, new Error("the handler takes too long"));
  });
  await Promise.race([promise, timeout]).finally(() => clearTimeout(timer));
}

await fs.mkdir(SPOOL, { recursive: true, mode: 0o700 });
const files = new Set(await fs.readdir(SPOOL));
for (const file of files) {
  const { name, ext } = path.parse(file);
  if (ext === ".part") await fs.unlink(path.join(SPOOL, file));
  if (ext === ".json" && !files.has(`${name}.done`)) pending.add(name);
}

http.createServer({ requestTimeout: 15_000 }, (request, response) => {
  receive(request, response).catch((error) => {
    console.error(error.message);
    if (!response.headersSent) response.writeHead(500, { Connection: "close" }).end();
  });
}).listen(port, HOST, () => console.log(`listening on ${HOST}:${port}`));
setInterval(work, retryAfter);
work();

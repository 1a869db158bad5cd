//
// receiver.mjs - the other system: notes what arrives, durably, before it answers
//
//     node receiver.mjs LEDGER SEED SECRET ENDPOINTS
//
// Prints a line of JSON, { ports }, when it is ready.  A line of the ledger:
// milliseconds of the epoch, event id, SHA-256 of the body, whether the
// signature is right, what was done with it.  The body is taken as it came;
// nothing of osmtalk's is used.  What goes to another path than /hook is
// another database's: answered, and not noted.

import crypto from "node:crypto";
import fs from "node:fs";
import http from "node:http";

import { Random } from "./random.mjs";

const [ledgerFile, seed, secret, endpoints] = process.argv.slice(2);
const ledger = fs.openSync(ledgerFile, "a");
const random = new Random(seed, "receiver");
const verdicts = { 204: 880, 200: 20, 400: 10, 410: 5, 429: 5, 500: 20, 503: 10, slow: 35, reset: 10, hang: 5 };

let waiting = []; // what is to be noted, with what comes after

function signatureIs(request, body) {
    const given = Buffer.from(request.headers["x-osmtalk-signature"] ?? "");
    const right = Buffer.from("sha256=" + crypto.createHmac("sha256", secret).update(body).digest("hex"));
    return given.length === right.length && crypto.timingSafeEqual(given, right) ? "good" : "bad";
}

function answer(request, response, verdict) {
    switch (verdict) {
        case "hang": break; // until the other side gives up
        case "reset": request.socket.resetAndDestroy(); break;
        case "slow": setTimeout(() => response.writeHead(204).end(), random.between(100, 1000)); break;
        default: response.writeHead(Number(verdict)).end(Number(verdict) >= 400 ? `refused with ${verdict}` : undefined);
    }
}

// All that has come meanwhile with one flush.
function flush() {
    const now = waiting;
    waiting = [];
    fs.writeSync(ledger, now.map(({ line }) => line).join(""));
    fs.fdatasyncSync(ledger);
    for (const { request, response, verdict } of now) answer(request, response, verdict);
}

function receive(request, response) {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("error", () => {});
    response.on("error", () => {});
    request.on("end", () => {
        if (request.url !== "/hook") {
            response.writeHead(204).end();
            return;
        }
        const body = Buffer.concat(chunks);
        const verdict = random.pick(verdicts);
        const line = [Date.now(), request.headers["x-osmtalk-event-id"] ?? "?",
            crypto.createHash("sha256").update(body).digest("hex"), signatureIs(request, body), verdict].join(" ") + "\n";
        if (waiting.push({ line, request, response, verdict }) === 1) setImmediate(flush);
    });
}

const ports = [];
for (let i = 0; i < Number(endpoints); i++) {
    const server = http.createServer({ keepAliveTimeout: 20000 }, receive);
    await new Promise((resolve) => server.listen(0, "127.0.0.1", 511, resolve));
    ports.push(server.address().port);
}
console.log(JSON.stringify({ ports }));
process.stdin.on("end", () => process.exit(0)).resume(); // with whoever started it

#!/usr/bin/env node
//
// receiver.mjs - a webhook receiver for the demonstration and the tests
//
//     node receiver.mjs LOGFILE [--secret S] [--secrets '{"/path": "s", ...}']
//                       [--bodies] [--stdout] [--tls CERT KEY] [--listen HOST PORT]
//
// Listens on a free port of 127.0.0.1 (or where it is told to) and says {"port":N} when it is ready.
// Every request becomes one JSON line in LOGFILE (with --stdout, there too),
// written before the request is answered: whatever a client believes delivered
// is in the log.  SIGTERM ends it at once.
//
// The secret for a request is the one whose path in --secrets is the longest
// prefix of the request's path, else --secret; an empty one is none.
//
// How it behaves depends on the path:
//     /status/NNN   answers with that status and a small body
//     /slow/MS      answers 200 after MS milliseconds; /slow/MS/NNN with that status
//     /hang…        never answers
//     /hold…        answers 200 when the process gets the signal USR2
//     /reset…       resets the connection
//     /trickle…     200, then one byte every 100 ms for ever
//     /big…         200 and a body without end
//     /redirect…    302 to /redirected
//     /close…       200 with "Connection: close"
//     /sticky…      200 with all that a browser would remember
//     /echo…        200 and the first kilobyte of the request's body
//     /fail/NNN/N   that status to the first N requests of each event, then 204
//     /after/NNN/X  that status, and "Retry-After: X"
//     /broken…      500 until the process gets the signal USR1, then 204; and back
//     anything else 204

import crypto from "node:crypto";
import fs from "node:fs";
import http from "node:http";
import https from "node:https";
import { performance } from "node:perf_hooks";

const options = parseArguments(process.argv.slice(2));
const logFd = fs.openSync(options.log, "a");
const hugeChunk = Buffer.alloc(64 * 1024, "x");
const held = [];
const requestsOf = new Map(); // by event, for /fail
let broken = true;
let seq = 0;

function parseArguments(args) {
    const parsed = { secrets: [], secret: "", bodies: false, stdout: false, host: "127.0.0.1", port: 0 };

    while (args.length > 0) {
        const arg = args.shift();
        if (arg === "--secret") parsed.secret = args.shift();
        else if (arg === "--secrets")
            // Longest first, so that the first prefix that matches is the one.
            parsed.secrets = Object.entries(JSON.parse(args.shift()))
                .sort(([a], [b]) => b.length - a.length);
        else if (arg === "--bodies") parsed.bodies = true;
        else if (arg === "--stdout") parsed.stdout = true;
        else if (arg === "--tls") {
            parsed.cert = fs.readFileSync(args.shift());
            parsed.key = fs.readFileSync(args.shift());
        } else if (arg === "--listen") {
            parsed.host = args.shift();
            parsed.port = Number(args.shift());
        } else if (parsed.log === undefined && !arg.startsWith("--")) parsed.log = arg;
        else usage(`unexpected argument: ${arg}`);
    }
    if (parsed.log === undefined) usage("no log file given");
    return parsed;
}

function usage(message) {
    process.stderr.write(`receiver: ${message}\n`);
    process.exit(2);
}

// The recipe that the documentation gives to customers.  Its one addition is
// the length check: timingSafeEqual throws on buffers of different lengths.
function verify(rawBody, secret, headerValue) {
    const [algo, sig] = headerValue.split("=");
    if (algo !== "sha256" || sig === undefined) return false;
    const expected = crypto.createHmac("sha256", secret).update(rawBody).digest("hex");
    const given = Buffer.from(sig, "hex");
    const wanted = Buffer.from(expected, "hex");
    return given.length === wanted.length && crypto.timingSafeEqual(given, wanted);
}

function secretFor(path) {
    const entry = options.secrets.find(([prefix]) => path.startsWith(prefix));
    return entry ? entry[1] : options.secret;
}

function verdict(path, rawBody, headerValue) {
    const secret = secretFor(path);
    if (!secret) return null;
    return headerValue !== undefined && verify(rawBody, secret, headerValue);
}

function parse(rawBody) {
    try {
        return JSON.parse(rawBody) ?? {};
    } catch {
        return {};
    }
}

function record(request, rawBody) {
    const event = parse(rawBody);
    const lead = event.lead ?? {};
    const entry = {
        seq: ++seq,
        method: request.method,
        path: request.url,
        eventId: request.headers["x-osmtalk-event-id"] ?? null,
        event: event.event ?? null,
        callId: lead.callId ?? event.call?.id ?? null,
        phoneNumber: lead.phoneNumber ?? event.call?.phoneNumber ?? null,
        status: lead.status ?? event.call?.status ?? null,
        disposition: lead.disposition ?? null,
        attempts: lead.attempts ?? null,
        verified: verdict(request.url, rawBody, request.headers["x-osmtalk-signature"]),
        headers: request.headers,
        port: request.socket.remotePort, // the same, while a connection is used again
        bytes: rawBody.length,
        sha256: crypto.createHash("sha256").update(rawBody).digest("hex"),
        // Sub-millisecond wall clock, which Date.now() is not.
        arrivedAt: request.arrivedAt,
    };
    if (options.bodies) entry.body = rawBody.toString("utf8");

    const line = JSON.stringify(entry) + "\n";
    fs.writeSync(logFd, line);
    if (options.stdout) fs.writeSync(1, line);
}

function answer(request, response, rawBody) {
    const path = request.url;
    const [, first = "", second = "", third = ""] = path.split(/[/?]/);
    const starts = (word) => first.startsWith(word);

    if (first === "status") {
        const code = /^[2-9]\d\d$/.test(second) ? Number(second) : 400;
        response.writeHead(code, { "Content-Type": "text/plain" });
        response.end(`status ${second}\n`);
    } else if (first === "slow") {
        setTimeout(() => response.writeHead(Number(third) || 200).end("slow\n"), Number(second));
    } else if (starts("hang")) {
        // nothing, ever
    } else if (starts("hold")) {
        held.push(response);
    } else if (starts("reset")) {
        // A TLS socket has no RST of its own: reset what is below it.
        const socket = request.socket;
        if (socket.encrypted) socket.destroy();
        else socket.resetAndDestroy();
    } else if (starts("trickle")) {
        response.writeHead(200, { "Content-Type": "text/plain" });
        response.flushHeaders();
        const timer = setInterval(() => response.write("."), 100);
        response.on("close", () => clearInterval(timer));
    } else if (starts("big")) {
        response.writeHead(200, { "Content-Type": "text/plain" });
        const fill = () => {
            while (!response.destroyed && response.write(hugeChunk));
        };
        response.on("drain", fill);
        fill();
    } else if (starts("redirect") && first !== "redirected") {
        response.writeHead(302, { Location: "/redirected" }).end();
    } else if (starts("close")) {
        response.writeHead(200, { Connection: "close" }).end("closing\n");
    } else if (starts("sticky")) {
        const { port } = server.address();
        response.writeHead(200, {
            "Set-Cookie": ["session=secret; Path=/", "other=1; Max-Age=100000"],
            "Alt-Svc": `h2=":${port + 1}"; ma=100000, http/1.1="127.0.0.2:${port}"; ma=100000`,
            "Strict-Transport-Security": "max-age=100000; includeSubDomains",
            "WWW-Authenticate": 'Basic realm="x"',
            Refresh: "0; url=/redirected",
            Link: "</redirected>; rel=preload",
        }).end("sticky\n");
    } else if (first === "fail") {
        const id = request.headers["x-osmtalk-event-id"];
        const n = (requestsOf.get(id) ?? 0) + 1;
        requestsOf.set(id, n);
        response.writeHead(n > Number(third) ? 204 : Number(second)).end();
    } else if (first === "after") {
        response.writeHead(Number(second), { "Retry-After": decodeURIComponent(third) }).end();
    } else if (starts("broken")) {
        response.writeHead(broken ? 500 : 204).end();
    } else if (starts("echo")) {
        response.writeHead(200, { "Content-Type": "text/plain" }).end(rawBody.subarray(0, 1024));
    } else {
        response.writeHead(204).end();
    }
}

function handle(request, response) {
    const chunks = [];

    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
        request.arrivedAt = performance.timeOrigin + performance.now();
        const rawBody = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
        record(request, rawBody);
        answer(request, response, rawBody);
    });
    request.on("error", () => {});
    response.on("error", () => {});
}

// No time-outs of its own: how long a client waits is what the tests measure.
const serverOptions = { requestTimeout: 0, headersTimeout: 0, keepAliveTimeout: 0 };
const server = options.cert
    ? https.createServer({ ...serverOptions, cert: options.cert, key: options.key }, handle)
    : http.createServer(serverOptions, handle);

server.on("clientError", (error, socket) => socket.destroy());
server.on("tlsClientError", () => {});
process.on("SIGTERM", () => process.exit(0));
process.on("SIGINT", () => process.exit(0));
process.on("SIGUSR1", () => {
    broken = !broken;
});
process.on("SIGUSR2", () => {
    for (const response of held.splice(0)) response.writeHead(200).end("held\n");
});

server.listen({ host: options.host, port: options.port, backlog: 4096 }, () => {
    fs.writeSync(1, JSON.stringify({ port: server.address().port }) + "\n");
});

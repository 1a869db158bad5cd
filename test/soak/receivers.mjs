//
// receivers.mjs - many endpoints that keep connections for a while, each for its own
//
//     node receivers.mjs PORTS SEED
//
// Prints {"ports":[…]} and answers every request with 204.  A connection that
// has been idle for a while is closed, as servers do: after 0.5 to 5 seconds,
// by chance, anew after each answer.  Never one of which a byte of a request
// has been read.  Each line on standard input is answered with one of JSON:
// what came so far; see report().

import crypto from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import readline from "node:readline";

import { Random } from "../chaos/random.mjs";

const [ports, seed] = process.argv.slice(2);
const random = new Random(seed, "receivers");
const secret = process.env.SOAK_SECRET;

// Calls are numbered by those who make them: how often each came.
const came = new Map(); // writer → Uint8Array
const counts = { requests: 0, connections: 0, open: 0, closedIdle: 0, badSignatures: 0, bad: 0 };

function note(writer, number) {
    let seen = came.get(writer) ?? new Uint8Array(1 << 16);
    if (number >= seen.length) {
        const longer = new Uint8Array(2 ** Math.ceil(Math.log2(number + 1)));
        longer.set(seen);
        seen = longer;
    }
    came.set(writer, seen);
    if (seen[number] < 255) seen[number]++;
}

function receive(head, body) {
    counts.requests++;
    const signature = head.match(/^x-osmtalk-signature: *(\S+)/im)?.[1];
    if (signature !== "sha256=" + crypto.createHmac("sha256", secret).update(body).digest("hex")) counts.badSignatures++;
    const call = body.toString().match(/"callId":"w(\d+)_(\d+)"/);
    if (call === null) counts.bad++;
    else note(call[1], Number(call[2]));
}

function serve(socket) {
    let pending = Buffer.alloc(0);
    let timer = null;
    const idle = () => {
        timer = setTimeout(() => {
            counts.closedIdle++;
            socket.destroy();
        }, random.between(500, 5000));
    };
    counts.connections++;
    counts.open++;
    socket.setNoDelay(true);
    socket.on("error", () => {});
    socket.on("close", () => {
        counts.open--;
        clearTimeout(timer);
    });
    socket.on("data", (data) => {
        clearTimeout(timer);
        pending = pending.length === 0 ? data : Buffer.concat([pending, data]);
        for (;;) {
            const end = pending.indexOf("\r\n\r\n");
            if (end < 0) return;
            const head = pending.toString("latin1", 0, end);
            const length = Number(head.match(/^content-length: *(\d+)/im)?.[1] ?? 0);
            if (pending.length < end + 4 + length) return;
            receive(head, pending.subarray(end + 4, end + 4 + length));
            pending = pending.subarray(end + 4 + length);
            socket.write("HTTP/1.1 204 No Content\r\n\r\n");
            if (pending.length === 0) {
                idle();
                return;
            }
        }
    });
    idle();
}

// With how many calls came at all, and how many of them more than once.
function report() {
    let calls = 0;
    let repeated = 0;
    for (const seen of came.values())
        for (const n of seen) {
            if (n > 0) calls++;
            if (n > 1) repeated++;
        }
    return { ...counts, calls, repeated };
}

const listening = [];
for (let i = 0; i < Number(ports); i++) {
    const server = net.createServer(serve);
    await new Promise((resolve) => server.listen({ host: "127.0.0.1", port: 0, backlog: 511 }, resolve));
    listening.push(server.address().port);
}
fs.writeSync(1, JSON.stringify({ ports: listening }) + "\n");

const lines = readline.createInterface({ input: process.stdin });
lines.on("line", () => fs.writeSync(1, JSON.stringify(report()) + "\n"));
lines.on("close", () => process.exit(0)); // with whoever started it

#!/usr/bin/env node
//
// recorder.mjs - receivers that need more than nginx has
//
//     node recorder.mjs record|hang|slow PORTS
//
// Listens on that many free ports of 127.0.0.1 and prints {"ports":[...]}.
//     record   answers 204 and remembers when each event arrived: the clock
//              when the whole request was there.  A line on standard input
//              names a file to write that to; its length is the answer.
//     hang     reads, and never answers
//     slow     answers 500 after two seconds

import fs from "node:fs";
import http from "node:http";
import { performance } from "node:perf_hooks";
import readline from "node:readline";

const [kind, ports] = process.argv.slice(2);
const slowness = 2000;
let arrivals = [];

function record(request, response) {
    request.resume();
    request.on("end", () => {
        arrivals.push(`${request.headers["x-osmtalk-event-id"]}\t${(performance.timeOrigin + performance.now()).toFixed(3)}\n`);
        response.writeHead(204).end();
    });
}

function hang(request) {
    request.resume();
}

function slow(request, response) {
    request.resume();
    setTimeout(() => response.writeHead(500).end(), slowness);
}

const handle = { record, hang, slow }[kind];
const servers = [];
for (let i = 0; i < Number(ports); i++)
    servers.push(await new Promise((resolve) => {
        const server = http.createServer({ requestTimeout: 0, headersTimeout: 0, keepAliveTimeout: 0 }, (request, response) => {
            request.on("error", () => {});
            response.on("error", () => {});
            handle(request, response);
        });
        server.on("clientError", (error, socket) => socket.destroy());
        server.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => resolve(server));
    }));

process.on("SIGTERM", () => process.exit(0));
fs.writeSync(1, JSON.stringify({ ports: servers.map((server) => server.address().port) }) + "\n");

const lines = readline.createInterface({ input: process.stdin });
lines.on("line", (file) => {
    fs.writeFileSync(file, arrivals.join(""));
    fs.writeSync(1, `${arrivals.length}\n`);
    arrivals = [];
});
// whoever started it is gone
lines.on("close", () => process.exit(0));

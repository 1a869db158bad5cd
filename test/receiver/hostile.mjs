#!/usr/bin/env node
//
// hostile.mjs - receivers that do what no receiver should
//
//     node hostile.mjs CERT KEY [ENDPOINTS]
//
// Listens on free ports of 127.0.0.1, so many (8) for each behaviour, and says
// {"behaviour": ["http://127.0.0.1:N", …], …} when it is ready.

import fs from "node:fs";
import net from "node:net";
import tls from "node:tls";
import zlib from "node:zlib";

const [cert, key] = process.argv.slice(2, 4).map((file) => fs.readFileSync(file));
const endpoints = Number(process.argv[4] ?? 8);
const ok = "HTTP/1.1 200 OK\r\n";
const block = "x".repeat(64 * 1024);
const zeros = Buffer.alloc(64 * 1024 * 1024);
const gzipped = zlib.gzipSync(zeros);
const gzippedTwice = zlib.gzipSync(gzipped);
const brotli = zlib.brotliCompressSync(zeros);

function chunked(data) {
    const bytes = Buffer.from(data);
    return Buffer.concat([Buffer.from(bytes.length.toString(16) + "\r\n"), bytes, Buffer.from("\r\n")]);
}

// Writes something again and again, as fast as it is read.
function flood(socket, data) {
    const fill = () => {
        while (!socket.destroyed && socket.write(data));
    };
    socket.on("drain", fill);
    fill();
}

function slowly(socket, data, ms) {
    let at = 0;
    const timer = setInterval(() => socket.write(data[at++ % data.length]), ms);
    socket.on("close", () => clearInterval(timer));
}

// Answers each request in turn with one byte more, and ends as told.
function cutShort(end) {
    const answer = `${ok}Content-Type: text/plain\r\nContent-Length: 21\r\nX-A: b\r\n\r\nonce upon a time, \r\n.`;
    let length = 0;
    return (socket) => socket.write(answer.slice(0, length++ % answer.length), () => setTimeout(() => end(socket), 2));
}

const say = (...parts) => (socket) => parts.forEach((part) => socket.write(part));
const sayAndFlood = (head, data) => (socket) => {
    socket.write(head);
    flood(socket, data);
};

// what it does once a request has come
const afterRequest = {
    "never answers": () => {},
    "closes without an answer": (socket) => socket.end(),
    "resets at once": (socket) => socket.resetAndDestroy(),
    "body without end, until it closes": sayAndFlood(`${ok}\r\n`, block),
    "body without end, in chunks": sayAndFlood(`${ok}Transfer-Encoding: chunked\r\n\r\n`, chunked(block)),
    "body of 10 GB": sayAndFlood(`${ok}Content-Length: 10000000000\r\n\r\n`, block),
    "Content-Length of 8 exabytes, and nothing": say(`${ok}Content-Length: 9223372036854775807\r\n\r\n`),
    "Content-Length of more than 64 bits": say(`${ok}Content-Length: 99999999999999999999\r\n\r\n`),
    "Content-Length twice, and different": say(`${ok}Content-Length: 5\r\nContent-Length: 50000\r\n\r\nhello`),
    "gzip bomb, Content-Encoding": say(`${ok}Content-Encoding: gzip\r\nContent-Length: ${gzipped.length}\r\n\r\n`, gzipped),
    "brotli bomb, Content-Encoding": say(`${ok}Content-Encoding: br\r\nContent-Length: ${brotli.length}\r\n\r\n`, brotli),
    "gzip bomb, Transfer-Encoding": say(`${ok}Transfer-Encoding: gzip, chunked\r\n\r\n`, chunked(gzipped), "0\r\n\r\n"),
    "gzip bomb in a gzip bomb, Transfer-Encoding": say(`${ok}Transfer-Encoding: gzip, gzip, chunked\r\n\r\n`, chunked(gzippedTwice), "0\r\n\r\n"),
    "a hundred encodings": say(`${ok}Transfer-Encoding: ${"gzip, ".repeat(100)}chunked\r\n\r\n`, chunked(gzipped), "0\r\n\r\n"),
    "a byte of the body each second": (socket) => {
        socket.write(`${ok}\r\n`);
        slowly(socket, "x", 1000);
    },
    "a byte of the headers each second": (socket) => slowly(socket, `${ok}X-A: b\r\n`, 1000),
    "headers without end": sayAndFlood(ok, "X-Filler: 0123456789\r\n".repeat(1000)),
    "headers without end, slowly": (socket) => {
        socket.write(ok);
        slowly(socket, ["X-Filler: 0123456789\r\n"], 50);
    },
    "one header without end": sayAndFlood(`${ok}X-Filler: `, block),
    "status line without end": sayAndFlood("HTTP/1.1 200 ", block),
    "100 Continue without end": sayAndFlood("", "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000)),
    "103 Early Hints without end, slowly": (socket) => slowly(socket, ["HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"], 50),
    "100 Continue, then nothing": say("HTTP/1.1 100 Continue\r\n\r\n"),
    "100 Continue, 417, and closes": (socket) => socket.end("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"),
    "101, then anything": sayAndFlood("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", block),
    "chunk size that is none": say(`${ok}Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n`),
    "chunk size of more than 64 bits": say(`${ok}Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nabc\r\n`),
    "chunk size of 8 exabytes, and nothing": say(`${ok}Transfer-Encoding: chunked\r\n\r\n7FFFFFFFFFFFFFFF\r\nabc`),
    "chunk size without end": sayAndFlood(`${ok}Transfer-Encoding: chunked\r\n\r\n`, "0".repeat(65536)),
    "chunk extension without end": sayAndFlood(`${ok}Transfer-Encoding: chunked\r\n\r\n3;`, block),
    "trailers without end": sayAndFlood(`${ok}Transfer-Encoding: chunked\r\n\r\n0\r\n`, "X-Filler: 0123456789\r\n".repeat(1000)),
    "reset after each byte of an answer": cutShort((socket) => socket.resetAndDestroy()),
    "closed after each byte of an answer": cutShort((socket) => socket.end()),
    "two answers to one request": say(`${ok}Content-Length: 2\r\n\r\nok`.repeat(2)),
    "NULs everywhere": say("HTTP/1.1 200 \0\r\nX-\0: \0\r\nContent-Length: 3\r\n\r\n\0\0\0"),
    "no HTTP, without end": sayAndFlood("", block),
};

// what it does once somebody has connected
const afterConnect = {
    "an answer before the request": (socket) => socket.write(`${ok}Content-Length: 0\r\n\r\n`),
    "reset before the request": (socket) => socket.resetAndDestroy(),
};
const insteadOfTls = {
    "TLS: silent": () => {},
    "TLS: plain http": (socket) => socket.write(`${ok}Content-Length: 0\r\n\r\n`),
    "TLS: anything, without end": (socket) => flood(socket, block),
    "TLS: a byte each second": (socket) => slowly(socket, ["\x16", "\x03", "\x03", "\x40", "\x00", "\x02", "\x00"], 1000),
    "TLS: alerts without end": (socket) => flood(socket, Buffer.from("15030300020100".repeat(5000), "hex")),
    "TLS: a record of 16 kB that does not come": (socket) => socket.write(Buffer.from("160303400002003ffc0303", "hex")),
};
const afterHandshake = {
    "TLS: silent after the handshake": () => {},
    "TLS: body without end": sayAndFlood(`${ok}\r\n`, block),
};

function onRequest(behave) {
    return (socket) => {
        let head = "";
        socket.on("data", (data) => {
            head += data.toString("latin1");
            const [headers, body] = head.split("\r\n\r\n");
            const length = Number(/^content-length: *(\d+)/im.exec(headers)?.[1] ?? 0);
            if (body === undefined || body.length < length) return;
            head = "";
            behave(socket);
        });
    };
}

function onConnect(behave) {
    return (socket) => {
        behave(socket);
        socket.resume();
    };
}

const urls = {};

async function listen(what, scheme, handler, create) {
    urls[what] = [];
    for (let i = 0; i < endpoints; i++) {
        const server = create((socket) => {
            socket.on("error", () => {});
            handler(socket);
        });
        server.on("tlsClientError", () => {});
        await new Promise((resolve) => server.listen({ host: "127.0.0.1", port: 0, backlog: 100 }, resolve));
        urls[what].push(`${scheme}://127.0.0.1:${server.address().port}`);
    }
}

const plain = (handler) => net.createServer(handler);
const secure = (handler) => tls.createServer({ cert, key }, handler);

process.on("SIGTERM", () => process.exit(0));
for (const [what, behave] of Object.entries(afterConnect)) await listen(what, "http", onConnect(behave), plain);
for (const [what, behave] of Object.entries(afterRequest)) await listen(what, "http", onRequest(behave), plain);
for (const [what, behave] of Object.entries(insteadOfTls)) await listen(what, "https", onConnect(behave), plain);
for (const [what, behave] of Object.entries(afterHandshake)) await listen(what, "https", onRequest(behave), secure);
fs.writeSync(1, JSON.stringify(urls) + "\n");

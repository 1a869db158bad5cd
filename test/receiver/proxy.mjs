#!/usr/bin/env node
//
// proxy.mjs - an egress proxy: makes the connections that it is asked for
//
//     node proxy.mjs LOGFILE
//
// Listens on a free port of 127.0.0.1 and says {"port":N} when it is ready.
// Each request to it is one JSON line in LOGFILE.  Names are its own business:
// all lead to 127.0.0.1, and some to nothing, by their first letters:
//
//     denied…   403          auth…     407, with a challenge
//     down…     502          hang…     no answer
//     chatty…   200 with headers, before the connection is made

import fs from "node:fs";
import net from "node:net";

const log = process.argv[2];
const answers = {
    denied: "403 Forbidden\r\nContent-Length: 17\r\n\r\n10.0.0.1 is there",
    auth: '407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n',
    down: "502 Bad Gateway\r\nX-Why: 10.0.0.1 refuses\r\nContent-Length: 0\r\n\r\n",
};

function connect(client, port, head) {
    const target = net.connect({ host: "127.0.0.1", port });
    target.on("connect", () => {
        client.write(`HTTP/1.1 200 Connection established\r\n${head}\r\n`);
        client.pipe(target).pipe(client);
    });
    target.on("error", () => client.end("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"));
    target.on("close", () => client.destroy());
    client.on("close", () => target.destroy());
}

const server = net.createServer((client) => {
    let request = "";

    const onData = (data) => {
        request += data.toString("latin1");
        if (!request.includes("\r\n\r\n")) return;
        const [line, ...headers] = request.split("\r\n\r\n")[0].split("\r\n");
        const [method, target] = line.split(" ");
        fs.appendFileSync(log, JSON.stringify({ method, target, headers }) + "\n");
        request = "";
        const word = Object.keys(answers).find((name) => target.startsWith(name));
        if (word) return client.write(`HTTP/1.1 ${answers[word]}`);
        if (target.startsWith("hang")) return;
        if (method !== "CONNECT") return client.end("HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n");
        client.off("data", onData);
        client.pause();
        connect(client, Number(target.split(":").pop()), target.startsWith("chatty") ? "Location: /\r\nSet-Cookie: a=b\r\n".repeat(20) : "");
    };
    client.on("data", onData);
    client.on("error", () => {});
});

process.on("SIGTERM", () => process.exit(0));
server.listen({ host: "127.0.0.1", port: 0 }, () => {
    fs.writeSync(1, JSON.stringify({ port: server.address().port }) + "\n");
});

// vendor.mjs - what the stand-ins for vendors' APIs share
//
// A stand-in listens on a free port of 127.0.0.1, says {"port":N} when it is ready,
// checks each request as the vendor's documentation says that the vendor
// does, and answers likewise. Every request becomes a JSON line in the log, written before
// it is answered. SIGUSR2 makes the next request fail with 503.

import fs from "node:fs";
import http from "node:http";

// answer(request, body) returns [status, body, record]: body is an object, sent
// as JSON, or text; record is what the log has besides.
export function serve(log, answer) {
    const fd = fs.openSync(log, "a");
    let failing = false;

    const server = http.createServer((request, response) => {
        const chunks = [];
        request.on("data", (chunk) => chunks.push(chunk));
        request.on("end", () => {
            const body = Buffer.concat(chunks).toString("utf8");
            const [status, said, record] = failing ? [503, "unavailable", {}] : answer(request, body);
            failing = false;
            fs.writeSync(fd, JSON.stringify({ method: request.method, path: request.url, status, said, ...record }) + "\n");
            const json = typeof said !== "string";
            response.writeHead(status, { "Content-Type": json ? "application/json;charset=utf-8" : "text/html" });
            response.end(json ? JSON.stringify(said) : said);
        });
    });

    process.on("SIGTERM", () => process.exit(0));
    process.on("SIGUSR2", () => {
        failing = true;
    });
    server.listen({ host: "127.0.0.1", port: 0 }, () => {
        fs.writeSync(1, JSON.stringify({ port: server.address().port }) + "\n");
    });
}

export function parse(body) {
    try {
        return JSON.parse(body);
    } catch {
        return undefined;
    }
}

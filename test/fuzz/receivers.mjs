//
// receivers.mjs - whoever events are posted to: one that accepts, and many that answer anything
//
//     node receivers.mjs SEED HOSTS
//
// Prints a line of JSON, { url, clear, unclear, healthy } with the URLs of each
// sort, when it is ready; then a line for each request: the event's id, the
// SHA-256 of the body, the signature.  In a process of its own, so that answers
// do not wait until the judge has time.
//

import crypto from "node:crypto";
import net from "node:net";

import { answerFor, isHealthy } from "./answers.mjs";

const [seed, hosts] = [process.argv[2], Number(process.argv[3])];
const noContent = Buffer.from("HTTP/1.1 204 No Content\r\n\r\n");
let lines = [];

function note(line) {
    if (lines.push(line) === 1)
        setImmediate(() => {
            process.stdout.write(lines.join(""));
            lines = [];
        });
}

// One connection.  What comes on it after an answer that ends it is left unread.
function serve(socket, answerOf) {
    let data = Buffer.alloc(0);
    let over = false;
    socket.on("error", () => {});
    socket.on("data", (chunk) => {
        data = Buffer.concat([data, chunk]);
        while (!over) {
            const end = data.indexOf("\r\n\r\n");
            if (end < 0) return;
            const head = data.subarray(0, end).toString("latin1");
            const field = (name) => head.match(new RegExp(`^${name}: *(\\S+)`, "im"))?.[1] ?? "?";
            const next = end + 4 + Number(field("content-length"));
            if (data.length < next) return;
            const id = field("x-osmtalk-event-id");
            note(`${id} ${crypto.createHash("sha256").update(data.subarray(end + 4, next)).digest("hex")} ${field("x-osmtalk-signature")}\n`);
            data = data.subarray(next);
            over = give(socket, answerOf(id));
        }
    });
}

// Whether nothing more is said on that connection.
function give(socket, { bytes, end }) {
    const finish = () => {
        if (end === "close") socket.end();
        else if (end === "reset") socket.resetAndDestroy();
    };
    if (bytes.length === 0) finish();
    else socket.write(bytes, finish);
    return end !== "keep";
}

async function listen(host, answerOf) {
    const server = net.createServer({ noDelay: true }, (socket) => serve(socket, answerOf));
    await new Promise((resolve, reject) => server.once("error", reject).listen(0, host, 511, resolve));
    return `http://${host}:${server.address().port}/`;
}

const accept = () => ({ bytes: noContent, end: "keep" });
const anything = (id) => isHealthy(seed, id) ? accept() : answerFor(seed, id);
const urls = { url: await listen("127.0.0.1", accept), healthy: [await listen("127.0.0.1", accept)], clear: [], unclear: [] };
for (const sort of ["clear", "unclear"])
    for (let i = 1; i <= hosts; i++) urls[sort].push(await listen(`127.0.1.${i}`, anything));
process.stdout.write(JSON.stringify(urls) + "\n");
process.stdin.on("end", () => process.exit(0)).resume(); // with whoever started it

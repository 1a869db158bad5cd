//
// watch.mjs - prints each event of the demonstration as it arrives
//
//     node watch.mjs LOGFILE END COUNT PSQL [ARGUMENT...]
//
// Follows the receiver's log until a file named END exists and everything logged
// is printed; fails if that is not COUNT events.  The rest is the psql command
// that connects to the database.
//
// "commit to arrival" is the receiver's clock when the whole request was there,
// minus the time that PostgreSQL itself noted for the commit of the transaction
// that wrote the event (track_commit_timestamp).  Both are this machine's
// clock.  PostgreSQL notes the time just before it flushes the commit to disk,
// so the flush is included.

import { spawn } from "node:child_process";
import fs from "node:fs";
import readline from "node:readline";

const [logFile, endFile, count, psql, ...psqlArguments] = process.argv.slice(2);
const database = spawn(psql, [...psqlArguments, "-XAtq", "-v", "ON_ERROR_STOP=1"],
    { stdio: ["pipe", "pipe", "inherit"] });
const answers = readline.createInterface({ input: database.stdout })[Symbol.asyncIterator]();
const latencies = [];

database.on("exit", (code) => {
    if (code !== 0) process.exit(1);
});

async function about(eventId) {
    // An id is checked before it goes into SQL: it came over the network.
    if (!/^\w+$/.test(eventId)) throw new Error(`not an event id: ${eventId}`);
    database.stdin.write(`
        SELECT json_build_object(
            'committedAt', extract(epoch FROM pg_xact_commit_timestamp(e.xmin)) * 1000,
            'name', coalesce(l.variables->>'first_name', '-'))
          FROM osmtalk.events e LEFT JOIN osmtalk.leads l ON l.id = e.lead_id
         WHERE e.id = '${eventId}';\n`);
    const { value } = await answers.next();
    return JSON.parse(value);
}

function print(columns) {
    const [event, name, phone, status, disposition, attempts, signature, latency] = columns.map(String);
    console.log([
        event.padEnd(23), name.padEnd(8), phone.padEnd(14), status.padEnd(11), disposition.padEnd(14),
        attempts.padStart(8), signature.padEnd(9), latency.padStart(17),
    ].join("  "));
}

async function printEvent(line) {
    const entry = JSON.parse(line);
    const { committedAt, name } = await about(entry.eventId);
    const latency = entry.arrivedAt - committedAt;
    latencies.push(latency);
    print([
        entry.event, name, entry.phoneNumber, entry.status, entry.disposition ?? "-", entry.attempts ?? "-",
        entry.verified ? "verified" : "NOT VALID", latency.toFixed(1) + " ms",
    ]);
}

// latin1 keeps a character that straddles two reads from being mangled into an
// error; what is printed of a line is ASCII, or comes from the database.
async function* follow(file) {
    const fd = fs.openSync(file, "r");
    const buffer = Buffer.alloc(1 << 16);
    let rest = "";
    for (;;) {
        // before reading: what was logged before the end is then read for sure
        const ended = fs.existsSync(endFile);
        const length = fs.readSync(fd, buffer);
        if (length === 0) {
            if (ended) return;
            await new Promise((resolve) => setTimeout(resolve, 10));
            continue;
        }
        const lines = (rest + buffer.toString("latin1", 0, length)).split("\n");
        rest = lines.pop();
        yield* lines;
    }
}

print(["event", "lead", "phone", "status", "disposition", "attempts", "signature", "commit to arrival"]);
for await (const line of follow(logFile)) await printEvent(line);
database.stdin.end();

if (latencies.length > 0) {
    latencies.sort((a, b) => a - b);
    console.log(`\n${latencies.length} events; commit to arrival: median ` +
        `${latencies[latencies.length >> 1].toFixed(1)} ms, longest ${latencies.at(-1).toFixed(1)} ms`);
}
if (latencies.length !== Number(count)) {
    console.error(`${latencies.length} of ${count} events arrived`);
    process.exitCode = 1;
}

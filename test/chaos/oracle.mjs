//
// oracle.mjs - what the database has against what the receiver noted
//

import fs from "node:fs";

// { at, id, hash, signature, verdict } for each request, in the order in which they came.
export function readLedger(file) {
    return fs.readFileSync(file, "utf8").split("\n").filter((line) => line !== "").map((line) => {
        const [at, id, hash, signature, verdict] = line.split(" ");
        return { at: Number(at), id, hash, signature, verdict };
    });
}

/*
 * Lost: an outcome without its event, or an event without a request.
 * Phantom: a request for an event that the database does not have, or any
 * trace of what was taken back.
 */
export async function judge({ cluster, ledger, outcomes, crashes }) {
    const rows = async (sql) => (await cluster.sql(sql)).split("\n").filter((line) => line !== "").map((line) => line.split("\t"));
    const events = new Map((await rows("SELECT id, encode(sha256(convert_to(body, 'UTF8')), 'hex') FROM osmtalk.events")));
    const requests = new Map();
    for (const entry of ledger) requests.set(entry.id, [...requests.get(entry.id) ?? [], entry]);

    const present = new Set((await rows("SELECT DISTINCT regexp_replace(id, '[0-9]+$', '') FROM osmtalk.leads")).map(([id]) => id));
    const result = {
        calls: await cluster.number("SELECT count(*) FROM osmtalk.calls"),
        events: events.size,
        requests: ledger.length,
        waiting: await cluster.number("SELECT count(*) FROM osmtalk.outbox"),
        lostTransactions: outcomes.confirmed.filter((prefix) => !present.has(prefix)).length,
        // a call that ended decides its lead, and that is an event, once
        lostOutcomes: await cluster.number(`
            SELECT count(*) FROM osmtalk.calls c
              LEFT JOIN (SELECT call_id, count(*) AS n FROM osmtalk.events GROUP BY call_id) e ON e.call_id = c.id
             WHERE c.ended_at IS NOT NULL AND e.n IS DISTINCT FROM 1`),
        lostEvents: [...events.keys()].filter((id) => !requests.has(id)).length,
        withoutResult: await cluster.number(`
            SELECT count(*) FROM osmtalk.events e
             WHERE NOT EXISTS (SELECT FROM osmtalk.delivery_attempts a WHERE a.event_id = e.id AND a.error IS DISTINCT FROM
                'no result: the worker ended before there was one; the request may have been made, it is made again')`),
        phantoms: [...requests.keys()].filter((id) => !events.has(id)).length,
        takenBack: outcomes.takenBack.filter((prefix) => present.has(prefix)).length,
        differentBodies: ledger.filter(({ id, hash }) => events.has(id) && events.get(id) !== hash).length,
        badSignatures: ledger.filter(({ signature }) => signature !== "good").length,
        duplicates: ledger.length - requests.size,
    };

    // What was sent and not recorded when a worker ended is sent again: once for each end.
    result.unexplained = 0;
    result.strange = []; // when, and how they were answered
    result.perCrash = crashes.map(() => 0);
    for (const entries of requests.values())
        for (let i = 1; i < entries.length; i++) {
            const crash = crashes.findIndex(({ from, end }) => end >= entries[i - 1].at && from <= entries[i].at);
            if (crash < 0) {
                result.unexplained++;
                result.strange.push(entries.map(({ at, verdict }) => `${at} ${verdict}`).join(", "));
            }
            else result.perCrash[crash]++;
        }
    result.mostPerCrash = Math.max(0, ...result.perCrash);
    return result;
}

//
// oracle.mjs - what the database has against what the receiver noted
//
// After each fault what came since the last time is judged, as far as that is
// cheap, so that what is wrong names its fault; at the end, everything.

import fs from "node:fs";

export class Ledger {
    constructor(file) {
        this.entries = []; // { at, id, hash, signature, verdict } for each request, in the order in which they came
        this.file = fs.openSync(file, "a+");
        this.rest = "";
        this.buffer = Buffer.alloc(1 << 20);
    }

    // What has come since, which is added to the entries.
    readOn() {
        const from = this.entries.length;
        for (;;) {
            const length = fs.readSync(this.file, this.buffer, 0, this.buffer.length, null);
            if (length === 0) return this.entries.slice(from);
            const lines = (this.rest + this.buffer.toString("latin1", 0, length)).split("\n");
            this.rest = lines.pop();
            for (const line of lines) {
                const [at, id, hash, signature, verdict] = line.split(" ");
                this.entries.push({ at: Number(at), id, hash, signature, verdict });
            }
        }
    }
}

// A request that came while the receiver waited for its disk is noted so much later.
const lag = 250;

const eventColumns = "id, encode(sha256(convert_to(body, 'UTF8')), 'hex')";
const list = (strings) => `'{${strings.filter((s) => /^\w+$/.test(s)).join(",")}}'::text[]`;

// What came since the last time, and what the writers know since then.
export class Watch {
    constructor({ cluster, ledger, writers }) {
        Object.assign(this, { cluster, ledger, writers });
        this.seen = writers.map(() => ({ confirmed: 0, takenBack: 0 }));
    }

    fresh(kind) {
        return this.writers.flatMap(({ outcomes }, i) => {
            const fresh = outcomes[kind].slice(this.seen[i][kind]);
            this.seen[i][kind] += fresh.length;
            return fresh.map(({ prefix }) => prefix);
        });
    }

    // In words, what is wrong.
    async look() {
        const requests = this.ledger.readOn();
        const ids = [...new Set(requests.map(({ id }) => id))];
        // each prefix has a lead of number 0
        const leads = (prefixes, not) => this.cluster.numberOf(`SELECT count(*) FROM unnest(${list(prefixes)}) p
            WHERE ${not} EXISTS (SELECT FROM osmtalk.leads l WHERE l.id = p || '0')`);
        const lost = await leads(this.fresh("confirmed"), "NOT");
        const takenBack = await leads(this.fresh("takenBack"), "");
        const events = new Map(await this.cluster.rows(`SELECT ${eventColumns} FROM osmtalk.events WHERE id = ANY (${list(ids)})`));
        const found = {
            "confirmed transactions lost": lost,
            "traces of what was taken back": takenBack,
            "phantom requests": ids.filter((id) => !events.has(id)).length,
            "bodies that differ": requests.filter(({ id, hash }) => events.has(id) && events.get(id) !== hash).length,
            "bad signatures": requests.filter(({ signature }) => signature !== "good").length,
        };
        return Object.entries(found).filter(([, n]) => n > 0).map(([what, n]) => `${n} ${what}`);
    }
}

/*
 * Lost: an outcome without its event, or an event without a request.
 * Phantom: a request for an event that the database does not have, or any
 * trace of what was taken back.
 */
export async function judge({ cluster, ledger, outcomes, crashes }) {
    const entries = ledger.entries;
    const events = new Map();
    const leadOf = new Map();
    for (const [id, hash, lead] of await cluster.rows(`SELECT ${eventColumns}, coalesce(lead_id, '') FROM osmtalk.events`)) {
        events.set(id, hash);
        leadOf.set(id, lead);
    }
    const requests = new Map();
    for (const entry of entries)
        if (requests.has(entry.id)) requests.get(entry.id).push(entry);
        else requests.set(entry.id, [entry]);

    const present = new Set((await cluster.rows("SELECT DISTINCT regexp_replace(id, '[0-9]+$', '') FROM osmtalk.leads")).map(([prefix]) => prefix));
    const result = {
        calls: await cluster.numberOf("SELECT count(*) FROM osmtalk.calls"),
        events: events.size,
        requests: entries.length,
        waiting: await cluster.numberOf("SELECT count(*) FROM osmtalk.outbox"),
        lostTransactions: outcomes.confirmed.filter(({ prefix }) => !present.has(prefix)).length,
        // a call that ended decides its lead, and that is an event, once
        lostOutcomes: await cluster.numberOf(`
            SELECT count(*) FROM osmtalk.calls c
              LEFT JOIN (SELECT call_id, count(*) AS n FROM osmtalk.events GROUP BY call_id) e ON e.call_id = c.id
             WHERE c.ended_at IS NOT NULL AND e.n IS DISTINCT FROM 1`),
        lostEvents: [...events.keys()].filter((id) => !requests.has(id)).length,
        withoutResult: await cluster.numberOf(`
            SELECT count(*) FROM osmtalk.events e
             WHERE NOT EXISTS (SELECT FROM osmtalk.delivery_attempts a WHERE a.event_id = e.id AND a.error IS DISTINCT FROM
                'no result: the worker ended before there was one; the request may have been made, it is made again')`),
        phantoms: [...requests.keys()].filter((id) => !events.has(id)).length,
        takenBack: outcomes.takenBack.filter(({ prefix }) => present.has(prefix)).length,
        differentBodies: entries.filter(({ id, hash }) => events.has(id) && events.get(id) !== hash).length,
        badSignatures: entries.filter(({ signature }) => signature !== "good").length,
        duplicates: entries.length - requests.size,
        delays: delays({ requests, leadOf, confirmed: outcomes.confirmed }),
    };

    // What was sent and not recorded when a worker ended is sent again: once for each end.
    result.unexplained = 0;
    result.strange = []; // when, and how they were answered
    result.perCrash = crashes.map(() => 0);
    for (const entries of requests.values())
        for (let i = 1; i < entries.length; i++) {
            const crash = crashes.findIndex(({ from, end }) => end + lag >= entries[i - 1].at && from <= entries[i].at);
            if (crash < 0) {
                result.unexplained++;
                result.strange.push(entries.map(({ at, verdict }) => `${at} ${verdict}`).join(", "));
            }
            else result.perCrash[crash]++;
        }
    result.mostPerCrash = Math.max(0, ...result.perCrash);
    return result;
}

// Seconds from when a writer knew of its commit until the event's first request, in order.
function delays({ requests, leadOf, confirmed }) {
    const known = new Map(confirmed.map(({ prefix, at }) => [prefix, at]));
    const result = [];
    for (const [id, [first]] of requests) {
        const at = known.get(leadOf.get(id)?.replace(/\d+$/, ""));
        if (at !== undefined) result.push(Math.max(0, first.at - at) / 1000);
    }
    return result.sort((a, b) => a - b);
}

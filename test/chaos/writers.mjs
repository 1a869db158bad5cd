//
// writers.mjs - sessions of the application, which place calls and end them
//
// Each writes in every way that there is, and notes what became of it as far
// as it can know: a commit that was confirmed, one that was taken back, or one
// whose confirmation a fault kept from it.

import { sleep, start } from "../bench/process.mjs";
import { Random } from "./random.mjs";

const ways = { single: 30, batch: 15, copy: 15, savepoint: 12, rollback: 10, prepared: 8, asynchronous: 10 };
const mark = "\x1edone";

// A psql whose connection may go at any time.
class Connection {
    constructor(psql, conninfo) {
        this.answer = "";
        this.child = start(psql, ["-X", "-A", "-t", "-v", "ON_ERROR_STOP=0", "-d", conninfo],
            { stdio: ["pipe", "pipe", "ignore"] });
        this.child.stdin.on("error", () => {});
        this.child.stdout.setEncoding("utf8").on("data", (data) => {
            this.answer += data;
            if (this.answer.includes(mark)) this.resolve?.(this.answer);
        });
        this.child.ended.then(() => { this.gone = true; this.resolve?.(null); });
    }

    // The command tags; null if the connection was lost on the way.
    send(sql) {
        if (this.gone) return Promise.resolve(null);
        this.answer = "";
        return new Promise((resolve) => {
            this.resolve = resolve;
            this.child.stdin.write(`${sql}\n\\echo ${mark}\n`);
        });
    }
}

export class Writer {
    // conninfo() says where the database is now
    constructor({ psql, conninfo, seed, number, campaigns, rate }) {
        Object.assign(this, { psql, conninfo, number, campaigns, rate });
        this.random = new Random(seed, `writer ${number}`);
        this.stopping = false;
        this.transactions = 0;
        this.outcomes = { confirmed: [], takenBack: [], unknown: [] }; // { prefix: of the leads' ids, at }
        this.counts = Object.fromEntries(Object.keys(ways).map((way) => [way, 0]));
        this.calls = 0;
    }

    // SQL that places calls of new leads and ends them, all or most in the same transaction.
    sqlOfCalls(prefix, count, way) {
        const campaign = this.campaigns[this.random.integer(0, this.campaigns.length - 1)];
        const ended = this.random.pick({
            "answered_at = now() - interval '1 min', ended_at = now(), sip_status_code = 200": 6,
            "ended_at = now(), sip_status_code = 486": 1,
            "ended_at = now(), error = 'network'": 1,
            "answered_at = now() - interval '9 s', ended_at = now(), voicemail_detected = true": 1,
        });
        this.calls += count;
        if (way === "copy") {
            const leads = Array.from({ length: count }, (_, i) => `${prefix}${i}\t${campaign}\t+919876543210`).join("\n");
            const calls = Array.from({ length: count }, (_, i) =>
                `${prefix}${i}\t${prefix}${i}\t2026-01-01 10:00:00+00\t2026-01-01 10:00:05+00\t2026-01-01 10:01:00+00\t200`).join("\n");
            return `COPY osmtalk.leads (id, campaign_id, phone_number) FROM stdin;\n${leads}\n\\.\n` +
                `COPY osmtalk.calls (id, lead_id, started_at, answered_at, ended_at, sip_status_code) FROM stdin;\n${calls}\n\\.\n`;
        }
        return `INSERT INTO osmtalk.leads (id, campaign_id, phone_number)
                SELECT '${prefix}' || i, '${campaign}', '+919876543210' FROM generate_series(0, ${count - 1}) i;
            INSERT INTO osmtalk.calls (id, lead_id, started_at)
                SELECT '${prefix}' || i, '${prefix}' || i, now() FROM generate_series(0, ${count - 1}) i;
            UPDATE osmtalk.calls SET ${ended} WHERE id IN (SELECT '${prefix}' || i FROM generate_series(0, ${count - 1}) i);\n`;
    }

    // { sql, end, kept, dropped }: what is said, and a little later, if so; prefixes that are to be there if it
    // commits, and those that never are.
    transaction(way) {
        const prefix = `w${this.number}_${this.transactions++}_`;
        const few = () => this.random.integer(1, 5);
        const { random } = this;
        switch (way) {
            case "batch":
                return { sql: `BEGIN; ${this.sqlOfCalls(prefix, random.integer(10, 100), way)} COMMIT;`, kept: [prefix], dropped: [] };
            case "copy":
                return { sql: `BEGIN;\n${this.sqlOfCalls(prefix, random.integer(1, 50), way)}COMMIT;`, kept: [prefix], dropped: [] };
            case "savepoint":
                return {
                    sql: `BEGIN; ${this.sqlOfCalls(`${prefix}a_`, few(), way)} SAVEPOINT s; ${this.sqlOfCalls(`${prefix}b_`, few(), way)}
                        ROLLBACK TO s; ${this.sqlOfCalls(`${prefix}c_`, few(), way)} SAVEPOINT t; ${this.sqlOfCalls(`${prefix}d_`, few(), way)}
                        RELEASE t; COMMIT;`,
                    kept: ["a", "c", "d"].map((part) => `${prefix}${part}_`), dropped: [`${prefix}b_`],
                };
            case "rollback":
                return { sql: `BEGIN; ${this.sqlOfCalls(prefix, few(), way)} ROLLBACK;`, kept: [], dropped: [prefix] };
            case "prepared": {
                const commits = random.chance(0.7);
                return {
                    sql: `BEGIN; ${this.sqlOfCalls(prefix, few(), way)} PREPARE TRANSACTION '${prefix}';`,
                    end: `${commits ? "COMMIT" : "ROLLBACK"} PREPARED '${prefix}';`,
                    kept: commits ? [prefix] : [], dropped: commits ? [] : [prefix],
                };
            }
            case "asynchronous":
                return {
                    sql: `BEGIN; SET LOCAL synchronous_commit = off; ${this.sqlOfCalls(prefix, few(), way)} COMMIT;`,
                    kept: [prefix], dropped: [], uncertain: true,
                };
            default:
                return { sql: `BEGIN; ${this.sqlOfCalls(prefix, 1, way)} COMMIT;`, kept: [prefix], dropped: [] };
        }
    }

    async run() {
        let connection = null;
        while (!this.stopping) {
            if (connection === null || connection.gone) {
                connection = new Connection(this.psql, this.conninfo());
                if (await connection.send("SELECT 1;") === null) {
                    await sleep(20);
                    continue;
                }
            }
            const way = this.random.pick(ways);
            const before = this.calls;
            const { sql, end, kept, dropped, uncertain } = this.transaction(way);
            let answer = await connection.send(sql);
            if (end !== undefined && answer !== null) {
                await sleep(this.random.between(0, 100));
                answer = await connection.send(end);
            }
            const tags = answer === null ? [] : answer.trim().split("\n").filter((line) => /^[A-Z]+( PREPARED)?$/.test(line));
            const done = tags.at(-1)?.startsWith("COMMIT") ?? false;
            this.counts[way]++;
            // of one in two phases nothing is known until it is said
            const note = (outcome, prefixes) => outcome.push(...prefixes.map((prefix) => ({ prefix, at: Date.now() })));
            if (way !== "prepared" || tags.at(-1) === "ROLLBACK PREPARED") note(this.outcomes.takenBack, dropped);
            if (done && !uncertain) note(this.outcomes.confirmed, kept);
            // an answer without a commit: an error took it back
            else if (answer !== null && !done && way !== "prepared") note(this.outcomes.takenBack, kept);
            else note(this.outcomes.unknown, kept);
            // at an even pace, whatever the server does
            await sleep((this.calls - before) / this.rate * 1000 * this.random.between(0.5, 1.5));
        }
        connection?.child.stdin.end();
        await connection?.child.ended;
    }
}

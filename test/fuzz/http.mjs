//
// http.mjs - cases for the worker: receivers that answer anything
//
// What an event is answered follows from the seed and its id, so that the
// receiver and the judge agree without talking.  Where readers may differ of
// what an answer is, and where it ends, the next request on that connection
// may see the rest: such answers have endpoints of their own.
//

import crypto from "node:crypto";
import net from "node:net";

import { Session } from "../bench/server.mjs";
import { Random } from "../chaos/random.mjs";
import { Answers } from "./answers.mjs";
import { signature } from "./contract.mjs";
import { objects } from "./sql.mjs";

const hosts = 60; // each with an endpoint for answers that are clear and one for others
const healthyPart = 0.05;
const secret = "whsec_of_the_fuzzer";

export class HttpCases {
    constructor({ database, seed, report }) {
        Object.assign(this, { database, seed, report, number: 0 });
        this.counts = { cases: 0, kinds: {}, healthy: 0 };
        this.posts = new Map();
    }

    answerFor(id) { return new Answers(new Random(this.seed, id)).make(); }
    isHealthy(id) { return new Random(this.seed, `healthy ${id}`).chance(healthyPart); }

    // ---- receivers ----

    async listen() {
        this.ports = {};
        for (const kind of ["clear", "unclear", "healthy"]) {
            let port = 0;
            for (let host = 1; host <= (kind === "healthy" ? 1 : hosts); host++) {
                const server = net.createServer({ noDelay: true }, (socket) => this.serve(socket));
                server.unref();
                // the same port on each address, if it is free there
                await new Promise((resolve, reject) => server.once("error", reject).listen(port, `127.0.1.${host}`, 511, resolve));
                (this.ports[kind] ??= []).push(`http://127.0.1.${host}:${server.address().port}/`);
                port = 0;
            }
        }
    }

    serve(socket) {
        let data = Buffer.alloc(0);
        let busy = false;
        socket.on("error", () => {});
        socket.on("data", (chunk) => {
            data = Buffer.concat([data, chunk]);
            const end = data.indexOf("\r\n\r\n");
            if (end < 0 || busy) return;
            const head = data.subarray(0, end).toString("latin1");
            const length = Number(head.match(/^content-length: *(\d+)/im)?.[1] ?? 0);
            if (data.length < end + 4 + length) return;
            const body = data.subarray(end + 4, end + 4 + length);
            data = data.subarray(end + 4 + length);
            const id = head.match(/^x-osmtalk-event-id: *(\S+)/im)?.[1] ?? "?";
            this.posts.set(id, (this.posts.get(id) ?? 0) + 1);
            if (head.match(/^x-osmtalk-signature: *(\S+)/im)?.[1] !== signature(body, secret)) this.report("a request's signature", { id, head });
            const answer = this.isHealthy(id) ? { bytes: Buffer.from("HTTP/1.1 204 No Content\r\n\r\n"), end: "keep" } : this.answerFor(id);
            busy = answer.end === "hang" || answer.end === "close";
            const finish = () => {
                if (answer.end === "close") socket.end();
                else if (answer.end === "reset") socket.resetAndDestroy();
            };
            if (answer.bytes.length === 0) finish();
            else socket.write(answer.bytes, finish);
        });
    }

    async configure() {
        await this.listen();
        this.session = await Session.open(this.database);
        await this.session.query(`INSERT INTO osmtalk.org_settings VALUES ('answers', NULL, '${secret}');
            INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_url) VALUES ${Object.entries(this.ports).flatMap(([kind, urls]) =>
                urls.map((url, i) => `('${kind}${i}', 'answers', 'x', '${url}')`)).join()}`);
    }

    // ---- cases ----

    async batch(size) {
        const ids = Array.from({ length: size }, () => `f${this.number++}`);
        const rows = ids.map((id, i) => {
            const kind = this.isHealthy(id) ? "healthy" : this.answerFor(id).expect.any ? "unclear" : "clear";
            return { id, campaign: kind === "healthy" ? "healthy0" : `${kind}${i % hosts}` };
        });
        await this.session.query(`WITH e AS (
                INSERT INTO osmtalk.events (id, type, org_id, campaign_id, body)
                SELECT c.id, 'campaign.lead_completed', 'answers', c.campaign, '{"id":"' || c.id || '"}' FROM json_to_recordset('${JSON.stringify(rows)}') AS c (id text, campaign text)
                RETURNING id, campaign_id)
            INSERT INTO osmtalk.outbox (event_id, endpoint_hash) SELECT e.id, osmtalk.endpoint_hash(c.webhook_url) FROM e JOIN osmtalk.campaigns c ON c.id = e.campaign_id`);
        if (await this.session.value("SELECT osmtalk.wait_until_drained('300 s')") !== "t") this.report("answers that are not dealt with", {});
        const found = new Map((await objects(this.session, `json_build_object('id', e.id, 'attempts', (
                SELECT json_agg(json_build_object('attempt', a.attempt, 'status', a.http_status, 'error', a.error, 'body', a.response_body, 'ms', a.duration_ms))
                  FROM osmtalk.delivery_attempts a WHERE a.event_id = e.id))`,
        `FROM osmtalk.events e WHERE e.id IN (SELECT json_array_elements_text('${JSON.stringify(ids)}'))`)).map((row) => [row.id, row.attempts ?? []]));
        for (const id of ids) this.judge(id, found.get(id) ?? []);
        this.counts.cases += size;
    }

    judge(id, attempts) {
        const healthy = this.isHealthy(id);
        const answer = healthy ? { kind: "healthy", expect: { status: 204, body: "" } } : this.answerFor(id);
        const [attempt] = attempts;
        const wrong = (what) => this.report(`an answer (${answer.kind}): ${what}`, { id, attempts, posts: this.posts.get(id), expect: answer.expect, end: answer.end,
            answer: answer.bytes?.subarray(0, 400).toString("latin1") });

        this.counts.kinds[answer.kind] = (this.counts.kinds[answer.kind] ?? 0) + 1;
        if (attempts.length !== 1) return wrong(`${attempts.length} attempts`);
        if (this.posts.get(id) !== 1 && !answer.expect.any) wrong("not one request");
        this.posts.delete(id);
        const success = attempt.status >= 200 && attempt.status <= 299;
        if ((attempt.error === null) !== success) wrong("the attempt contradicts itself");
        if (attempt.status !== null && (attempt.status < 100 || attempt.status > 999)) wrong("a status that there is not");
        if (Buffer.byteLength(attempt.body ?? "") > 1024) wrong("too much is kept of it");
        if (answer.expect.error && attempt.status !== null) wrong("taken for an answer");
        if (answer.expect.status !== undefined && attempt.status !== answer.expect.status) wrong("the status");
        else if (answer.expect.body !== undefined && (attempt.body ?? "") !== answer.expect.body) wrong("what is kept of it");
    }
}

//
// http.mjs - cases for the worker: receivers that answer anything
//
// Where readers may differ of what an answer is, and where it ends, the next
// request on that connection may see the rest: such answers have endpoints of
// their own.
//

import crypto from "node:crypto";

import { Session } from "../bench/server.mjs";
import { answerFor, isHealthy } from "./answers.mjs";
import { signature } from "./contract.mjs";
import { objects } from "./sql.mjs";

const secret = "whsec_of_the_fuzzer";
const bodyOf = (id) => `{"id":"${id}"}`;

export class HttpCases {
    constructor({ database, seed, urls, received, report }) {
        Object.assign(this, { database, seed, urls, received, report, number: 0 });
        this.counts = { cases: 0, kinds: {} };
    }

    async configure() {
        this.session = await Session.open(this.database);
        await this.session.query(`INSERT INTO osmtalk.org_settings VALUES ('answers', NULL, '${secret}');
            INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_url) VALUES ${["clear", "unclear", "healthy"].flatMap((sort) =>
                this.urls[sort].map((url, i) => `('${sort}${i}', 'answers', 'x', '${url}')`)).join()}`);
    }

    // ---- cases ----

    async batch(size) {
        const ids = Array.from({ length: size }, () => `f${this.number++}`);
        const rows = ids.map((id, i) => {
            const sort = isHealthy(this.seed, id) ? "healthy" : answerFor(this.seed, id).expect.any ? "unclear" : "clear";
            return { id, campaign: `${sort}${i % this.urls[sort].length}`, body: bodyOf(id) };
        });
        await this.session.query(`WITH e AS (
                INSERT INTO osmtalk.events (id, type, org_id, campaign_id, body)
                SELECT c.id, 'campaign.lead_completed', 'answers', c.campaign, c.body FROM json_to_recordset('${JSON.stringify(rows)}') AS c (id text, campaign text, body text)
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
        const answer = isHealthy(this.seed, id) ? { kind: "healthy", expect: { status: 204, body: "" } } : answerFor(this.seed, id);
        const [attempt] = attempts;
        const posts = this.received.get(id) ?? [];
        this.received.delete(id);
        const wrong = (what) => this.report(`an answer (${answer.kind}): ${what}`, { id, attempts, posts, expect: answer.expect, end: answer.end,
            answer: answer.bytes?.subarray(0, 400).toString("latin1") });

        this.counts.kinds[answer.kind] = (this.counts.kinds[answer.kind] ?? 0) + 1;
        if (attempts.length !== 1) return wrong(`${attempts.length} attempts`);
        if (posts.length !== 1 && !answer.expect.any) wrong("not one request");
        for (const post of posts)
            if (post.sha256 !== crypto.createHash("sha256").update(bodyOf(id)).digest("hex") || post.signature !== signature(bodyOf(id), secret)) wrong("the request");
        const success = attempt.status >= 200 && attempt.status <= 299;
        if ((attempt.error === null) !== success) wrong("the attempt contradicts itself");
        if (attempt.status !== null && (attempt.status < 100 || attempt.status > 999)) wrong("a status that there is not");
        if (Buffer.byteLength(attempt.body ?? "") > 1024) wrong("too much is kept of it");
        if (answer.expect.error && attempt.status !== null) wrong("taken for an answer");
        if (answer.expect.status !== undefined && attempt.status !== answer.expect.status) wrong("the status");
        else if (answer.expect.body !== undefined && (attempt.body ?? "") !== answer.expect.body) wrong("what is kept of it");
    }
}

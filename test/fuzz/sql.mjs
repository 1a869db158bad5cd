//
// sql.mjs - cases for the database: calls as applications write them, and what came of them
//
// Many cases share a transaction.  If one makes it fail they are tried one by
// one, so that the culprit is named.
//

import crypto from "node:crypto";

import { Session } from "../bench/server.mjs";
import { compact, spaced } from "./json.mjs";
import * as contract from "./contract.mjs";

const literal = (text) => `'${text.replaceAll("'", "''")}'`;
const json = (value) => literal(JSON.stringify(value));

// JSON from each row.  In hex, for psql leaves out characters that it cannot show.
export async function objects(session, expression, from) {
    const rows = await session.rows(`SELECT encode(convert_to((${expression})::text, 'UTF8'), 'hex') ${from}`);
    return rows.map(([hex]) => JSON.parse(Buffer.from(hex, "hex").toString()));
}

const nodes = ["analysis", "metadata", "dynamic_variables"];
const columns = ["started_at", "answered_at", "ended_at", "sip_status_code", "voicemail_detected", "error", "analysis", "analysis_error",
    "transcript", "metadata", "dynamic_variables"];
const types = { started_at: "timestamptz", answered_at: "timestamptz", ended_at: "timestamptz", sip_status_code: "int", voicemail_detected: "boolean",
    analysis: "jsonb", metadata: "jsonb", dynamic_variables: "jsonb" };
const recordset = (names) => names.map((name) => `${name} text`).join(", ");

// A time as PostgreSQL reads it, whatever the session's settings.
function written(time) {
    if (typeof time !== "bigint") return time;
    const [, sign, year, rest] = contract.iso(time).match(/^([+-]?)(\d+)(-.*)\.\d+Z$/);
    const microseconds = String(((time % 1_000_000n) + 1_000_000n) % 1_000_000n).padStart(6, "0");
    const bc = sign === "-" || Number(year) === 0;
    return `${String(bc ? Number(year) + 1 : Number(year)).padStart(4, "0")}${rest}.${microseconds}Z${bc ? " BC" : ""}`;
}

const sessionSettings = {
    timezone: ["UTC", "Asia/Kolkata", "America/St_Johns", "Antarctica/Troll", "-13:45"],
    datestyle: ["ISO, YMD", "German", "SQL, DMY", "Postgres, MDY"],
    intervalstyle: ["postgres", "sql_standard", "iso_8601", "postgres_verbose"],
    extra_float_digits: ["-15", "0", "3"],
    bytea_output: ["hex", "escape"],
    quote_all_identifiers: ["on", "off"],
    transform_null_equals: ["on", "off"],
    plan_cache_mode: ["auto", "force_generic_plan", "force_custom_plan"],
    max_stack_depth: ["2MB", "500kB"],
    default_transaction_isolation: ["read committed", "repeatable read", "serializable"],
    search_path: ["public", "osmtalk", "pg_catalog", ""],
};

export class SqlCases {
    constructor({ cluster, database, generator, urls, report }) {
        Object.assign(this, { cluster, database, generator, urls, report, random: generator.random, number: 0 });
        this.counts = { cases: 0, events: 0, truncated: 0, functions: 0 };
        this.bodies = new Map(); // what an event's receiver has to see
    }

    // ---- what is configured ----

    async configure() {
        const g = this.generator;
        this.session = await Session.open(this.database);
        this.base = BigInt(await this.session.value("SELECT (extract(epoch FROM now()) * 1000000)::bigint"));
        const agents = { plain: { sentiment: false, success: false, post: null }, sentiment: { sentiment: true, success: false, post: null } };
        for (let i = 0; i < 30; i++)
            agents[`agent${i}`] = { sentiment: this.random.chance(0.2), success: this.random.chance(0.2), post: g.maybe(0.9, () => g.node(2)) };
        for (const [i, schema] of ["[]", "{}", "[1]", "{\"a\":1}", "null", "1", "\"x\""].entries())
            for (const enabled of ["", "\"enabled\":false,", "\"enabled\":true,", "\"enabled\":null,", "\"enabled\":\"false\","])
                agents[`schema${i}${enabled.replace(/\W/g, "")}`] = { sentiment: false, success: false, post: parse(JSON.parse(`{${enabled}"schema":${schema}}`)) };
        const statuses = ["failed", "no_answer", "busy", "voicemail"];
        const campaigns = {};
        for (let i = 0; i < 40; i++)
            campaigns[`cmp${i}`] = { id: `cmp${i}`, name: g.text(60), agent: g.maybe(0.9, () => g.one(Object.keys(agents))),
                maxAttempts: g.one([1, 1, 2, 3]), retryOn: i === 0 ? ["failed"] : statuses.filter(() => this.random.chance(0.4)),
                url: g.one(this.urls), secret: g.maybe(0.8, () => g.secret()) };
        const listed = new Set(Array.from({ length: 20 }, () => contract.normalizePhone(g.validPhone())));
        this.world = { org: "fuzz", agents, campaigns, listed, analysisTimeout: 2_000_000_000_000n };
        this.orgSecret = "whsec_of_the_organisation";

        await this.session.query(`
            INSERT INTO osmtalk.org_settings VALUES ('fuzz', ${literal(this.urls[0])}, ${literal(this.orgSecret)});
            INSERT INTO osmtalk.agents (id, org_id, enable_sentiment, enable_success_evaluation, post_call_analysis)
            SELECT a.id, 'fuzz', a.sentiment, a.success, a.post::jsonb
              FROM json_to_recordset(${json(Object.entries(agents).map(([id, a]) => ({ ...a, id, post: a.post && compact(a.post) })))})
                AS a (id text, sentiment boolean, success boolean, post text);
            INSERT INTO osmtalk.campaigns (id, org_id, agent_id, name, webhook_url, webhook_secret, max_attempts, retry_on)
            SELECT c.id, 'fuzz', c.agent, c.name, c.url, c.secret, c."maxAttempts", c."retryOn"::osmtalk.lead_status[]
              FROM json_to_recordset(${json(Object.values(campaigns).map((c) => ({ ...c, retryOn: `{${c.retryOn}}` })))})
                AS c (id text, agent text, name text, url text, secret text, "maxAttempts" int, "retryOn" text);
            INSERT INTO osmtalk.dnc_entries (org_id, phone_number) SELECT 'fuzz', unnest(${literal(`{${[...listed]}}`)}::text[]);
            CREATE FUNCTION public.phone_error(phone text) RETURNS text LANGUAGE plpgsql AS $$
            BEGIN
                RETURN osmtalk.normalize_phone(phone);
            EXCEPTION WHEN invalid_parameter_value THEN
                RETURN NULL;
            END $$`);
        await this.setMaxPayload(262144);
    }

    // As the session has it.
    async setMaxPayload(bytes) {
        await this.cluster.set({ "osmtalk.max_payload": bytes });
        for (let i = 0; i < 500; i++) {
            if (await this.session.number("SELECT setting FROM pg_settings WHERE name = 'osmtalk.max_payload'") === bytes) break;
            await new Promise((resolve) => setTimeout(resolve, 10));
        }
        this.world.maxPayload = bytes;
    }

    // ---- cases ----

    makeCase() {
        const g = this.generator;
        const r = this.random;
        const n = this.number++;
        // what an index can hold
        const odd = () => r.chance(0.2) ? Array.from(g.text(20)).slice(0, 400).join("") : "";
        const listedPhone = () => g.one([...this.world.listed]).replace(/^\+/, g.one(["+", "00", "+ "]));
        const lead = g.maybe(0.85, () => ({ id: `l${n}_${odd()}`, campaign: g.one(Object.keys(this.world.campaigns)),
            phone: r.chance(0.08) ? listedPhone() : g.validPhone(), variables: g.objectNode() }));
        const place = (i) => ({ place: { id: `c${n}_${i}_${odd()}`, agent: lead ? g.maybe(0.3, () => g.one(Object.keys(this.world.agents))) : g.one(Object.keys(this.world.agents)),
            direction: r.chance(0.8) ? "outbound" : g.one(["inbound", "web"]), phone: g.maybe(0.4, () => r.chance(0.1) ? listedPhone() : g.phone()),
            facts: g.facts(this.base, r.chance(0.15)) } });
        const steps = [place(0)];
        for (let i = r.integer(0, 3); i > 0; i--) {
            if (lead && r.chance(0.08) && steps.filter((step) => step.place).length < 2) steps.push(place(1));
            else if (lead && r.chance(0.08)) steps.push({ leadStatus: g.one(["pending", "calling", "completed", "failed", "busy", "no_answer", "voicemail", "dnc_blocked"]) });
            else steps.push({ call: steps.filter((step) => step.place).length > 1 && r.chance(0.5) ? 1 : 0, change: g.facts(this.base, r.chance(0.5)) });
        }
        return { lead, steps };
    }

    row(facts) {
        const row = {};
        for (const [name, value] of Object.entries(facts))
            row[name] = value === null ? null : nodes.includes(name) ? this.generator.written(value) : typeof value === "bigint" ? written(value) : value;
        return row;
    }

    // Each step of all cases is a statement; how they are written down is chosen here, once.
    statements(cases) {
        const g = this.generator;
        const list = [`INSERT INTO osmtalk.leads (id, campaign_id, phone_number, variables)
            SELECT l.id, l.campaign, l.phone, l.variables::jsonb
              FROM json_to_recordset(${json(cases.filter((c) => c.lead).map((c) => ({ ...c.lead, variables: g.written(c.lead.variables) })))})
                AS l (id text, campaign text, phone text, variables text)`];
        for (let k = 0; k < 4; k++) {
            const steps = cases.filter((c) => c.steps.length > k).map((c) => ({ theCase: c, ...c.steps[k] }));
            const places = steps.filter((step) => step.place).map(({ theCase, place }) => ({ id: place.id, lead: theCase.lead?.id ?? null, agent: place.agent,
                direction: place.direction, phone: place.phone, ...this.row(place.facts) }));
            if (places.length > 0)
                list.push(`INSERT INTO osmtalk.calls (id, org_id, lead_id, agent_id, direction, phone_number, ${columns})
                    SELECT s.id, 'fuzz', s.lead, s.agent, s.direction, s.phone, ${columns.map((name) => `s.${name}${types[name] ? `::${types[name]}` : ""}`)}
                      FROM json_to_recordset(${json(places)}) AS s (id text, lead text, agent text, direction text, phone text, ${recordset(columns)})`);
            const changes = steps.filter((step) => step.change).map(({ theCase, call, change }) => ({
                id: theCase.steps.filter((step) => step.place)[call].place.id, changed: Object.keys(change), ...this.row(change) }));
            if (changes.length > 0)
                list.push(`UPDATE osmtalk.calls c SET ${columns.map((name) =>
                    `${name} = CASE WHEN '${name}' = ANY (s.changed) THEN s.${name}${types[name] ? `::${types[name]}` : ""} ELSE c.${name} END`)}
                      FROM json_to_recordset(${json(changes)}) AS s (id text, changed text[], ${recordset(columns)}) WHERE c.id = s.id`);
            const leads = steps.filter((step) => step.leadStatus).map(({ theCase, leadStatus }) => ({ id: theCase.lead.id, status: leadStatus }));
            if (leads.length > 0)
                list.push(`UPDATE osmtalk.leads l SET status = s.status::osmtalk.lead_status
                      FROM json_to_recordset(${json(leads)}) AS s (id text, status text) WHERE l.id = s.id`);
        }
        return list;
    }

    begin() {
        return "BEGIN; " + Object.entries(sessionSettings).map(([name, values]) => {
            const value = this.generator.one(values);
            return name === "default_transaction_isolation" ? `SET TRANSACTION ISOLATION LEVEL ${value}` : `SET LOCAL ${name} = ${name === "search_path" && value !== "" ? value : literal(value)}`;
        }).join("; ");
    }

    async batch(size) {
        if (size <= 0) return;
        const cases = Array.from({ length: size }, () => this.makeCase());
        const begin = this.begin();
        const statements = this.statements(cases);
        try {
            await this.commit(begin, statements, cases);
        } catch (error) {
            await this.reconnect();
            let culprits = 0;
            for (const c of cases)
                try {
                    await this.commit(begin, this.statements([c]), [c]);
                } catch (alone) {
                    culprits++;
                    this.report("an error in the application's transaction", { error: alone.message.slice(0, 600), case: c });
                    await this.reconnect();
                }
            if (culprits === 0) this.report("an error in the application's transaction, of many cases together", { error: error.message.slice(0, 600) });
        }
    }

    async reconnect() {
        await this.session.psql.ended;
        this.session = await Session.open(this.database);
    }

    async commit(begin, statements, cases) {
        await this.session.query(begin);
        const now = BigInt(await this.session.value("SELECT (extract(epoch FROM now()) * 1000000)::bigint"));
        for (const statement of statements) await this.session.query(statement);
        await this.session.query("COMMIT");
        await this.compare(cases, now);
        this.counts.cases += cases.length;
    }

    async compare(cases, now) {
        const ids = json(cases.flatMap((c) => c.steps.filter((step) => step.place).map((step) => step.place.id)));
        const leadIds = json(cases.filter((c) => c.lead).map((c) => c.lead.id));
        const of = (expression, from) => objects(this.session, expression, from);
        const byId = (rows) => new Map(rows.map((row) => [row.id, row]));
        const calls = byId(await of("json_build_object('id', id, 'status', status, 'decided', decided_at IS NOT NULL)",
            `FROM osmtalk.calls WHERE id IN (SELECT json_array_elements_text(${ids}))`));
        const leads = byId(await of(`json_build_object('id', id, 'phone', phone_number, 'status', status, 'disposition', disposition, 'attempts', attempts,
                'callId', call_id, 'outcome', outcome::text)`,
        `FROM osmtalk.leads WHERE id IN (SELECT json_array_elements_text(${leadIds}))`));
        const events = new Map();
        for (const event of await of("json_build_object('id', id, 'type', type, 'callId', call_id, 'leadId', lead_id, 'campaignId', campaign_id, 'body', body)",
            `FROM osmtalk.events WHERE lead_id IN (SELECT json_array_elements_text(${leadIds})) OR call_id IN (SELECT json_array_elements_text(${ids}))`)) {
            const key = event.leadId ?? event.callId;
            events.set(key, [...events.get(key) ?? [], event]);
        }
        for (const c of cases) {
            const expected = contract.follow(c, { ...this.world, now });
            const key = c.lead?.id ?? c.steps[0].place.id;
            this.compareCase(c, expected, { lead: leads.get(c.lead?.id), calls, events: events.get(key) ?? [] });
        }
    }

    compareCase(c, expected, found) {
        const differ = (what, should, is) => this.report(what, { should, is, case: c });
        for (const call of expected.calls) {
            const is = found.calls.get(call.id);
            if (is?.status !== call.status) differ("a call's status", call.status, is?.status);
            // a call of no lead decides none
            if (c.lead && is?.decided !== call.decided) differ("whether a call decided its lead", call.decided, is?.decided);
        }
        if (expected.lead)
            for (const name of ["phone", "status", "disposition", "attempts", "callId", "outcome"]) {
                const should = name === "outcome" ? expected.lead.outcome && spaced(expected.lead.outcome) : expected.lead[name];
                if (should !== found.lead?.[name]) differ(`a lead's ${name}`, should, found.lead?.[name]);
            }
        const order = (a, b) => a.type < b.type ? -1 : a.type > b.type ? 1 : a.body < b.body ? -1 : 1;
        const should = [...expected.events].sort(order);
        const is = [...found.events].sort(order);
        if (should.length !== is.length) differ("how many events", should.map((e) => e.body), is.map((e) => e.body));
        else
            should.forEach((event, i) => {
                if (event.body !== is[i].body || event.type !== is[i].type || event.callId !== is[i].callId)
                    differ("an event", event, is[i]);
                this.checkBody(is[i], c);
            });
    }

    checkBody(event, c) {
        if (Buffer.byteLength(event.body) > this.world.maxPayload) this.report("a body that is too large", { size: event.body.length, case: c });
        let parsed;
        try {
            parsed = JSON.parse(event.body);
        } catch (error) {
            this.report("a body that is no JSON", { error: error.message, event, case: c });
            return;
        }
        const top = Object.keys(parsed).join();
        const keys = { "campaign.lead_completed": "event,timestamp,campaign,lead", "call.analysis_completed": "event,timestamp,call,analysis" }[event.type];
        if (top !== keys && top !== `${keys},truncated`) this.report("a body's keys", { top, case: c });
        if (parsed.truncated) this.counts.truncated++;
        this.counts.events++;
        const campaign = event.type === "campaign.lead_completed" ? this.world.campaigns[event.campaignId] : undefined;
        const secret = campaign?.secret || this.orgSecret;
        // it fails, and is not sent unsigned
        if (Buffer.byteLength(secret ?? "") > contract.longestSecret) return;
        this.bodies.set(event.id, { sha256: crypto.createHash("sha256").update(event.body).digest("hex"),
            signature: contract.signature(event.body, secret) });
    }

    // ---- functions of their arguments alone ----

    async functions(size) {
        const g = this.generator;
        const one = () => ({ phone: g.phone(), url: g.url(), body: g.text(200), secret: g.secret() });
        const list = Array.from({ length: size }, one).map((c) => ({ ...c, header: g.header(contract.signature(c.body, c.secret)),
            analysis: g.maybe(0.9, () => g.analysis()), facts: { ...g.facts(this.base, true) } }));
        const rows = list.map((c, n) => ({ n, ...c, ...this.row({ analysis: null, ...c.facts }), analysis: c.analysis && g.written(c.analysis), facts: undefined }));
        let found;
        try {
            found = await objects(this.session, `json_build_object('phone', public.phone_error(c.phone), 'url', osmtalk.is_webhook_url(c.url),
                    'endpoint', osmtalk.endpoint_hash(c.url)::text, 'signature', osmtalk.signature(c.body, c.secret), 'verifies', osmtalk.verify_signature(c.body, c.secret, c.header),
                    'disposition', osmtalk.disposition(c.analysis::jsonb), 'outcome', osmtalk.call_outcome(c.answered_at::timestamptz, c.ended_at::timestamptz,
                    c.sip_status_code::int, c.voicemail_detected::boolean, c.error))`,
            `FROM json_to_recordset(${json(rows)}) AS c (n int, phone text, url text, body text, secret text, header text, ${recordset(columns)}) ORDER BY n`);
        } catch (error) {
            this.report("an error of a function", { error: error.message.slice(0, 600) });
            await this.reconnect();
            return;
        }
        const endpoints = new Map();
        found.forEach((is, n) => {
            const c = list[n];
            const url = contract.webhookUrl(c.url);
            const should = { phone: contract.normalizePhone(c.phone), url: url !== null, signature: contract.signature(c.body, c.secret),
                verifies: contract.verifies(c.body, c.secret, c.header), disposition: contract.disposition(c.analysis),
                outcome: contract.callOutcome({ answered_at: null, sip_status_code: null, voicemail_detected: null, error: null, ...c.facts }) };
            for (const [name, value] of Object.entries(should))
                if (value !== is[name]) this.report(`the function of ${name}`, { should: value, is: is[name], case: c });
            if (url === null) return;
            // one queue for each endpoint
            const name = `${url.scheme}://${url.host}:${url.port}`;
            const other = endpoints.get(name) ?? is.endpoint;
            if (other !== is.endpoint) this.report("the endpoint of a URL", { url: c.url, name });
            endpoints.set(name, is.endpoint);
        });
        if (new Set(endpoints.values()).size !== endpoints.size) this.report("endpoints that are one", { endpoints: [...endpoints] });
        this.counts.functions += size;
    }
}

// Of plain JSON.
function parse(value) {
    if (Array.isArray(value)) return { t: "arr", items: value.map(parse) };
    if (value === null || typeof value === "boolean") return { t: String(value) };
    if (typeof value === "number") return { t: "num", text: String(value) };
    if (typeof value === "string") return { t: "str", s: value };
    return { t: "obj", entries: Object.entries(value).map(([key, item]) => [key, parse(item)]) };
}

//
// contract.mjs - what the contract says becomes of a call, written down a second time
//
// From the documented tables of outcomes, dispositions, retries, events and
// bodies, and not from the extension's sources: where both agree, the rules are
// what they are said to be.  Times are microseconds of the Unix epoch, as
// BigInt; an infinite one is "infinity" or "-infinity".
//

import crypto from "node:crypto";
import net from "node:net";

import { compact, equal, get, quote } from "./json.mjs";

const terminal = new Set(["completed", "voicemail", "no_answer", "busy", "failed", "dnc_blocked"]);
const finite = (time) => typeof time === "bigint" ? time : null;

// ---- outcomes ----

export function callOutcome({ answered_at, ended_at, sip_status_code: sip, voicemail_detected, error }) {
    const answered = finite(answered_at);
    const ended = finite(ended_at);
    if (ended === null) return null;
    if (sip === 486 || sip === 600) return "busy";
    if ([408, 480, 487].includes(sip) && answered === null) return "no_answer";
    if (error !== null) return "failed";
    if (sip !== null && sip >= 400) return "failed";
    if (voicemail_detected === true) return "voicemail";
    if (answered === null || ended - answered < 3_000_000n) return "no_answer";
    return "completed";
}

export function disposition(analysis) {
    const is = (key, t, s) => {
        const value = get(analysis, key);
        return value !== undefined && value.t === t && (s === undefined || value.s === s);
    };
    if (is("lead_qualified", "true") || is("success", "true")) return "qualified";
    if (is("next_action", "str", "not_interested")) return "not_interested";
    if (is("next_action", "str", "callback_later")) return "callback";
    return "completed";
}

export const hasAnalysis = (node) => node !== null && node.t !== "null";

export function analysisConfigured({ sentiment, success, post }) {
    if (sentiment || success) return true;
    if (post === null || get(post, "enabled")?.t === "false") return false;
    const schema = get(post, "schema");
    return schema !== undefined &&
        ((schema.t === "arr" && schema.items.length > 0) || (schema.t === "obj" && schema.entries.length > 0));
}

// ---- numbers, URLs, signatures ----

// null where the contract demands an error
export function normalizePhone(text) {
    let rest = "";
    for (const c of text) if (!" .-()".includes(c)) rest += c;
    if (rest.startsWith("00")) rest = "+" + rest.slice(2);
    if (rest[0] !== "+" || rest.length < 8 || rest.length > 16 || rest[1] === "0") return null;
    for (const c of rest.slice(1)) if (c < "0" || c > "9") return null;
    return rest;
}

// with one of more bytes nothing is sent
export const longestSecret = 8192;

// { scheme, host, port }, or null for what is no webhook URL
export function webhookUrl(url) {
    if (Buffer.byteLength(url) > 2048) return null;
    for (const c of url) if (c <= " " || c > "~" || c === "\\") return null;
    const colon = url.indexOf("://");
    const scheme = url.slice(0, Math.max(colon, 0)).toLowerCase();
    if (scheme !== "http" && scheme !== "https") return null;
    let end = colon + 3;
    while (end < url.length && !"/?#".includes(url[end])) end++;
    const authority = url.slice(colon + 3, end);
    let host = authority;
    let port = null;
    if (authority.startsWith("[")) {
        const close = authority.indexOf("]");
        if (close < 0) return null;
        host = authority.slice(0, close + 1);
        const rest = authority.slice(close + 1);
        if (rest !== "" && rest[0] !== ":") return null;
        if (rest !== "") port = rest.slice(1);
        const address = host.slice(1, -1);
        if (address === "") return null;
        for (const c of address) if (!"0123456789abcdefABCDEF:.".includes(c)) return null;
        if (!net.isIPv6(address)) return null;
    } else {
        const at = authority.indexOf(":");
        if (at >= 0) [host, port] = [authority.slice(0, at), authority.slice(at + 1)];
        const labels = host.endsWith(".") ? host.slice(0, -1) : host;
        if (labels === "" || labels.length > 253 || ".-".includes(labels[0]) || ".-".includes(labels.at(-1))) return null;
        if (labels.split(".").some((label) => label === "" || label.length > 63)) return null;
        for (const c of labels) if (!/^[A-Za-z0-9_.-]$/.test(c)) return null;
    }
    if (port !== null) {
        if (port === "") return null;
        for (const c of port) if (c < "0" || c > "9") return null;
        const significant = port.replace(/^0+/, "");
        if (significant === "" || significant.length > 5 || Number(significant) > 65535) return null;
        port = Number(significant);
    }
    return { scheme, host: host.toLowerCase(), port: port ?? (scheme === "https" ? 443 : 80) };
}

export const signature = (body, secret) => "sha256=" + crypto.createHmac("sha256", secret).update(body).digest("hex");

// the document's verifier, and an empty secret verifies nothing
export function verifies(body, secret, header) {
    if (secret === "" || !/^sha256=[0-9a-fA-F]{64}$/.test(header) || header.endsWith("\n")) return false;
    return header.slice(7).toLowerCase() === signature(body, secret).slice(7);
}

// ---- times ----

const floorDiv = (a, b) => a / b - (a % b < 0n ? 1n : 0n);

// ISO 8601 in UTC, milliseconds truncated; null for an infinite time.
export function iso(time) {
    if (finite(time) === null) return null;
    const day = 86_400_000_000n;
    const days = floorDiv(time, day);
    const inDay = time - days * day;
    // the civil calendar, by eras of 400 years from 1 March of year 0
    const shifted = days + 719_468n;
    const era = floorDiv(shifted, 146_097n);
    const doe = shifted - era * 146_097n;
    const yoe = (doe - doe / 1460n + doe / 36_524n - doe / 146_096n) / 365n;
    const doy = doe - (365n * yoe + yoe / 4n - yoe / 100n);
    const mp = (5n * doy + 2n) / 153n;
    const month = mp < 10n ? mp + 3n : mp - 9n;
    const year = yoe + era * 400n + (month <= 2n ? 1n : 0n);
    const two = (n) => String(n).padStart(2, "0");
    const four = year >= 0n && year <= 9999n ? String(year).padStart(4, "0")
        : (year < 0n ? "-" : "+") + String(year < 0n ? -year : year).padStart(6, "0");
    return `${four}-${two(month)}-${two(doy - (153n * mp + 2n) / 5n + 1n)}T${two(inDay / 3_600_000_000n)}:` +
        `${two(inDay / 60_000_000n % 60n)}:${two(inDay / 1_000_000n % 60n)}.${String(inDay / 1000n % 1000n).padStart(3, "0")}Z`;
}

// null if either end is missing
export function durationSeconds(answered, ended) {
    if (finite(answered) === null || finite(ended) === null) return null;
    let span = ended - answered;
    if (span < 0n) span = 0n;
    if (span > 0x7fff_ffff_ffff_ffffn) span = 0x7fff_ffff_ffff_ffffn; // documented
    return `${span / 1_000_000n}.${String(span / 1000n % 1000n).padStart(3, "0")}`.replace(/\.0+$|(\.\d*[1-9])0+$/, "$1");
}

// ---- bodies ----

const bytes = (text) => Buffer.byteLength(text);

/*
 * Parts are texts and values: { json, gives: 1 for what gives way first, 2 for
 * other strings, 0 for what never does }.
 */
export function fit(parts, most) {
    const whole = () => parts.map((part) => typeof part === "string" ? part : part.json).join("");
    let text = whole();
    if (bytes(text) <= most) return text;
    let size = bytes(text) + bytes(",\"truncated\":true");
    for (const gives of [1, 2]) {
        const candidates = parts.filter((part) => part.gives === gives && bytes(part.json) > 4);
        // stable: of equals the first in the body
        candidates.sort((a, b) => Math.min(bytes(b.json), most + 1) - Math.min(bytes(a.json), most + 1));
        for (const part of candidates) {
            if (size <= most) break;
            size -= bytes(part.json) - 4;
            part.json = "null";
        }
    }
    text = whole();
    return text.slice(0, -1) + ",\"truncated\":true}";
}

const text = (s) => ({ json: s === null ? "null" : quote(s), gives: s === null ? 0 : 2 });
const fixed = (s) => ({ json: s === null ? "null" : s, gives: 0 });
const time = (t) => fixed(iso(t) === null ? null : quote(iso(t)));
const bulky = (json) => ({ json: json ?? "null", gives: 1 });
const bulkyNode = (node) => bulky(node === null ? null : compact(node));

export function leadBody({ now, maxPayload, campaign, lead }) {
    return fit(["{\"event\":\"campaign.lead_completed\",\"timestamp\":", time(now), ",\"campaign\":{\"id\":", text(campaign.id),
        ",\"name\":", text(campaign.name), "},\"lead\":{\"id\":", text(lead.id), ",\"phoneNumber\":", text(lead.phone),
        ",\"variables\":", bulkyNode(lead.variables), ",\"status\":", text(lead.status), ",\"disposition\":", text(lead.disposition),
        ",\"attempts\":", fixed(String(lead.attempts)), ",\"callId\":", text(lead.callId), ",\"outcome\":", bulkyNode(lead.outcome), "}}"], maxPayload);
}

export function analysisBody({ now, maxPayload, call, lead }) {
    return fit(["{\"event\":\"call.analysis_completed\",\"timestamp\":", time(now), ",\"call\":{\"id\":", text(call.id), ",\"orgId\":", text(call.org),
        ",\"agentId\":", text(call.agent), ",\"campaignId\":", text(lead?.campaign ?? null), ",\"leadId\":", text(lead?.id ?? null),
        ",\"direction\":", text(call.direction), ",\"phoneNumber\":", text(call.phone), ",\"status\":", text(call.status),
        ",\"startedAt\":", time(call.started_at), ",\"answeredAt\":", time(call.answered_at), ",\"endedAt\":", time(call.ended_at),
        ",\"durationSeconds\":", fixed(durationSeconds(call.answered_at, call.ended_at)),
        ",\"transcript\":", bulky(call.transcript === null ? null : quote(call.transcript)), ",\"dynamicVariables\":", bulkyNode(call.dynamic_variables),
        ",\"metadata\":", bulkyNode(call.metadata), "},\"analysis\":", bulkyNode(call.analysis), "}"], maxPayload);
}

// ---- a call's life ----

const empty = { started_at: null, answered_at: null, ended_at: null, sip_status_code: null, voicemail_detected: null, error: null,
    analysis: null, analysis_error: null, transcript: null, metadata: null, dynamic_variables: null };

/*
 * What a case's steps lead to: { lead, calls, events: [{ type, callId, body }] }.  "world" has what is
 * configured: agents and campaigns by id, listed numbers, the organisation; and now, maxPayload, analysisTimeout.
 */
export function follow(theCase, world) {
    const { now, maxPayload } = world;
    const campaign = theCase.lead && world.campaigns[theCase.lead.campaign];
    const lead = theCase.lead && { ...theCase.lead, phone: normalizePhone(theCase.lead.phone), status: "pending", disposition: null,
        attempts: 0, callId: null, outcome: null };
    const calls = [];
    const events = [];

    const analysed = (call) => call.agent !== null && analysisConfigured(world.agents[call.agent]);
    const analysisOf = (call) => hasAnalysis(call.analysis) ? call.analysis : null;
    const dispositionBy = (call) => call.status !== "completed" ? null : analysed(call) ? disposition(call.analysis) : "completed";

    function setStatus(status, given = lead.disposition) {
        const before = lead.status;
        lead.status = status;
        if (before === status) return;
        lead.disposition = status === "completed" ? given ?? "completed" : null;
        if (!terminal.has(before) && terminal.has(status))
            events.push({ type: "campaign.lead_completed", callId: lead.callId, body: leadBody({ now, maxPayload, campaign, lead }) });
    }

    function announceAnalysis(call) {
        if (analysed(call))
            events.push({ type: "call.analysis_completed", callId: call.id, body: analysisBody({ now, maxPayload, call, lead }) });
    }

    // from when it ended, whatever is said of that later; from now if that lies in the future
    const endsNow = (call) => { call.waitsSince = call.ended_at < now ? call.ended_at : now; };
    const waits = (call) => call.status === "completed" && analysed(call) && analysisOf(call) === null && call.analysis_error === null &&
        call.waitsSince > now - world.analysisTimeout;

    function applyAnalysis(call) {
        if (lead.callId !== call.id) return;
        lead.outcome = analysisOf(call);
        lead.disposition = lead.status === "completed" ? dispositionBy(call) ?? lead.disposition : null;
    }

    function decide(call) {
        call.decided = true;
        if (terminal.has(lead.status)) {
            applyAnalysis(call);
            return;
        }
        lead.outcome = analysisOf(call);
        if (campaign.retryOn.includes(call.status) && lead.attempts < campaign.maxAttempts) setStatus("pending");
        else setStatus(call.status, dispositionBy(call));
    }

    const statusOf = (call) => callOutcome(call) ??
        (finite(call.started_at) !== null || finite(call.answered_at) !== null ? "in_progress" : "queued");

    function place({ id, agent, direction, phone, facts }) {
        const call = { ...empty, ...facts, id, direction, org: world.org, phone: phone ?? lead?.phone ?? null,
            agent: agent ?? campaign?.agent ?? null, decided: false, waiting: false };
        calls.push(call);
        call.analyzed = analysisOf(call) !== null;
        const listed = direction === "outbound" && call.phone !== null && world.listed.has(normalizePhone(call.phone));
        if (listed) {
            Object.assign(call, { status: "dnc_blocked", ended_at: now, decided: true });
            if (lead && !terminal.has(lead.status)) {
                lead.callId = id;
                lead.outcome = analysisOf(call);
                setStatus("dnc_blocked");
            }
        } else {
            call.status = statusOf(call);
            if (lead) {
                Object.assign(lead, { status: "calling", attempts: lead.attempts + 1, callId: id, disposition: null, outcome: null });
                if (terminal.has(call.status)) {
                    endsNow(call);
                    call.waiting = waits(call);
                    if (!call.waiting) decide(call);
                }
            }
        }
        if (call.analyzed) announceAnalysis(call);
    }

    function change(call, facts) {
        const before = { ...call };
        Object.assign(call, facts);
        if (!terminal.has(call.status)) {
            call.status = statusOf(call);
            call.waiting = terminal.has(call.status) && lead !== null;
            if (call.waiting) endsNow(call);
        }
        if (call.waiting) {
            call.waiting = waits(call);
            if (!call.waiting && lead.callId === call.id) decide(call);
        } else if (before.decided && lead !== null && !equal(before.analysis, call.analysis)) applyAnalysis(call);
        if (!call.analyzed && analysisOf(call) !== null && analysisOf(before) === null) {
            call.analyzed = true;
            announceAnalysis(call);
        }
    }

    for (const step of theCase.steps) {
        if (step.place) place(step.place);
        else if (step.change) change(calls[step.call], step.change);
        else setStatus(step.leadStatus);
    }
    return { lead, calls, events };
}

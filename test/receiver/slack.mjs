#!/usr/bin/env node
//
// slack.mjs - stands for Slack's incoming webhooks
//
//     node slack.mjs LOGFILE --path /services/T.../B.../...
//
// As their documentation has it: answers are plain text; "ok", or what was
// wrong. Of the text it logs what a channel would show, and whom it mentions.

import { parse, serve } from "./vendor.mjs";

const [log, , path] = process.argv.slice(2);

function refusal(request, body) {
    if (request.url !== path) return [404, "no_service"];
    if (request.method !== "POST") return [400, "invalid_payload"];
    if (!/^application\/json\b/.test(request.headers["content-type"] ?? "")) return [400, "invalid_payload"];
    const message = parse(body);
    if (message === null || typeof message !== "object") return [400, "invalid_payload"];
    if (typeof message.text !== "string" || message.text === "") return [400, "no_text"];
    if (message.text.length > 40000) return [400, "msg_too_long"];
    return null;
}

serve(log, (request, body) => {
    const refused = refusal(request, body);
    if (refused) return [...refused, {}];
    const { text } = parse(body);
    // <…> is a link or a mention; what is to be shown as it is must be escaped
    const mentions = [...text.matchAll(/<([!@#][^>]*|https?:[^>]*)>/g)].map((match) => match[1]);
    const shown = text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
    return [200, "ok", { shown, mentions }];
});

// handler.mjs - says in a Slack channel that somebody wants a demo
//
// Environment: SLACK_WEBHOOK_URL, of an incoming webhook of the channel's.

import { IncomingWebhook } from "@slack/webhook";

const { SLACK_WEBHOOK_URL } = process.env;
if (!SLACK_WEBHOOK_URL) throw new Error("SLACK_WEBHOOK_URL is not set");
const slack = new IncomingWebhook(SLACK_WEBHOOK_URL, { timeout: 10_000 });

export default async function handle(event) {
  if (event.event !== "campaign.lead_completed" || event.lead.outcome?.next_action !== "book_demo") return;
  const { callId, phoneNumber, variables } = event.lead;
  const who = escape(variables?.first_name ?? phoneNumber);
  const company = variables?.company ? ` from ${escape(variables.company)}` : "";

  await slack.send({ text: `🔥 ${who}${company} wants a demo. Call: ${escape(callId ?? "none")}` });
}

// What a lead is called must not become a link, or a mention of the whole channel.
function escape(value) {
  return String(value).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

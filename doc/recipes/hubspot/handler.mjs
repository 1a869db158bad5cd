// handler.mjs - pushes qualified leads to HubSpot as contacts
//
// Environment: HUBSPOT_TOKEN, of a private app with the scopes
// crm.objects.contacts.read and .write; HUBSPOT_URL, only for tests.

import { Client } from "@hubspot/api-client";

const { HUBSPOT_TOKEN, HUBSPOT_URL } = process.env;
if (!HUBSPOT_TOKEN) throw new Error("HUBSPOT_TOKEN is not set");
const hubspot = new Client({ accessToken: HUBSPOT_TOKEN, ...(HUBSPOT_URL && { basePath: HUBSPOT_URL }) });

export default async function handle(event) {
  if (event.event !== "campaign.lead_completed" || event.lead.disposition !== "qualified") return;
  const { phoneNumber, variables, outcome } = event.lead;
  const callId = event.lead.callId ?? event.lead.id; // a lead that was decided by hand may have had no call
  const properties = {
    phone: phoneNumber,
    firstname: variables?.first_name ?? phoneNumber, // HubSpot wants a name, or an email address
    company: variables?.company,
    osmtalk_call_id: callId,
    lead_status: "qualified_by_voice_ai",
    voice_ai_summary: outcome?.summary,
  };

  // Creates the contact; for a call that there is one of already, writes the same again.
  const result = await hubspot.crm.contacts.batchApi.upsert({
    inputs: [{ idProperty: "osmtalk_call_id", id: callId, properties: texts(properties) }],
  });
  if (result.errors?.length > 0) throw new Error(result.errors[0].message);
}

// Properties are texts; what the event does not have is left as it is.
function texts(properties) {
  const present = Object.entries(properties).filter(([, value]) => value !== undefined && value !== null);
  return Object.fromEntries(present.map(([name, value]) => [name, String(value)]));
}

// properties.mjs - makes the contact properties that handler.mjs writes; to be run once
//
// Environment: HUBSPOT_TOKEN, whose private app has the scope
// crm.schemas.contacts.write for this; HUBSPOT_URL, only for tests.

import { Client } from "@hubspot/api-client";

const { HUBSPOT_TOKEN, HUBSPOT_URL } = process.env;
const hubspot = new Client({ accessToken: HUBSPOT_TOKEN, ...(HUBSPOT_URL && { basePath: HUBSPOT_URL }) });
const text = { groupName: "contactinformation", type: "string", fieldType: "text" };

for (const property of [
  { ...text, name: "osmtalk_call_id", label: "osmTalk call", hasUniqueValue: true },
  { ...text, name: "lead_status", label: "Lead status of osmTalk" },
  { ...text, name: "voice_ai_summary", label: "Summary of the call", fieldType: "textarea" },
]) {
  try {
    await hubspot.crm.properties.coreApi.create("contacts", property);
    console.log(`${property.name}: made`);
  } catch (error) {
    if (error.code !== 409) throw error;
    console.log(`${property.name}: was there`);
  }
}

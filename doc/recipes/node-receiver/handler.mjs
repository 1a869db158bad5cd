// handler.mjs - what is to be done with an event whose signature was right
//
// It may be called more than once for the same event: after a crash, and after
// it has thrown an error.

export default async function handle(event) {
  switch (event.event) {
    case "campaign.lead_completed":
      console.log(`${event.lead.id}: ${event.lead.status}, ${event.lead.disposition}`);
      break;
    case "call.analysis_completed":
      console.log(`${event.call.id}: analysed`);
      break;
    case "webhook.test":
      console.log(event.message);
      break;
    default: // a kind that this version does not know is none of its business
  }
}

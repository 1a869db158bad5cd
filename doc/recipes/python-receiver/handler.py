"""What is to be done with an event whose signature was right.

It may be called more than once for the same event: after a crash, and after it
has raised an exception.
"""


def handle(event: dict) -> None:
    kind = event["event"]
    if kind == "campaign.lead_completed":
        lead = event["lead"]
        print(f"{lead['id']}: {lead['status']}, {lead['disposition']}", flush=True)
    elif kind == "call.analysis_completed":
        print(f"{event['call']['id']}: analysed", flush=True)
    elif kind == "webhook.test":
        print(event["message"], flush=True)
    # a kind that this version does not know is none of its business

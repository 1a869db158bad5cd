# The handler of doc/recipes/dedupe.md: each call once, and what failed not at all.
import json
import sqlite3

import handler


def tasks():
    with sqlite3.connect("handled.db") as database:
        return [row[0] for row in database.execute("SELECT call_id FROM tasks ORDER BY rowid")]


LEAD = {"event": "campaign.lead_completed", "lead": {"id": "ld_1", "callId": "call_1"}}
handler.handle(LEAD)
handler.handle(json.loads(json.dumps(LEAD)))
assert tasks() == ["call_1"], tasks()
handler.handle({"event": "call.analysis_completed", "call": {"id": "call_1"}})
handler.handle({"event": "campaign.lead_completed", "lead": {"id": "ld_1", "callId": "call_2"}})
handler.handle({"event": "campaign.lead_completed", "lead": {"id": "ld_2", "callId": None}})
handler.handle({"event": "campaign.lead_completed", "lead": {"id": "ld_2", "callId": None}})
assert tasks() == ["call_1", "call_1", "call_2", "ld_2"], tasks()

handler.database.execute("ALTER TABLE tasks RENAME TO elsewhere")
try:
    handler.handle({"event": "campaign.lead_completed", "lead": {"id": "ld_3", "callId": "call_3"}})
    raise SystemExit("there is no table of tasks")
except sqlite3.OperationalError:
    pass
handler.database.execute("ALTER TABLE elsewhere RENAME TO tasks")
handler.handle({"event": "campaign.lead_completed", "lead": {"id": "ld_3", "callId": "call_3"}})
assert tasks()[-1] == "call_3", tasks()

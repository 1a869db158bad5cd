# A body that a page shows has the keys, in the order, of one that osmtalk writes;
# but for what an application puts into it.
import json
import os
import subprocess

THEIRS = {"variables", "outcome", "dynamicVariables", "metadata", "analysis"}
EVENTS = """
BEGIN;
INSERT INTO osmtalk.org_settings VALUES ('same_keys', 'http://127.0.0.1:9/', 'whsec_only_an_example');
INSERT INTO osmtalk.agents (id, org_id, enable_sentiment) VALUES ('agent_keys', 'same_keys', true);
INSERT INTO osmtalk.campaigns (id, org_id, agent_id, name) VALUES ('cmp_keys', 'same_keys', 'agent_keys', 'Keys');
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_keys', 'cmp_keys', '+919876543210');
INSERT INTO osmtalk.calls (id, lead_id) VALUES ('call_keys', 'ld_keys');
UPDATE osmtalk.calls SET answered_at = now(), ended_at = now() + interval '42 s', analysis = '{}' WHERE id = 'call_keys';
SELECT osmtalk.send_test_event('same_keys') \\gset
SELECT body FROM osmtalk.events WHERE org_id = 'same_keys' AND type = :'type';
ROLLBACK;
"""


def keys(pairs):
    return [(key, None if key in THEIRS or not isinstance(value, list) else value) for key, value in pairs]


def shape(text):
    return json.loads(text, object_pairs_hook=keys)


with open(os.environ["BLOCK"], encoding="utf-8") as block:
    shown = block.read()
kind = json.loads(shown)["event"]
written = subprocess.run(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-v", "type=" + kind], input=EVENTS, text=True,
                         check=True, capture_output=True).stdout
if shape(shown) != shape(written):
    raise SystemExit("osmtalk writes\n" + written)

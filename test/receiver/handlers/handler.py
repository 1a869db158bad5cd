# As handler.mjs.
import os
import time

HANDLED = os.environ["HANDLED"]


def append(name, line):
    with open(name, "a") as file:
        file.write(line + "\n")


def handle(event):
    append(HANDLED + ".begun", event["event"])
    while os.path.exists(HANDLED + ".hold"):
        time.sleep(0.005)
    if os.path.exists(HANDLED + ".fail"):
        raise RuntimeError("the test wants it")
    about = event.get("lead", {}).get("callId") or event.get("call", {}).get("id") or event.get("message")
    append(HANDLED, f"{event['event']} {about}")

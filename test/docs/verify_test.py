# The README's verifier in Python against the README's example.
import hmac

import verify

BODY = b'{"event":"webhook.test"}'
SECRET = "whsec_only_an_example"
HEADER = "sha256=b3225c30f1d01dad772f5393cf83f62f8c74b738478cf5993cc71b851d7b6123"

assert verify.verify(BODY, SECRET, HEADER)
assert not verify.verify(BODY + b" ", SECRET, HEADER)
assert not verify.verify(BODY, SECRET + "x", HEADER)
for header in (None, "", "sha256=", HEADER[:-1], HEADER + "0", HEADER.replace("sha256", "sha1"), "sha256=\u00e4"):
    assert not verify.verify(BODY, SECRET, header), header
assert not verify.verify(BODY, "", "sha256=" + hmac.new(b"", BODY, "sha256").hexdigest())

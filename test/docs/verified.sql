-- setup verified: the README says that its example is true
SELECT 1 / osmtalk.verify_signature('{"event":"webhook.test"}', 'whsec_only_an_example',
	'sha256=b3225c30f1d01dad772f5393cf83f62f8c74b738478cf5993cc71b851d7b6123')::int AS verified;

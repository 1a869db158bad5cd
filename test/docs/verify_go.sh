# The README's verifier in Go against the README's example.
cat >main.go <<'END'
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

func must(expected bool, body, secret, header string) {
	if verify([]byte(body), secret, header) != expected {
		panic(header)
	}
}

func main() {
	const body, secret = `{"event":"webhook.test"}`, "whsec_only_an_example"
	const header = "sha256=b3225c30f1d01dad772f5393cf83f62f8c74b738478cf5993cc71b851d7b6123"

	must(true, body, secret, header)
	must(false, body+" ", secret, header)
	must(false, body, secret+"x", header)
	mac := hmac.New(sha256.New, nil)
	mac.Write([]byte(body))
	must(false, body, "", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	for _, wrong := range []string{"", "sha256=", header[1:], header[:len(header)-1], header + "0",
		strings.Replace(header, "sha256", "sha1", 1)} {
		must(false, body, secret, wrong)
	}
}
END
go run main.go verify.go

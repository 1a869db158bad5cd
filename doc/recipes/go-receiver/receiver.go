// Takes webhooks of osmTalk's: verifies, stores, answers, and only then works.
//
//	WEBHOOK_SECRET=whsec_... go run .
//
// What is to be done with an event is the function handle in handler.go.  An event
// is stored once, by the digest of its bytes, which are the same at every
// attempt; it is handed over again, after a while and after a restart, until
// handle has returned no error.
//
// Further environment: WEBHOOK_SECRET_OLD (valid too, while a secret is being
// replaced), SPOOL (directory, one for each process), HOST, PORT, RETRY_SECONDS.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const maxBytes = 1 << 20 // osmtalk.max_payload is a quarter of that, unless it was raised

var (
	spool   = setting("SPOOL", "spool")
	secrets = []string{os.Getenv("WEBHOOK_SECRET"), os.Getenv("WEBHOOK_SECRET_OLD")}
	pending = make(chan string) // stored, and not handled yet
)

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func verify(rawBody []byte, secret, header string) bool {
	if secret == "" {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(rawBody)
	expected := "sha256=" + hex.EncodeToString(mac.Sum(nil))
	return hmac.Equal([]byte(expected), []byte(header))
}

// store returns when the body is on disk, whatever happens to this process then.
func store(rawBody []byte) error {
	digest := sha256.Sum256(rawBody)
	name := hex.EncodeToString(digest[:])
	file, err := os.CreateTemp(spool, "*.part") // only we may read it
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if _, err := file.Write(rawBody); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	err = os.Link(file.Name(), filepath.Join(spool, name+".json"))
	switch {
	case err == nil:
		go func() { pending <- name }() // whatever work is busy with
	case !errors.Is(err, fs.ErrExist): // else it has come before
		return err
	}
	directory, err := os.Open(spool)
	if err != nil {
		return err
	}
	defer directory.Close()
	return directory.Sync()
}

func receive(response http.ResponseWriter, request *http.Request) {
	if request.Method != http.MethodPost {
		response.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	// the bytes as they came
	rawBody, err := io.ReadAll(http.MaxBytesReader(response, request.Body, maxBytes))
	if err != nil {
		response.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	signature := request.Header.Get("X-OsmTalk-Signature")
	if !verify(rawBody, secrets[0], signature) && !verify(rawBody, secrets[1], signature) {
		response.WriteHeader(http.StatusUnauthorized)
		return
	}
	if err := store(rawBody); err != nil {
		log.Print(err)
		response.WriteHeader(http.StatusInternalServerError)
		return
	}
	response.WriteHeader(http.StatusNoContent)
}

// work hands over what is stored and not done, and what failed once more after a while.
func work(retry time.Duration) {
	for name := range pending {
		name := name
		if err := handleFile(filepath.Join(spool, name)); err != nil {
			log.Printf("%s waits for another try: %v", name, err)
			time.AfterFunc(retry, func() { pending <- name })
		}
	}
}

func handleFile(file string) error {
	rawBody, err := os.ReadFile(file + ".json")
	if err != nil {
		return err
	}
	var event Event
	if err := json.Unmarshal(rawBody, &event); err != nil {
		return err
	}
	if err := handle(event); err != nil {
		return err
	}
	return os.WriteFile(file+".done", nil, 0o600)
}

// resume finds what was stored and not done when the last process ended.
func resume() error {
	files, err := os.ReadDir(spool)
	if err != nil {
		return err
	}
	for _, file := range files {
		name := strings.TrimSuffix(file.Name(), ".json")
		if strings.HasSuffix(file.Name(), ".part") {
			os.Remove(filepath.Join(spool, file.Name()))
		} else if name != file.Name() {
			if _, err := os.Stat(filepath.Join(spool, name+".done")); errors.Is(err, fs.ErrNotExist) {
				go func() { pending <- name }()
			}
		}
	}
	return nil
}

func main() {
	retry, err := time.ParseDuration(setting("RETRY_SECONDS", "60") + "s")
	if err != nil || secrets[0] == "" {
		log.Fatal("WEBHOOK_SECRET is not set, or RETRY_SECONDS is no number")
	}
	if err := os.MkdirAll(spool, 0o700); err != nil {
		log.Fatal(err)
	}
	if err := resume(); err != nil {
		log.Fatal(err)
	}
	go work(retry)

	address := net.JoinHostPort(setting("HOST", "127.0.0.1"), setting("PORT", "8080"))
	server := &http.Server{
		Addr:              address,
		Handler:           http.HandlerFunc(receive),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      15 * time.Second,
	}
	log.Printf("listening on %s", address)
	log.Fatal(server.ListenAndServe())
}

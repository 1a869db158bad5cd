// As handler.mjs.
package main

import (
	"errors"
	"os"
	"time"
)

type Event struct {
	Event   string
	Message string
	Lead    struct{ CallID string }
	Call    struct{ ID string }
}

func add(name, line string) {
	file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer file.Close()
	file.WriteString(line + "\n")
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func handle(event Event) error {
	handled := os.Getenv("HANDLED")
	add(handled+".begun", event.Event)
	for exists(handled + ".hold") {
		time.Sleep(5 * time.Millisecond)
	}
	if exists(handled + ".fail") {
		return errors.New("the test wants it")
	}
	add(handled, event.Event+" "+event.Lead.CallID+event.Call.ID+event.Message)
	return nil
}

package main

import "fmt"

// Event is what this receiver uses of an event; there is more in it.
type Event struct {
	Event   string
	Message string
	Lead    struct {
		ID          string
		Status      string
		Disposition *string
	}
	Call struct {
		ID string
	}
}

// handle does what is to be done with an event whose signature was right.  It may
// be called more than once for the same event: after a crash, and after it has
// returned an error.
func handle(event Event) error {
	switch event.Event {
	case "campaign.lead_completed":
		disposition := "no disposition"
		if event.Lead.Disposition != nil {
			disposition = *event.Lead.Disposition
		}
		fmt.Printf("%s: %s, %s\n", event.Lead.ID, event.Lead.Status, disposition)
	case "call.analysis_completed":
		fmt.Printf("%s: analysed\n", event.Call.ID)
	case "webhook.test":
		fmt.Println(event.Message)
	} // a kind that this version does not know is none of its business
	return nil
}

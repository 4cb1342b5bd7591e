package temps

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"
)

const (
	// maxEventBytes bounds an event on the wire.
	maxEventBytes = 256 << 10
	// maxTypeBytes bounds an event type or a pattern.
	maxTypeBytes = 128
)

var (
	eventType    = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$`)
	eventPattern = regexp.MustCompile(`^(\*|[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*\.\*|[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+)$`)
	eventID      = regexp.MustCompile(`^[\x21-\x7e]{1,64}$`)
)

// Event is one thing that happened. It may come twice, after a crash or because the operator had it sent again; whoever must not
// act twice remembers its ID.
type Event struct {
	// ID is the identity of the event, at most 64 characters; a UUID.
	ID string `json:"id" wire:"required"`
	// Type is what happened, for example "deployment.succeeded".
	Type string `json:"event_type" wire:"required"`
	// Timestamp is when it happened, in UTC.
	Timestamp time.Time `json:"timestamp" wire:"required"`
	// ProjectID is the project that it concerns; nil for events of no project.
	ProjectID *int32 `json:"project_id,omitempty"`
	// Data is the payload, a JSON object whose fields depend on the type. Unknown fields may be there.
	Data json.RawMessage `json:"data" wire:"object"`
}

// Payload reads Data as the type of the specification that belongs to the event's type, for example [DeploymentSucceeded]. For a
// type of the platform's own it is a map.
func (e Event) Payload() (any, error) {
	return readPayload(e.Type, e.Data)
}

// Decode reads Data into a value, by the rules of [json.Unmarshal].
func (e Event) Decode(into any) error { return json.Unmarshal(e.Data, into) }

// PayloadOf reads the payload of an event as a type of the specification:
//
//	deployment, err := temps.PayloadOf[temps.DeploymentSucceeded](event)
func PayloadOf[T Payload](event Event) (T, error) {
	var payload T
	return payload, decode(event.Data, &payload)
}

func readEvent(text []byte) (Event, error) {
	var event Event
	if err := decode(text, &event); err != nil {
		return event, err
	}
	if event.Data == nil {
		event.Data = json.RawMessage("{}")
	}
	if !eventID.MatchString(event.ID) {
		return event, &wireError{"id", "must be 1 to 64 printable characters, best a UUID"}
	}
	if len(event.Type) > maxTypeBytes || !eventType.MatchString(event.Type) {
		return event, &wireError{"event_type", fmt.Sprintf("%q is not a type like \"deployment.succeeded\"", shortened(event.Type, 80))}
	}
	return event, nil
}

// IsPattern says whether text is a subscription: an event type, "prefix.*", or "*".
func IsPattern(text string) bool { return len(text) <= maxTypeBytes && eventPattern.MatchString(text) }

// Matches says whether a subscription takes in an event type.
func Matches(pattern, eventType string) bool {
	if pattern == "*" {
		return true
	}
	prefix, isPrefix := strings.CutSuffix(pattern, "*")
	if !isPrefix {
		return pattern == eventType
	}
	return strings.HasPrefix(eventType, prefix) && len(eventType) > len(prefix)
}

package temps

import (
	"encoding/json"
	"unicode/utf8"
)

// maxReason bounds the reason in an ack, in characters. Hosts keep 1,024.
const maxReason = 1000

// hostFrame is a frame of the host: one of its fields is there, or none for a type of another version.
type hostFrame struct {
	response *responseFrame
	event    *Event
	config   *Configuration
}

type responseFrame struct {
	id json.RawMessage
	answer
}

func readFrame(text []byte) (hostFrame, error) {
	var head struct {
		Type  string          `json:"type" wire:"required"`
		Event json.RawMessage `json:"event"`
	}
	if err := decode(text, &head); err != nil {
		return hostFrame{}, err
	}
	switch head.Type {
	case "response":
		response, err := readResponse(text)
		return hostFrame{response: response}, err
	case "event":
		event, err := readEvent(head.Event)
		return hostFrame{event: &event}, within("event", err)
	case "config":
		config := &Configuration{}
		return hostFrame{config: config}, decode(text, config)
	default:
		return hostFrame{}, nil
	}
}

func readResponse(text []byte) (*responseFrame, error) {
	var wire struct {
		ID     json.RawMessage `json:"id" wire:"present"`
		Result json.RawMessage `json:"result"`
		Error  *struct {
			Code     string          `json:"code" wire:"required"`
			Message  string          `json:"message" wire:"required"`
			Revision json.RawMessage `json:"revision"`
		} `json:"error"`
	}
	if err := decode(text, &wire); err != nil {
		return nil, err
	}
	response := &responseFrame{id: wire.ID}
	if wire.Error == nil {
		response.result = wire.Result
		return response, nil
	}
	failure := &ChannelError{Code: readCode(wire.Error.Code), Message: wire.Error.Message}
	if revision, err := readInteger(wire.Error.Revision, 64); err == nil {
		failure.Revision = revision
	}
	response.err = failure
	return response, nil
}

func requestFrame(id any, method string, params map[string]any) ([]byte, error) {
	if params == nil {
		params = map[string]any{}
	}
	return json.Marshal(struct {
		Type   string         `json:"type"`
		ID     any            `json:"id"`
		Method string         `json:"method"`
		Params map[string]any `json:"params"`
	}{"request", id, method, params})
}

// ackFrame confirms an event, or says why it was not handled.
func ackFrame(id string, failure error) []byte {
	frame := struct {
		Type   string `json:"type"`
		ID     string `json:"id"`
		Status string `json:"status"`
		Error  string `json:"error,omitempty"`
	}{"ack", id, "ok", ""}
	if failure != nil {
		frame.Status, frame.Error = "error", shortened(failure.Error(), maxReason)
	}
	text, err := json.Marshal(frame)
	if err != nil {
		panic(err) // Texts are always JSON.
	}
	return text
}

// shortened is a text of at most limit characters.
func shortened(text string, limit int) string {
	if utf8.RuneCountInString(text) <= limit {
		return text
	}
	return string([]rune(text)[:limit])
}

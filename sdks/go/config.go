package temps

import (
	"encoding/json"
	"errors"
)

// ErrNoConfig says that there are no settings: the host sent none.
var ErrNoConfig = errors.New(`the host sent no settings; does the manifest declare "config"?`)

// Configuration is all settings of a plugin, defaults and secrets among them: never log it.
type Configuration struct {
	// Config is the settings by name, a JSON object. Decode reads it.
	Config json.RawMessage `json:"config" wire:"required,object"`
	// Revision grows with each change; 0 while nothing was ever set.
	Revision int64 `json:"revision" wire:"required"`
}

// Decode reads the settings into a value, by the rules of [json.Unmarshal].
func (c Configuration) Decode(into any) error { return json.Unmarshal(c.Config, into) }

package temps

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

const (
	// maxReadyBytes bounds the ready line, newline included.
	maxReadyBytes = 1 << 20
	// maxSocketPath bounds the path of a socket, in bytes.
	maxSocketPath = 107
)

// arguments are what a host gives.
var arguments = []string{"--socket-path", "--auth-secret", "--data-dir"}

// olderHosts is what older hosts give to every plugin: the platform's own database, which no plugin needs. It is passed over.
const olderHosts = "--database-url"

// features are the optional features of the protocol that this package has.
var features = []string{"ack", "reconnect", "config", "kv"}

// Launch is what the host told the plugin when it started it.
type Launch struct {
	// SocketPath is where the plugin listens.
	SocketPath string
	// AuthSecret proves that a request comes from the host. Never log it.
	AuthSecret string
	// DataDir is the plugin's own directory; its content outlives restarts and updates.
	DataDir string
	// Features are the optional features that host and package both have.
	Features []string
	// PluginName is the plugin's name as the host has it; empty during inspection.
	PluginName string
	// APIVersion is the version of the protocol that the host speaks, if it said so.
	APIVersion string
	// DatabaseURL is where the plugin's own database is, for a manifest with RequiresDB; drivers take it as it is.
	DatabaseURL string
}

// ReadLaunch reads a command line, without the program's name, and an environment. It fails when an argument is missing or not
// known.
func ReadLaunch(args []string, getenv func(string) string) (Launch, error) {
	given := map[string]string{}
	for len(args) > 0 {
		name, value, hasValue := strings.Cut(args[0], "=")
		args = args[1:]
		if name != olderHosts && !slices.Contains(arguments, name) {
			return Launch{}, fmt.Errorf("unknown argument %s", name)
		}
		if !hasValue && len(args) > 0 {
			value, args = args[0], args[1:]
		}
		if value == "" {
			return Launch{}, fmt.Errorf("%s needs a value", name)
		}
		given[name] = value
	}
	for _, name := range arguments {
		if given[name] == "" {
			return Launch{}, fmt.Errorf("%s is missing", name)
		}
	}
	if len(given["--socket-path"]) > maxSocketPath {
		return Launch{}, fmt.Errorf("--socket-path has more than %d bytes", maxSocketPath)
	}
	return Launch{
		SocketPath:  given["--socket-path"],
		AuthSecret:  given["--auth-secret"],
		DataDir:     given["--data-dir"],
		Features:    parseFeatures(getenv("TEMPS_FEATURES")),
		PluginName:  getenv("TEMPS_PLUGIN_NAME"),
		APIVersion:  getenv("TEMPS_API_VERSION"),
		DatabaseURL: getenv("TEMPS_DATABASE_URL"),
	}, nil
}

// parseFeatures reads a list of features; words of other versions are left out.
func parseFeatures(text string) []string {
	known := []string{}
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); slices.Contains(features, word) {
			known = append(known, word)
		}
	}
	return known
}

// Ready is what the second line says: the plugin serves its socket.
type Ready struct {
	// HasUI says whether the plugin has pages below /ui/.
	HasUI bool `json:"has_ui"`
	// OpenAPI is a document of the plugin's routes, which the host merges into its own.
	OpenAPI map[string]any `json:"openapi,omitempty"`
	// Features are the optional features that the plugin has. Those of [RunServer] need not be named again.
	Features []string `json:"features,omitempty"`
}

func (r Ready) line() ([]byte, error) {
	line, err := marshal(struct {
		Type    string `json:"type"`
		IsReady bool   `json:"ready"`
		Ready
	}{"ready", true, r})
	if err == nil && len(line) >= maxReadyBytes {
		err = fmt.Errorf("the ready line has more than %d bytes; shorten the OpenAPI document", maxReadyBytes)
	}
	return line, err
}

// readReady reads a ready line, as a host does.
func readReady(line []byte) (Ready, error) {
	var wire struct {
		Type     string          `json:"type" wire:"required"`
		IsReady  bool            `json:"ready" wire:"required"`
		HasUI    bool            `json:"has_ui"`
		OpenAPI  json.RawMessage `json:"openapi"`
		Features []string        `json:"features"`
	}
	if err := decode(line, &wire); err != nil {
		return Ready{}, err
	}
	if wire.Type != "ready" {
		return Ready{}, &wireError{"type", `must be "ready"`}
	}
	if !wire.IsReady {
		return Ready{}, &wireError{"ready", "the plugin said that it cannot start"}
	}
	ready := Ready{HasUI: wire.HasUI, Features: wire.Features}
	if wire.OpenAPI != nil {
		if err := json.Unmarshal(wire.OpenAPI, &ready.OpenAPI); err != nil {
			return Ready{}, &wireError{"openapi", "must be an object"}
		}
	}
	return ready, nil
}

// lineWriter is where the handshake is written to.
type lineWriter = io.Writer

// handshake is what the plain functions have written so far.
var handshake struct {
	stdout   lineWriter
	manifest Manifest
	features []string
}

// EmitManifest writes the first line, before anything that can fail, because a host reads it at inspection, too. From then on what
// the program prints goes to its log, because standard output belongs to the handshake.
func EmitManifest(manifest Manifest) error {
	line, err := manifest.line()
	if err != nil {
		return err
	}
	handshake.stdout, handshake.manifest = guardStdout(), manifest
	return writeLine(handshake.stdout, line)
}

// EmitReady writes the second line. The server must accept connections before this.
func EmitReady(ready Ready) error {
	if handshake.stdout == nil {
		return errors.New("temps: EmitManifest comes first")
	}
	for _, feature := range handshake.features {
		if !slices.Contains(ready.Features, feature) {
			ready.Features = append(ready.Features, feature)
		}
	}
	line, err := ready.line()
	if err != nil {
		return err
	}
	return writeLine(handshake.stdout, line)
}

// writeLine writes a line at once, because a host waits for its end.
func writeLine(stdout io.Writer, line []byte) error {
	_, err := stdout.Write(append(line, '\n'))
	return err
}

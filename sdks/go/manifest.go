package temps

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// APIVersion is the version of the protocol that this package speaks.
const APIVersion = "1.0.0"

// maxManifestBytes bounds the manifest line, newline included.
const maxManifestBytes = 64 << 10

// Manifest is what a plugin says of itself. Only Name and Version must be there. A list has at most 100 entries, a text 2 KiB. It
// must not depend on files or time, because a host refuses a start whose manifest is not the inspected one.
type Manifest struct {
	// Name is 1 to 63 lower-case letters, digits and inner hyphens, beginning with a letter.
	Name string `json:"name" wire:"required"`
	// Version is the plugin's version, best a semantic version; at most 64 printable characters.
	Version string `json:"version" wire:"required"`
	// DisplayName is the name for people.
	DisplayName string `json:"display_name,omitempty"`
	// Description is what it does, for people.
	Description string `json:"description,omitempty"`
	// Events are the event types that it wants: exact, "deployment.*", or "*".
	Events []string `json:"events,omitempty"`
	// HealthPath is answered with 200 while the plugin is well; empty stands for "/health". The package answers it.
	HealthPath string `json:"health_path,omitempty"`
	// Nav is entries in the console's navigation.
	Nav []NavEntry `json:"nav,omitempty"`
	// RequiresDB asks for a database of its own, which [Launch].DatabaseURL then names.
	RequiresDB bool `json:"requires_db,omitempty"`
	// APIVersion is the version of the protocol that it was written for; empty means 1.0.
	APIVersion string `json:"api_version,omitempty"`
	// Permissions is what it asks to be allowed; nil asks for its events, all methods and all projects.
	Permissions *Permissions `json:"permissions,omitempty"`
	// Egress is the hosts to reach, as "name", "name:port", "*.name", "*". nil asks for HTTPS to any public name, an empty list
	// for nothing.
	Egress []string `json:"egress,omitzero"`
	// Config is the JSON Schema of its settings.
	Config map[string]any `json:"config,omitempty"`
	// Resources is limits beyond the host's defaults.
	Resources *Resources `json:"resources,omitempty"`
	// Ordering "strict" has a failed event hold back later ones of its project; empty means "relaxed".
	Ordering string `json:"ordering,omitempty"`
	// Filters are conditions on events, all of which must hold.
	Filters []Filter `json:"filters,omitempty"`
	// PublicPaths are paths that it wants to serve to callers that are not signed in.
	PublicPaths []string `json:"public_paths,omitempty"`
}

// Permissions is what a plugin asks to be allowed.
type Permissions struct {
	// Methods are the data methods that it wants to call.
	Methods []string `json:"methods"`
	// Projects are the ids of the projects that it wants to see; nil asks for all.
	Projects []int32 `json:"projects,omitzero"`
}

// Where a [NavEntry] stands.
const (
	// NavPlatform is the main sidebar.
	NavPlatform = "platform"
	// NavSettings is administration.
	NavSettings = "settings"
	// NavProject is inside a project.
	NavProject = "project"
)

// NavEntry is an entry in the console's navigation.
type NavEntry struct {
	// Label is what people read.
	Label string `json:"label" wire:"required"`
	// Icon is the name of a Lucide icon, for example "message-square".
	Icon string `json:"icon" wire:"required"`
	// Section is NavPlatform, NavSettings or NavProject.
	Section string `json:"section" wire:"required"`
	// Path is inside the plugin's pages, beginning with "/".
	Path string `json:"path" wire:"required"`
	// Order is its place among other entries, 0 to 4294967295; lower comes first.
	Order int64 `json:"order" wire:"required"`
}

// Resources is limits that a plugin asks for. What is empty stays at the host's default.
type Resources struct {
	// MemoryMax is for example "256M".
	MemoryMax string `json:"memory_max,omitempty"`
	// CPUQuota is a share of one CPU, for example "25%".
	CPUQuota string `json:"cpu_quota,omitempty"`
	// TasksMax is processes and threads.
	TasksMax int32 `json:"tasks_max,omitempty"`
	// NoFile is open files in each process.
	NoFile int32 `json:"nofile,omitempty"`
	// DiskMax is disk for the data directory, for example "1G".
	DiskMax string `json:"disk_max,omitempty"`
}

// Filter is a condition on an event: the value at Path must be one of AnyOf.
type Filter struct {
	// Path is "project_id", "environment_id", or "data." and dotted names.
	Path string `json:"path" wire:"required"`
	// AnyOf are the values that let the event pass.
	AnyOf []any `json:"any_of" wire:"required"`
}

// ManifestError says which rules a manifest breaks, all of them at once.
type ManifestError struct{ Problems []ManifestProblem }

// ManifestProblem is one broken rule.
type ManifestProblem struct {
	// Field is for example "nav[0].label".
	Field string
	// Message is what is wrong, and what would be right.
	Message string
}

func (e *ManifestError) Error() string {
	texts := make([]string, len(e.Problems))
	for index, problem := range e.Problems {
		texts[index] = problem.Field + ": " + problem.Message
	}
	return "the manifest breaks rules: " + strings.Join(texts, "; ")
}

// Validate checks every rule. It returns a [*ManifestError].
func (m Manifest) Validate() error {
	if problems := m.problems(); len(problems) > 0 {
		return &ManifestError{problems}
	}
	return nil
}

func (m Manifest) healthPath() string {
	if m.HealthPath == "" {
		return "/health"
	}
	return m.HealthPath
}

// line is the handshake's first line, without its newline.
func (m Manifest) line() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	line, err := marshal(struct {
		Type string `json:"type"`
		Manifest
	}{"manifest", m.completed()})
	if err != nil {
		return nil, fmt.Errorf("the manifest is nothing that JSON knows: %w", err)
	}
	if len(line) >= maxManifestBytes {
		return nil, &ManifestError{[]ManifestProblem{{"manifest", fmt.Sprintf("has more than %d bytes", maxManifestBytes)}}}
	}
	return line, nil
}

// readManifest reads and checks a manifest line, as a host does.
func readManifest(line []byte) (Manifest, error) {
	var wire struct {
		Type string `json:"type" wire:"required"`
		Manifest
	}
	if err := decode(line, &wire); err != nil {
		return Manifest{}, err
	}
	if wire.Type != "manifest" {
		return Manifest{}, &wireError{"type", `must be "manifest"`}
	}
	return wire.Manifest.completed(), wire.Validate()
}

// completed asks for no methods where permissions name none: on the wire that is an empty list.
func (m Manifest) completed() Manifest {
	if m.Permissions != nil && m.Permissions.Methods == nil {
		m.Permissions = &Permissions{Methods: []string{}, Projects: m.Permissions.Projects}
	}
	return m
}

// marshal writes JSON as it was meant, without escapes for HTML.
func marshal(value any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return bytes.TrimSpace(text.Bytes()), err
}

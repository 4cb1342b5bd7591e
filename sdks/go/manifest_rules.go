package temps

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxEntries bounds a list in a manifest.
	maxEntries = 100
	// maxText bounds a text in a manifest, in bytes.
	maxText = 2 << 10
)

// methods are the data methods that a plugin can ask for.
var methods = []string{
	"get_project", "list_projects", "get_environment", "list_environments", "get_deployment", "get_last_deployment", "list_deployments",
}

// reservedNames belong to the host.
var reservedNames = []string{
	"api", "admin", "auth", "console", "events", "health", "host", "login", "logout", "metrics", "platform", "plugin", "plugins",
	"system", "temps", "ui",
}

var (
	nameRule       = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)
	versionRule    = regexp.MustCompile(`^[\x21-\x7e]{1,64}$`)
	apiVersionRule = regexp.MustCompile(`^[0-9]+(\.[0-9]+){0,2}$`)
	pathRule       = regexp.MustCompile(`^/[\x21-\x7e]{0,255}$`)
	labelRule      = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	controlRule    = regexp.MustCompile(`[\x00-\x08\x0b-\x1f\x7f-\x{9f}]`)
)

// problems collects the rules that a manifest breaks, so that an author mends them in one go.
type problems []ManifestProblem

func (p *problems) add(field, message string) {
	if message != "" {
		*p = append(*p, ManifestProblem{field, message})
	}
}

func (p *problems) text(field, text string) {
	if len(text) > maxText {
		p.add(field, fmt.Sprintf("has more than %d bytes", maxText))
	}
	if controlRule.MatchString(text) {
		p.add(field, "has control characters")
	}
}

// each checks the entries of a list.
func each[T any](p *problems, field string, entries []T, check func(entry T, field string)) {
	if len(entries) > maxEntries {
		p.add(field, fmt.Sprintf("has %d entries; at most %d are allowed", len(entries), maxEntries))
		entries = entries[:maxEntries]
	}
	for index, entry := range entries {
		check(entry, fmt.Sprintf("%s[%d]", field, index))
	}
}

func (m Manifest) problems() []ManifestProblem {
	var found problems
	m.checkIdentity(&found)
	m.checkPaths(&found)
	m.checkWishes(&found)
	return found
}

func (m Manifest) checkIdentity(found *problems) {
	found.add("name", nameProblem(m.Name))
	if !versionRule.MatchString(m.Version) {
		found.add("version", fmt.Sprintf("%q is not a version; use a semantic version like \"1.0.0\"", shortened(m.Version, 80)))
	}
	found.text("display_name", m.DisplayName)
	found.text("description", m.Description)
	if m.APIVersion != "" && !apiVersionRule.MatchString(m.APIVersion) {
		found.add("api_version", fmt.Sprintf("%q is not a version like \"1.0\"", shortened(m.APIVersion, 80)))
	}
}

func (m Manifest) checkPaths(found *problems) {
	found.add("health_path", pathProblem(m.healthPath()))
	each(found, "nav", m.Nav, func(entry NavEntry, field string) {
		if strings.TrimSpace(entry.Label) == "" {
			found.add(field+".label", "must not be empty")
		}
		found.text(field+".label", entry.Label)
		found.text(field+".icon", entry.Icon)
		found.text(field+".path", entry.Path)
		if !slices.Contains([]string{NavPlatform, NavSettings, NavProject}, entry.Section) {
			found.add(field+".section", fmt.Sprintf("%q is not one of platform, settings, project", shortened(entry.Section, 80)))
		}
		if !strings.HasPrefix(entry.Path, "/") || strings.Contains(entry.Path, "..") || strings.Contains(entry.Path, `\`) {
			found.add(field+".path", `must begin with "/" and stay inside the plugin`)
		}
		if entry.Order < 0 || entry.Order >= 1<<32 {
			found.add(field+".order", "must be from 0 to 4294967295")
		}
	})
	each(found, "public_paths", m.PublicPaths, func(path, field string) { found.add(field, pathProblem(path)) })
}

func (m Manifest) checkWishes(found *problems) {
	each(found, "events", m.Events, func(pattern, field string) {
		if !IsPattern(pattern) {
			right := `neither a type like "deployment.succeeded" nor a pattern like "deployment.*"`
			found.add(field, fmt.Sprintf("%q is %s", shortened(pattern, 80), right))
		}
	})
	if m.Permissions != nil {
		each(found, "permissions.methods", m.Permissions.Methods, func(method, field string) {
			if !slices.Contains(methods, method) {
				known := strings.Join(methods, ", ")
				found.add(field, fmt.Sprintf("%q is not a method that needs a permission; known are %s", shortened(method, 80), known))
			}
		})
	}
	each(found, "egress", m.Egress, func(target, field string) {
		if !isEgressTarget(target) {
			found.add(field, fmt.Sprintf("%q is not a public host name, with an optional port", shortened(target, 80)))
		}
	})
	if !slices.Contains([]string{"", "relaxed", "strict"}, m.Ordering) {
		found.add("ordering", fmt.Sprintf("%q is not one of relaxed, strict", shortened(m.Ordering, 80)))
	}
	if resources := m.Resources; resources != nil && (resources.TasksMax < 0 || resources.NoFile < 0) {
		found.add("resources", "a limit is not negative")
	}
	each(found, "filters", m.Filters, func(filter Filter, field string) {
		path := filter.Path
		if path != "project_id" && path != "environment_id" && !strings.HasPrefix(path, "data.") {
			found.add(field+".path", `must be project_id, environment_id, or begin with "data."`)
		}
	})
}

func nameProblem(name string) string {
	if !nameRule.MatchString(name) {
		rule := "use 1 to 63 lower-case letters, digits and inner hyphens, beginning with a letter"
		return fmt.Sprintf("%q is not a plugin name; %s", shortened(name, 80), rule)
	}
	if slices.Contains(reservedNames, name) {
		return fmt.Sprintf("%q is kept for the host; choose another name", name)
	}
	return ""
}

func pathProblem(path string) string {
	if !strings.HasPrefix(path, "/") {
		return `must begin with "/"`
	}
	if !pathRule.MatchString(path) || strings.ContainsAny(path, `%?#\`) {
		return `must be at most 256 plain characters, without % ? # \ and spaces`
	}
	segments := strings.Split(path, "/")
	if slices.Contains(segments, ".") || slices.Contains(segments, "..") {
		return `must not have "." or ".." segments`
	}
	if segments[1] == "_temps" || segments[1] == "_events" {
		return "/_temps and /_events belong to the host"
	}
	return ""
}

func isEgressTarget(target string) bool {
	name := target
	if colon := strings.LastIndex(target, ":"); colon >= 0 {
		port, err := strconv.ParseUint(target[colon+1:], 10, 16)
		if err != nil || port == 0 || len(target)-colon > 6 {
			return false
		}
		name = target[:colon]
	}
	name = strings.TrimPrefix(name, "*.")
	if name == "*" {
		return true
	}
	if _, err := netip.ParseAddr(name); err == nil || len(name) > 253 || !strings.Contains(name, ".") {
		return false
	}
	return !slices.ContainsFunc(strings.Split(name, "."), func(label string) bool { return !labelRule.MatchString(label) })
}

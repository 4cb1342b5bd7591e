// Command parity is a plugin with everything that the conformance kit can look at, for docs/sdk-parity.md. Each SDK has the same
// one.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing/fstest"

	temps "github.com/gotempsh/temps/sdks/go"
)

const index = `<!doctype html>
<title>Parity</title>
<script type="module" src="./app.js"></script>
<main>The same in every language.</main>
`

func main() {
	plugin := temps.New(temps.Manifest{
		Name:    "parity",
		Version: "1.0.0",
		Events:  []string{"*"},
		Nav:     []temps.NavEntry{{Label: "Parity", Icon: "equal", Section: temps.NavPlatform, Path: "/", Order: 90}},
		Config: map[string]any{
			"type": "object",
			"properties": map[string]any{
				"word":  map[string]any{"type": "string", "default": "same"},
				"token": map[string]any{"type": "string", "writeOnly": true},
			},
		},
	})
	plugin.UI(fstest.MapFS{
		"index.html": {Data: []byte(index)},
		"app.js":     {Data: []byte(`document.querySelector("main").title = "It runs.";`)},
	})
	answer := map[string]any{"responses": map[string]any{"200": map[string]any{"description": "The event that came last"}}}
	plugin.OpenAPI(map[string]any{
		"openapi": "3.1.0",
		"info":    map[string]any{"title": "Parity", "version": "1.0.0"},
		"paths":   map[string]any{"/last": map[string]any{"get": answer}},
	})
	plugin.On("*", func(ctx context.Context, event temps.Event) error { return keep(ctx, plugin, event) })
	plugin.HandleFunc("GET /last", func(w http.ResponseWriter, r *http.Request) {
		var last string
		_, err := plugin.KV().Get(r.Context(), "last", &last)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"last": last, "known": err == nil})
	})
	plugin.Main()
}

func keep(ctx context.Context, plugin *temps.Plugin, event temps.Event) error {
	if event.ProjectID != nil {
		if err := askEverything(ctx, plugin.Platform(), *event.ProjectID); err != nil {
			return err
		}
	}
	kv := plugin.KV()
	if _, err := kv.Put(ctx, "last", event.ID, temps.PutOptions{}); err != nil {
		return err
	}
	var last string
	if _, err := kv.Get(ctx, "last", &last); err != nil {
		return err
	}
	if _, err := kv.Keys(ctx, ""); err != nil {
		return err
	}
	_, err := kv.Delete(ctx, "none", nil)
	return err
}

// askEverything asks each data method once. What is not there is no failure.
func askEverything(ctx context.Context, platform temps.Platform, project int32) error {
	var failed []error
	asked := func(_ any, err error) {
		var refused *temps.ChannelError
		if err != nil && !errors.As(err, &refused) {
			failed = append(failed, err)
		}
	}
	asked(platform.GetProject(ctx, project))
	asked(platform.ListProjects(ctx))
	asked(platform.GetEnvironment(ctx, 1))
	asked(platform.ListEnvironments(ctx, project))
	asked(platform.GetDeployment(ctx, 1))
	asked(platform.GetLastDeployment(ctx, project, 0))
	asked(platform.ListDeployments(ctx, project, temps.DeploymentQuery{Limit: 5}))
	return errors.Join(failed...)
}

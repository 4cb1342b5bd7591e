// A plugin to start from: a route, an event, a question to the platform, a setting, and something that is kept.
package main

import (
	"context"
	"encoding/json"
	"net/http"

	temps "github.com/gotempsh/temps/sdks/go"
)

// version is the plugin's own; an update sets another with -ldflags "-X main.version=…".
var version = "0.1.0"

// last is what is kept of the newest deployment.
type last struct {
	Name string  `json:"name"`
	URL  *string `json:"url"`
}

func main() { newPlugin().Main() }

func newPlugin() *temps.Plugin {
	plugin := temps.New(temps.Manifest{
		Name:    "minimal-go",
		Version: version,
		Events:  []string{"deployment.succeeded"},
		Config: map[string]any{
			"type":       "object",
			"properties": map[string]any{"greeting": map[string]any{"type": "string", "default": "last deployed"}},
		},
	})
	plugin.On("deployment.succeeded", func(ctx context.Context, event temps.Event) error {
		if event.ProjectID == nil {
			return nil // It concerns no project.
		}
		deployment, err := temps.PayloadOf[temps.DeploymentSucceeded](event)
		if err != nil {
			return err
		}
		project, err := plugin.Platform().GetProject(ctx, *event.ProjectID)
		if err != nil {
			return err
		}
		_, err = plugin.KV().Put(ctx, "last", last{project.Name, deployment.URL}, temps.PutOptions{})
		return err
	})
	plugin.HandleFunc("GET /last", func(w http.ResponseWriter, r *http.Request) {
		kept := last{Name: "nothing"}
		if _, err := plugin.KV().Get(r.Context(), "last", &kept); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"text": greeting(plugin) + ": " + kept.Name, "url": kept.URL})
	})
	plugin.OnConfig(func(context.Context) error {
		temps.Logger().Info("the greeting is now " + greeting(plugin))
		return nil
	})
	return plugin
}

func greeting(plugin *temps.Plugin) string {
	settings := struct{ Greeting string }{"last deployed"}
	if config, err := plugin.Config(); err == nil {
		_ = config.Decode(&settings) // The schema says that it fits.
	}
	return settings.Greeting
}

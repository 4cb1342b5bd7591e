package temps_test

import (
	"context"
	"fmt"
	"net/http"

	temps "github.com/gotempsh/temps/sdks/go"
)

// The README's plugin; that it compiles is the test, because its life needs a host.
func Example() {
	plugin := temps.New(temps.Manifest{Name: "hello", Version: "1.0.0", Events: []string{"deployment.*"}})
	plugin.On("deployment.succeeded", func(ctx context.Context, event temps.Event) error {
		project, err := plugin.Platform().GetProject(ctx, *event.ProjectID)
		if err != nil {
			return err // The event comes again later.
		}
		temps.Logger().Info("live", "project", project.Name)
		return nil
	})
	plugin.HandleFunc("GET /greeting", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello") })
	plugin.Main()
}

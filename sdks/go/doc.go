// Package temps is the Go SDK for plugins of temps: handshake, socket, channel, health, routes behind the auth secret, and an
// orderly end.
//
//	func main() {
//		plugin := temps.New(temps.Manifest{Name: "hello", Version: "1.0.0", Events: []string{"deployment.*"}})
//		plugin.On("deployment.succeeded", func(ctx context.Context, event temps.Event) error {
//			project, err := plugin.Platform().GetProject(ctx, *event.ProjectID)
//			if err != nil {
//				return err // The event comes again later.
//			}
//			temps.Logger().Info("live", "project", project.Name)
//			return nil
//		})
//		plugin.HandleFunc("GET /greeting", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello") })
//		plugin.Main()
//	}
//
// Standard output belongs to the handshake: what the program prints goes to its log. Times are in UTC, ids are integers of 32 bits.
// spec/PROTOCOL.md is the protocol that all of this speaks.
package temps

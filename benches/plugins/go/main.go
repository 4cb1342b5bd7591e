// What the load rig measures the Go SDK with: it asks the platform, counts events, and answers pings.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	temps "github.com/gotempsh/temps/sdks/go"
)

// counter is the number of events that were handled since the start.
type counter struct {
	mutex   sync.Mutex
	changed *sync.Cond
	handled int
}

func main() {
	plugin := temps.New(temps.Manifest{Name: "bench-go", Version: "1.0.0", Events: []string{"deployment.*"}})
	counted := &counter{}
	counted.changed = sync.NewCond(&counted.mutex)
	plugin.On("deployment.*", func(context.Context, temps.Event) error {
		counted.mutex.Lock()
		defer counted.mutex.Unlock()
		counted.handled++
		counted.changed.Broadcast()
		return nil
	})
	plugin.HandleFunc("GET /ping", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "pong") })
	plugin.HandleFunc("GET /rtt", func(w http.ResponseWriter, r *http.Request) {
		nanos, err := roundTrips(r.Context(), plugin, number(r, "n"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_ = json.NewEncoder(w).Encode(nanos)
	})
	plugin.HandleFunc("GET /wait", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, counted.wait(number(r, "count")))
	})
	plugin.Main()
}

// roundTrips asks for a project n times, one after the other, and returns the nanoseconds of each.
func roundTrips(ctx context.Context, plugin *temps.Plugin, n int) ([]int64, error) {
	nanos := make([]int64, 0, n)
	for range n {
		begin := time.Now()
		if _, err := plugin.Platform().GetProject(ctx, 1); err != nil {
			return nil, err
		}
		nanos = append(nanos, time.Since(begin).Nanoseconds())
	}
	return nanos, nil
}

// wait returns once so many events have been handled.
func (c *counter) wait(wanted int) int {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for c.handled < wanted {
		c.changed.Wait()
	}
	return c.handled
}

func number(r *http.Request, name string) int {
	value, err := strconv.Atoi(r.URL.Query().Get(name))
	if err != nil {
		return 0
	}
	return value
}

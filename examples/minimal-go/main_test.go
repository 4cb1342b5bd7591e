package main

import (
	"strings"
	"testing"

	"github.com/gotempsh/temps/sdks/go/temptest"
)

func TestTheLastDeploymentIsShown(t *testing.T) {
	host := temptest.Start(t, newPlugin(), temptest.Options{Config: map[string]any{"greeting": "newest"}})
	host.Answer("get_project", map[string]any{
		"id": 42, "name": "shop", "slug": "shop", "created_at": "2026-06-06T12:00:00Z", "updated_at": "2026-06-06T12:00:00Z",
	})
	host.Answer("kv_put", map[string]any{"revision": 1})
	host.Answer("kv_get", map[string]any{"key": "last", "value": map[string]any{"name": "shop"}, "revision": 1})
	if err := host.Deliver("deployment.succeeded", 42, map[string]any{"deployment_id": 1}); err != nil {
		t.Fatal(err)
	}
	if status, body := host.Request("GET", "/last", nil); status != 200 || !strings.Contains(body, "newest: shop") {
		t.Fatal(status, body)
	}
}

package temps_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	temps "github.com/gotempsh/temps/sdks/go"
	"github.com/gotempsh/temps/sdks/go/temptest"
)

func newPlugin() *temps.Plugin {
	return temps.New(temps.Manifest{Name: "everything", Version: "1.0.0", Events: []string{"*"}})
}

var shop = map[string]any{
	"id": 42, "name": "shop", "slug": "shop", "created_at": "2026-06-06T12:00:00Z", "updated_at": "2026-06-06T12:00:00Z",
}

func TestAnEventIsConfirmedOnceItsHandlerReturnedAndTheHandlerCanAsk(t *testing.T) {
	plugin := newPlugin()
	var seen []string
	plugin.On("deployment.*", func(ctx context.Context, event temps.Event) error {
		project, err := plugin.Platform().GetProject(ctx, *event.ProjectID)
		if err != nil {
			return err
		}
		payload, err := temps.PayloadOf[temps.DeploymentSucceeded](event)
		seen = append(seen, project.Name, *payload.URL)
		return err
	})
	host := temptest.Start(t, plugin, temptest.Options{})
	host.Answer("get_project", shop)
	data := map[string]any{"deployment_id": 1, "url": "https://shop.example.com"}
	if err := host.Deliver("deployment.succeeded", 42, data); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(seen, " "); got != "shop https://shop.example.com" {
		t.Fatal(got)
	}
	if features := fmt.Sprint(host.Ready["features"]); features != "[ack reconnect config kv]" {
		t.Fatal(features)
	}
}

func TestAnErrorAndAPanicAreToldToTheHostAndTheNextEventIsHandled(t *testing.T) {
	plugin := newPlugin()
	plugin.On("test.error", func(context.Context, temps.Event) error { return errors.New("not now") })
	plugin.On("test.panic", func(context.Context, temps.Event) error { panic("oh no") })
	host := temptest.Start(t, plugin, temptest.Options{})
	for kind, reason := range map[string]string{"test.error": "not now", "test.panic": "oh no", "test.fine": ""} {
		err := host.Deliver(kind, 0, nil)
		if (err == nil) != (reason == "") || err != nil && !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestAnEventByPostIsSettledByItsAnswer(t *testing.T) {
	plugin := newPlugin()
	plugin.On("test.error", func(context.Context, temps.Event) error { return errors.New("not now") })
	host := temptest.Start(t, plugin, temptest.Options{WithoutChannel: true})
	post := func(body string) int {
		status, _ := host.Request("POST", "/_events", []byte(body))
		return status
	}
	event := `{"id":"e","event_type":"%s","timestamp":"2026-06-06T12:00:00Z","data":{}}`
	for body, wanted := range map[string]int{
		fmt.Sprintf(event, "test.fine"):                 http.StatusOK,
		fmt.Sprintf(event, "test.error"):                http.StatusInternalServerError,
		`{"id":"e"}`:                                    http.StatusUnprocessableEntity,
		`{"id":"` + strings.Repeat("x", 300<<10) + `"}`: http.StatusRequestEntityTooLarge,
	} {
		if status := post(body); status != wanted {
			t.Errorf("%.60s: %d instead of %d", body, status, wanted)
		}
	}
	wrong := http.Header{"Authorization": {"Bearer wrong"}}
	if status, _ := host.RequestWith("POST", "/_events", []byte(fmt.Sprintf(event, "test.fine")), wrong); status != 401 {
		t.Errorf("a wrong secret: %d", status)
	}
}

func TestRoutesNeedTheSecretAndHealthDoesNot(t *testing.T) {
	plugin := newPlugin()
	plugin.HandleFunc("GET /notes/{id}", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.PathValue("id")) })
	plugin.HandleFunc("GET /broken", func(http.ResponseWriter, *http.Request) { panic("a secret reason") })
	host := temptest.Start(t, plugin, temptest.Options{})
	right := "Bearer " + temptest.Secret
	for _, try := range []struct {
		path   string
		shown  []string
		status int
		body   string
	}{
		{"/notes/7", []string{right}, 200, "7"},
		{"/notes/7", []string{"bearer  " + temptest.Secret}, 200, "7"},
		{"/notes/7", nil, 401, ""},
		{"/notes/7", []string{"Bearer wrong"}, 401, ""},
		{"/notes/7", []string{right, right}, 401, ""},
		{"/none", []string{right}, 404, ""},
		{"/broken", []string{right}, 500, "its log has the reason"},
		{"/health", nil, 200, "ok"},
		{"/_temps/channel", []string{right}, 426, ""},
		{"/_temps/channel", []string{"Bearer wrong"}, 401, ""},
	} {
		status, body := host.RequestWith("GET", try.path, nil, http.Header{"Authorization": try.shown})
		if status != try.status || !strings.Contains(body, try.body) || strings.Contains(body, "a secret reason") {
			t.Errorf("%s %v: %d %s", try.path, try.shown, status, body)
		}
	}
}

func TestAPageIsServedToEverybodyWithItsCacheRules(t *testing.T) {
	plugin := newPlugin()
	plugin.UI(fstest.MapFS{
		"index.html":               {Data: []byte("<main>")},
		"assets/index-DiwrgTda.js": {Data: []byte("1")},
	})
	host := temptest.Start(t, plugin, temptest.Options{})
	if host.Ready["has_ui"] != true {
		t.Error("ready does not say that there is a page")
	}
	for path, wanted := range map[string]int{
		"/ui": 301, "/ui/": 200, "/ui/settings/7": 200, "/ui/assets/index-DiwrgTda.js": 200, "/ui/none.js": 404, "/ui/../x.txt": 404,
	} {
		if status, _ := host.RequestWith("GET", path, nil, nil); status != wanted && !(path == "/ui/../x.txt" && status == 401) {
			t.Errorf("%s: %d", path, status)
		}
	}
}

func TestSettingsAreThereAtTheStartAndChangesAreTold(t *testing.T) {
	manifest := temps.Manifest{Name: "configured", Version: "1.0.0", Config: map[string]any{"type": "object"}}
	plugin := temps.New(manifest)
	read := func() string {
		config, err := plugin.Config()
		if err != nil {
			return err.Error()
		}
		var settings struct{ Channel string }
		if err := config.Decode(&settings); err != nil {
			return err.Error()
		}
		return settings.Channel
	}
	started, changed := make(chan string, 1), make(chan string, 8)
	plugin.OnStart(func(context.Context) error { started <- read(); return nil })
	plugin.OnConfig(func(context.Context) error { changed <- read(); return nil })
	host := temptest.Start(t, plugin, temptest.Options{Config: map[string]any{"channel": "#one"}})
	if got := <-started; got != "#one" {
		t.Fatal(got)
	}
	// The hook runs only after the start, so the plugin has to have started before the change.
	host.Request("GET", "/", nil)
	host.Configure(map[string]any{"channel": "#two"})
	if got := <-changed; got != "#two" {
		t.Fatal(got)
	}
}

func TestStorageReadsWritesAndTellsConflictsApart(t *testing.T) {
	plugin := newPlugin()
	host := temptest.Start(t, plugin, temptest.Options{})
	ctx, kv := context.Background(), plugin.KV()
	host.AnswerWith("kv_put", func(params map[string]any) (any, *temps.ChannelError) {
		if params["revision"] != nil {
			return nil, &temps.ChannelError{Code: temps.CodeConflict, Message: "it is another", Revision: 9007199254740993}
		}
		return map[string]any{"revision": params["ttl"]}, nil
	})
	host.AnswerWith("kv_get", func(params map[string]any) (any, *temps.ChannelError) {
		if params["key"] == "none" {
			return nil, &temps.ChannelError{Code: temps.CodeNotFound, Message: "no such entry"}
		}
		return map[string]any{"key": "a", "value": map[string]any{"n": 1}, "revision": 9007199254740993}, nil
	})
	host.AnswerWith("kv_list", func(params map[string]any) (any, *temps.ChannelError) {
		if params["cursor"] == "a" {
			return map[string]any{"entries": []any{map[string]any{"key": "b", "revision": 2}}}, nil
		}
		return map[string]any{"entries": []any{map[string]any{"key": "a", "revision": 1}}, "cursor": "a"}, nil
	})
	if revision, err := kv.Put(ctx, "a", 1, temps.PutOptions{TTL: 1500 * time.Millisecond}); err != nil || revision != 2 {
		t.Error(revision, err)
	}
	_, err := kv.Put(ctx, "a", 1, temps.PutOptions{IfRevision: temps.Revision(0)})
	var failure *temps.ChannelError
	if !errors.As(err, &failure) || failure.Code != temps.CodeConflict || failure.Revision != 9007199254740993 {
		t.Error(err)
	}
	if entry, err := kv.Entry(ctx, "a"); err != nil || entry.Revision != 9007199254740993 {
		t.Error(entry, err)
	}
	if found, err := kv.Get(ctx, "none", nil); found || err != nil {
		t.Error(found, err)
	}
	if keys, err := kv.Keys(ctx, ""); err != nil || fmt.Sprint(keys) != "[a b]" {
		t.Error(keys, err)
	}
}

func TestALostChannelFailsItsQuestionsAndANewOneTakesItsPlace(t *testing.T) {
	plugin := newPlugin()
	host := temptest.Start(t, plugin, temptest.Options{})
	asked := make(chan struct{})
	host.AnswerWith("list_projects", func(map[string]any) (any, *temps.ChannelError) {
		close(asked)
		select {} // Never.
	})
	failed := make(chan error, 1)
	go func() {
		_, err := plugin.Platform().ListProjects(context.Background())
		failed <- err
	}()
	<-asked
	host.Disconnect()
	if err := <-failed; !errors.Is(err, temps.ErrChannelLost) {
		t.Fatal(err)
	}
	host.Connect()
	host.Answer("list_projects", []any{shop})
	if projects, err := plugin.Platform().ListProjects(context.Background()); err != nil || len(projects) != 1 {
		t.Fatal(projects, err)
	}
}

func TestQuestionsEndWithTheirContext(t *testing.T) {
	plugin := newPlugin()
	host := temptest.Start(t, plugin, temptest.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	host.AnswerWith("list_projects", func(map[string]any) (any, *temps.ChannelError) {
		cancel()
		select {} // Never.
	})
	if _, err := plugin.Platform().ListProjects(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	// The connection has not suffered.
	host.Answer("get_project", shop)
	if _, err := plugin.Platform().GetProject(context.Background(), 42); err != nil {
		t.Fatal(err)
	}
}

func TestFramesThatNobodyUnderstandsAreIgnored(t *testing.T) {
	plugin := newPlugin()
	host := temptest.Start(t, plugin, temptest.Options{})
	for _, frame := range []string{"no JSON", "[]", `{"type":"later"}`, `{"type":"event","event":{}}`, `{"type":"response","id":77}`, `{"type":"response","id":"x","result":1}`} {
		host.Send(frame)
	}
	host.Answer("get_project", map[string]any{"id": "no integer"})
	var failure *temps.ChannelError
	if _, err := plugin.Platform().GetProject(context.Background(), 1); !errors.As(err, &failure) || !strings.Contains(err.Error(), "id") {
		t.Fatal(err)
	}
	if err := host.Deliver("test.fine", 0, nil); err != nil {
		t.Fatal(err)
	}
}

func TestTheEndFinishesTheEventThenRunsTheHook(t *testing.T) {
	plugin := newPlugin()
	begun, life := make(chan struct{}), make(chan string, 2)
	plugin.On("test.slow", func(context.Context, temps.Event) error {
		close(begun)
		<-plugin.Stopping()
		life <- "event"
		return nil
	})
	plugin.OnShutdown(func(context.Context) error { life <- "hook"; return nil })
	host := temptest.Start(t, plugin, temptest.Options{})
	delivered := make(chan error, 1)
	go func() { delivered <- host.Deliver("test.slow", 0, nil) }()
	<-begun
	if err := host.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := <-delivered; err != nil {
		t.Fatal(err)
	}
	if first, second := <-life, <-life; first != "event" || second != "hook" {
		t.Fatal(first, second)
	}
	if entries, _ := filepath.Glob(filepath.Dir(host.DataDir) + "/*.sock"); len(entries) != 0 {
		t.Fatal(entries)
	}
}

func TestAStartHookThatFailsEndsThePlugin(t *testing.T) {
	plugin := newPlugin()
	plugin.OnStart(func(context.Context) error { return errors.New("no database") })
	home := t.TempDir()
	launch := temps.Launch{SocketPath: home + "/s", AuthSecret: "s", DataDir: home}
	if err := plugin.Run(context.Background(), launch, new(strings.Builder)); err == nil || !strings.Contains(err.Error(), "no database") {
		t.Fatal(err)
	}
}

func TestAManifestThatBreaksRulesIsRefusedWithAllOfThem(t *testing.T) {
	err := temps.Manifest{Name: "Bad Name", Events: []string{"*.x"}}.Validate()
	var broken *temps.ManifestError
	if !errors.As(err, &broken) || len(broken.Problems) != 3 {
		t.Fatal(err)
	}
}

func TestACommandLineOfNoHostIsExplained(t *testing.T) {
	none := func(string) string { return "" }
	for _, args := range [][]string{{}, {"--socket-path", "x"}, {"--colour", "red"}, {"--socket-path="}} {
		if _, err := temps.ReadLaunch(args, none); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
	given := []string{"--socket-path", "s", "--auth-secret=a", "--data-dir", "d"}
	if _, err := temps.ReadLaunch(append(given, "--of-a-later-version", "1"), none); err == nil {
		t.Error("an unknown argument was taken")
	}
	older := append(given, "--database-url", "postgres://nobody@localhost/none")
	if launch, err := temps.ReadLaunch(older, none); err != nil || launch.SocketPath != "s" || launch.DatabaseURL != "" {
		t.Errorf("what older hosts give was not passed over: %v", err)
	}
}

func TestAPluginEndsInOrderWhenItsHostHasDied(t *testing.T) {
	home := t.TempDir()
	socket := home + "/p.sock"
	// The shell is the host: it is the plugin's parent, and knows no way to end it.
	host := exec.Command("sh", "-c", `"$@" & wait`, "host", build(t, "minimal-go", "0.1.0"),
		"--socket-path", socket, "--auth-secret", "s", "--data-dir", home)
	stdout, err := host.StdoutPipe()
	must(t, err)
	log, err := host.StderrPipe()
	must(t, err)
	// A group of its own, so that a plugin that lives on can be ended.
	host.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, host.Start())
	t.Cleanup(func() { _ = syscall.Kill(-host.Process.Pid, syscall.SIGKILL) })
	lines := bufio.NewReader(stdout)
	for range 2 {
		_, err := lines.ReadString('\n')
		must(t, err)
	}
	must(t, host.Process.Kill())
	// Both pipes end when the last process that holds them, the plugin, has ended.
	must(t, log.(*os.File).SetReadDeadline(time.Now().Add(patience)))
	said, err := io.ReadAll(log)
	must(t, err)
	_ = host.Wait()
	if !strings.Contains(string(said), "the host has died") {
		t.Errorf("the plugin's log: %s", said)
	}
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestAReadyLineIsOneLineOfJSON(t *testing.T) {
	out := new(strings.Builder)
	plugin := newPlugin()
	plugin.OnStart(func(context.Context) error { plugin.Stop(); return nil })
	home := t.TempDir()
	launch := temps.Launch{SocketPath: home + "/s", AuthSecret: "s", DataDir: home + "/data"}
	if err := plugin.Run(context.Background(), launch, out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 3 || lines[2] != "" || !json.Valid([]byte(lines[0])) || !json.Valid([]byte(lines[1])) {
		t.Fatal(out)
	}
	if _, err := os.Stat(launch.DataDir); err != nil {
		t.Fatal(err)
	}
}

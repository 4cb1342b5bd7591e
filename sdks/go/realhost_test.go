package temps_test

import (
	"bufio"
	"bytes"
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
	"time"
)

const (
	// patience is how long anything may take before a test gives up on it.
	patience = 60 * time.Second
	// lookInterval is the time between two looks at what the daemon says.
	lookInterval = 50 * time.Millisecond
)

// realHost is the real daemon in a home of its own, known as a program only.
type realHost struct {
	t                       *testing.T
	temps, home, url, token string
	daemon                  *exec.Cmd
}

// startRealHost starts the daemon that the checkout has built, or the one that TEMPS_BIN names.
func startRealHost(t *testing.T) *realHost {
	t.Helper()
	program := os.Getenv("TEMPS_BIN")
	if program == "" {
		program, _ = filepath.Abs("../../target/debug/temps")
	}
	if _, err := os.Stat(program); err != nil {
		skipLoudly(t, "`temps` is not built; run `cargo build -p temps-cli`, or set TEMPS_BIN")
	}
	// In a short place, because a socket's path has at most 107 bytes.
	home, err := os.MkdirTemp("/tmp", "temps-go-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	must(t, os.Mkdir(home+"/plugins", 0o755))
	h := &realHost{t: t, temps: program, home: home}
	daemon := h.command("--json", "serve", "--log-format", "json", "--listen", "127.0.0.1:0")
	log, err := os.Create(home + "/daemon.log")
	must(t, err)
	daemon.Stderr = log
	stdout, err := daemon.StdoutPipe()
	must(t, err)
	must(t, daemon.Start())
	h.daemon = daemon
	t.Cleanup(func() {
		_ = daemon.Process.Signal(syscall.SIGTERM)
		_ = daemon.Wait()
		if text, err := os.ReadFile(home + "/daemon.log"); err == nil && t.Failed() {
			t.Logf("the daemon's log:\n%s", text)
		}
	})
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	must(t, err)
	var said struct{ URL string }
	must(t, json.Unmarshal(line, &said))
	token, err := os.ReadFile(home + "/state/admin-token")
	must(t, err)
	h.url, h.token = strings.TrimSuffix(said.URL, "/"), strings.TrimSpace(string(token))
	return h
}

func skipLoudly(t *testing.T, reason string) {
	if file, err := os.OpenFile(os.Getenv("TEMPS_TEST_SKIPS"), os.O_APPEND|os.O_WRONLY, 0); err == nil {
		_, _ = fmt.Fprintf(file, "sdks/go real host: %s\n", reason)
		_ = file.Close()
	}
	t.Skip(reason)
}

func (h *realHost) command(args ...string) *exec.Cmd {
	command := exec.Command(h.temps, args...)
	command.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + h.home, "TEMPS_HOME=" + h.home, "TEMPS_URL=" + h.url}
	return command
}

// run runs a command that must succeed, and returns what it gave.
func (h *realHost) run(args ...string) string {
	h.t.Helper()
	command := h.command(append([]string{"--json"}, args...)...)
	var problem bytes.Buffer
	command.Stderr = &problem
	out, err := command.Output()
	if err != nil {
		h.t.Fatalf("temps %v: %v: %s", args, err, &problem)
	}
	return string(out)
}

// drop puts a file into the plugins directory, whole or not at all.
func (h *realHost) drop(source, name string) {
	h.t.Helper()
	data, err := os.ReadFile(source)
	must(h.t, err)
	must(h.t, os.WriteFile(h.home+"/plugins/."+name, data, 0o755))
	must(h.t, os.Rename(h.home+"/plugins/."+name, h.home+"/plugins/"+name))
}

// get asks as the admin.
func (h *realHost) get(path string) (int, string) {
	h.t.Helper()
	request, err := http.NewRequest(http.MethodGet, h.url+path, nil)
	must(h.t, err)
	request.Header.Set("Authorization", "Bearer "+h.token)
	response, err := http.DefaultClient.Do(request)
	must(h.t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	must(h.t, err)
	return response.StatusCode, string(body)
}

// until looks until it is so.
func (h *realHost) until(what string, look func() bool) {
	h.t.Helper()
	for end := time.Now().Add(patience); !look(); time.Sleep(lookInterval) {
		if time.Now().After(end) {
			h.t.Fatalf("not seen: %s", what)
		}
	}
}

// untilRunning waits until a plugin runs in a version, as another process than that of notPid, and returns its process.
func (h *realHost) untilRunning(name, version string, notPid int) int {
	h.t.Helper()
	var info struct {
		State, Version string
		PID            int
	}
	h.until(name+" runs", func() bool {
		_, body := h.get("/api/plugins/" + name)
		_ = json.Unmarshal([]byte(body), &info)
		return info.State == "running" && info.Version == version && info.PID != notPid
	})
	return info.PID
}

// passesTheKit puts a plugin through the conformance kit, black box.
func (h *realHost) passesTheKit(plugin string) {
	h.t.Helper()
	out, err := h.command("--json", "plugin", "test", plugin).Output()
	var report struct {
		Conformant bool
		Counts     struct{ Passed, Failed int }
	}
	must(h.t, json.Unmarshal(out, &report))
	if err != nil || !report.Conformant || report.Counts.Passed < 30 {
		h.t.Errorf("%s does not pass the kit: %s", plugin, out)
	}
}

// logs is what the daemon has of a plugin's log.
func (h *realHost) logs(plugin string) string {
	h.t.Helper()
	_, logs := h.get("/api/plugins/" + plugin + "/logs")
	return logs
}

// isInItsSandbox looks at what was read back of the running plugin: no layer is wanted, possible, and not there.
func (h *realHost) isInItsSandbox(plugin string) {
	h.t.Helper()
	var explained struct {
		Layers []struct{ Layer, State string }
	}
	must(h.t, json.Unmarshal([]byte(h.run("plugin", "explain", plugin)), &explained))
	isHeld := false
	for _, layer := range explained.Layers {
		isHeld = isHeld || layer.Layer == "privileges" && layer.State == "in_force"
		if layer.State == "not_in_force" {
			h.t.Errorf("the layer %s is not in force", layer.Layer)
		}
	}
	if !isHeld {
		h.t.Errorf("%s is not in its sandbox: %v", plugin, explained.Layers)
	}
}

// plays plays the transcript of the minimal example against a plugin of this name.
func (h *realHost) plays(plugin, name string) {
	h.t.Helper()
	text, err := os.ReadFile("../../spec/v1/transcripts/minimal-example.jsonl")
	must(h.t, err)
	transcript := filepath.Join(h.home, "minimal-example.jsonl")
	mine := strings.Replace(string(text), `\"name\":\"minimal\"`, `\"name\":\"`+name+`\"`, 1)
	must(h.t, os.WriteFile(transcript, []byte(mine), 0o600))
	h.run("plugin", "test", plugin, "--transcript", transcript)
}

// build makes one static file of an example.
func build(t *testing.T, example, version string) string {
	t.Helper()
	output := filepath.Join(t.TempDir(), example)
	command := exec.Command("go", "build", "-ldflags", "-X main.version="+version, "-o", output, ".")
	command.Dir = "../../examples/" + example
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return output
}

// TestOneLifeOfTheMinimalExampleAgainstTheRealHost goes step by step as in sdks/README.md.
func TestOneLifeOfTheMinimalExampleAgainstTheRealHost(t *testing.T) {
	host := startRealHost(t)
	answers := func(text string) {
		t.Helper()
		wanted := fmt.Sprintf(`{"text":%q,"url":"https://shop.example.com"}`, text)
		host.until(text, func() bool {
			status, body := host.get("/api/x/minimal-go/last")
			return status == http.StatusOK && strings.TrimSpace(body) == wanted
		})
	}

	// Step: It passes the conformance kit.
	built := build(t, "minimal-go", "0.1.0")
	host.passesTheKit(built)
	host.plays(built, "minimal-go")

	// Step: It is dropped into the plugins directory, and runs in its sandbox.
	host.drop(built, "minimal-go")
	first := host.untilRunning("minimal-go", "0.1.0", 0)
	host.isInItsSandbox("minimal-go")

	// Step: An event comes in, the platform is asked, and its own route answers from its storage.
	host.run("deployment", "report", "--project", "shop", "--state", "succeeded", "--site", "https://shop.example.com")
	answers("last deployed: shop")
	host.until("the event is confirmed", func() bool {
		settled := host.run("delivery", "list", "--plugin", "minimal-go", "--state", "settled")
		return strings.Contains(settled, `"event_id"`)
	})

	// Step: The operator changes its settings, and it is told.
	host.run("plugin", "config", "set", "minimal-go", "greeting=newest")
	answers("newest: shop")
	host.until("the hook has run", func() bool { return strings.Contains(host.logs("minimal-go"), "the greeting is now newest") })

	// Step: It is killed, comes back, and still knows.
	must(t, syscall.Kill(first, syscall.SIGKILL))
	second := host.untilRunning("minimal-go", "0.1.0", first)
	answers("newest: shop")

	// Step: It is updated, and still knows.
	host.drop(build(t, "minimal-go", "0.2.0"), "minimal-go")
	third := host.untilRunning("minimal-go", "0.2.0", second)
	answers("newest: shop")

	// Step: It is stopped in order, and answers no more.
	host.run("plugin", "stop", "minimal-go")
	host.until("it has stopped", func() bool {
		_, body := host.get("/api/plugins/minimal-go")
		return strings.Contains(body, `"state":"stopped"`)
	})
	if logs := host.logs("minimal-go"); !strings.Contains(logs, "ending: it was told to") {
		t.Errorf("it did not end in order: %s", logs)
	}
	if status, _ := host.get("/api/x/minimal-go/last"); status != http.StatusServiceUnavailable {
		t.Errorf("a stopped plugin answered %d", status)
	}

	// Step: It is started again, its host is killed, and nothing of it is left.
	host.run("plugin", "start", "minimal-go")
	pid := host.untilRunning("minimal-go", "0.2.0", third)
	must(t, host.daemon.Process.Kill())
	host.until("it has ended with its host", func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
		return errors.Is(err, os.ErrNotExist)
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

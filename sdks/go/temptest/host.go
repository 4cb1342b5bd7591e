// Package temptest plays the host's side of the protocol in a test's own process, so that an author tries a plugin as a host
// would use it: by its socket, its channel and its routes.
//
//	host := temptest.Start(t, newPlugin(), temptest.Options{})
//	host.Answer("get_project", map[string]any{"id": 42, …})
//	if err := host.Deliver("deployment.succeeded", 42, map[string]any{"deployment_id": 100}); err != nil {
//		t.Fatal(err)
//	}
package temptest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/gotempsh/temps/sdks/go"
)

// Patience is how long anything may take before a test fails for it.
const Patience = 30 * time.Second

// Secret is the auth secret that the plugin is started with.
const Secret = "a-secret-for-tests"

// Options is how a plugin is started.
type Options struct {
	// Features that the host announces; nil stands for all that the package has.
	Features []string
	// Config is the plugin's settings, sent when the channel opens; nil sends none.
	Config map[string]any
	// WithoutChannel opens none.
	WithoutChannel bool
}

// Host is a host with one plugin.
type Host struct {
	// Manifest and Ready are the two lines that the plugin wrote.
	Manifest, Ready map[string]any
	// DataDir is the plugin's own directory.
	DataDir string

	t        *testing.T
	plugin   *temps.Plugin
	client   *http.Client
	revision int
	ended    chan error

	mutex   sync.Mutex
	channel *websocket.Conn
	answers map[string]func(params map[string]any) (any, *temps.ChannelError)
	acks    map[string]chan ack
	number  int
}

type ack struct{ Status, Error string }

// Start starts a plugin and returns once it is ready and has its channel. The test's end ends it.
func Start(t *testing.T, plugin *temps.Plugin, options Options) *Host {
	t.Helper()
	// In a short place, because a socket's path has at most 107 bytes.
	home, err := os.MkdirTemp("", "temptest-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	socket := filepath.Join(home, "plugin.sock")
	if options.Features == nil {
		options.Features = []string{"ack", "reconnect", "config", "kv"}
	}
	h := &Host{t: t, plugin: plugin, DataDir: filepath.Join(home, "data"), ended: make(chan error, 1), acks: map[string]chan ack{}}
	h.answers = map[string]func(map[string]any) (any, *temps.ChannelError){}
	h.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	lines, stdout := io.Pipe()
	launch := temps.Launch{SocketPath: socket, AuthSecret: Secret, DataDir: h.DataDir, Features: options.Features}
	go func() {
		err := plugin.Run(context.Background(), launch, stdout)
		_ = stdout.CloseWithError(errors.Join(io.EOF, err))
		h.ended <- err
	}()
	reader := bufio.NewReader(lines)
	h.Manifest, h.Ready = readLine(t, reader), readLine(t, reader)
	t.Cleanup(func() { must(t, h.Stop()) })
	if !options.WithoutChannel {
		h.Connect()
		if options.Config != nil {
			h.Configure(options.Config)
		}
	}
	return h
}

// Answer has the host answer a method with a result.
func (h *Host) Answer(method string, result any) {
	h.AnswerWith(method, func(map[string]any) (any, *temps.ChannelError) { return result, nil })
}

// AnswerWith has the host answer a method with what a function says.
func (h *Host) AnswerWith(method string, answer func(params map[string]any) (any, *temps.ChannelError)) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.answers[method] = answer
}

// Connect opens a channel, in place of the one before.
func (h *Host) Connect() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	header := http.Header{"Authorization": {"Bearer " + Secret}}
	socket, _, err := websocket.Dial(ctx, "ws://localhost/_temps/channel", &websocket.DialOptions{HTTPClient: h.client, HTTPHeader: header})
	must(h.t, err)
	socket.SetReadLimit(1 << 20)
	h.mutex.Lock()
	h.channel = socket
	h.mutex.Unlock()
	go h.read(socket)
}

// Disconnect loses the channel, without a word.
func (h *Host) Disconnect() {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	_ = h.channel.CloseNow()
}

// Configure sends settings, as after a change by the operator.
func (h *Host) Configure(config map[string]any) {
	h.revision++
	h.Send(map[string]any{"type": "config", "config": config, "revision": h.revision})
}

// Send sends a frame, whatever it is: a text as it stands, anything else as JSON.
func (h *Host) Send(frame any) {
	h.t.Helper()
	text, isText := frame.(string)
	if !isText {
		raw, err := json.Marshal(frame)
		must(h.t, err)
		text = string(raw)
	}
	h.mutex.Lock()
	socket := h.channel
	h.mutex.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	must(h.t, socket.Write(ctx, websocket.MessageText, []byte(text)))
}

// Deliver sends an event and waits for the plugin's word on it: nil when it was handled. A projectID of 0 sends none.
func (h *Host) Deliver(eventType string, projectID int32, data map[string]any) error {
	h.t.Helper()
	if data == nil {
		data = map[string]any{}
	}
	h.mutex.Lock()
	h.number++
	id := fmt.Sprintf("event-%d", h.number)
	wait := make(chan ack, 1)
	h.acks[id] = wait
	h.mutex.Unlock()
	event := map[string]any{"id": id, "event_type": eventType, "timestamp": time.Now().UTC().Format(time.RFC3339), "data": data}
	if projectID != 0 {
		event["project_id"] = projectID
	}
	h.Send(map[string]any{"type": "event", "event": event})
	select {
	case got := <-wait:
		if got.Status == "ok" {
			return nil
		}
		return errors.New(got.Error)
	case <-time.After(Patience):
		h.t.Fatalf("the plugin did not confirm %s %s", eventType, id)
		return nil
	}
}

// Request asks a route of the plugin, as the host does on behalf of a caller, and returns the status and the body.
func (h *Host) Request(method, path string, body []byte) (int, string) {
	h.t.Helper()
	return h.RequestWith(method, path, body, http.Header{"Authorization": {"Bearer " + Secret}})
}

// RequestWith is [Host.Request] with these headers and no others.
func (h *Host) RequestWith(method, path string, body []byte, header http.Header) (int, string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, bytes.NewReader(body))
	must(h.t, err)
	request.Header = header.Clone()
	if header == nil {
		request.Header = http.Header{}
	}
	// A redirect is the answer: the host passes it on.
	response, err := h.client.Transport.RoundTrip(request)
	must(h.t, err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	must(h.t, err)
	return response.StatusCode, string(text)
}

// Stop tells the plugin to end, waits until it has, and returns why it could not start, if so. Further calls do nothing.
func (h *Host) Stop() error {
	h.plugin.Stop()
	select {
	case err := <-h.ended:
		h.ended <- err
		return err
	case <-time.After(Patience):
		return errors.New("the plugin did not end")
	}
}

// read answers the plugin's questions and keeps its acks.
func (h *Host) read(socket *websocket.Conn) {
	for {
		_, text, err := socket.Read(context.Background())
		if err != nil {
			return
		}
		var frame struct {
			Type, Method, Status, Error string
			ID                          json.RawMessage
			Params                      map[string]any
		}
		if json.Unmarshal(text, &frame) != nil {
			continue
		}
		switch frame.Type {
		case "request":
			go h.respond(socket, frame.ID, frame.Method, frame.Params)
		case "ack":
			h.confirmed(frame.ID, ack{frame.Status, frame.Error})
		}
	}
}

func (h *Host) respond(socket *websocket.Conn, id json.RawMessage, method string, params map[string]any) {
	h.mutex.Lock()
	answer := h.answers[method]
	h.mutex.Unlock()
	response := map[string]any{"type": "response", "id": id}
	if answer == nil {
		response["error"] = map[string]any{"code": "method_not_found", "message": "the test answers no " + method}
	} else if result, failure := answer(params); failure != nil {
		response["error"] = map[string]any{"code": failure.Code, "message": failure.Message, "revision": failure.Revision}
	} else {
		response["result"] = result
	}
	text, err := json.Marshal(response)
	if err != nil {
		panic(err) // A mistake of the test.
	}
	_ = socket.Write(context.Background(), websocket.MessageText, text)
}

func (h *Host) confirmed(id json.RawMessage, got ack) {
	var name string
	_ = json.Unmarshal(id, &name)
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if wait, ok := h.acks[name]; ok {
		delete(h.acks, name)
		wait <- got
	}
}

func readLine(t *testing.T, reader *bufio.Reader) map[string]any {
	t.Helper()
	line, err := reader.ReadBytes('\n')
	must(t, err)
	var value map[string]any
	must(t, json.Unmarshal(line, &value))
	return value
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

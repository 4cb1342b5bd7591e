package temps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"time"
)

const (
	// startTimeout is how long the start hooks may take together.
	startTimeout = 60 * time.Second
	// configTimeout is how long the host may take to send the settings that the manifest declares. They come with the channel.
	configTimeout = 30 * time.Second
	// startWait is how long a route waits for the start hooks.
	startWait = 25 * time.Second
	// postedTimeout is how long POST /_events waits before it says that it does not know. Hosts give up after 30 s.
	postedTimeout = 25 * time.Second
	// endTimeout is how long the whole ending may take. Hosts kill after 10 s.
	endTimeout = 8 * time.Second
	// drainTimeout is the part of the ending that may go into events that still wait; the shutdown hooks have the rest.
	drainTimeout = 4 * time.Second
	// headTimeout is how long a caller may take for the head of a request.
	headTimeout = 30 * time.Second
	// idleTimeout is how long a connection may stand idle.
	idleTimeout = 120 * time.Second
	// maxHeadBytes bounds the head of a request.
	maxHeadBytes = 64 << 10
	// parentPoll is how often the parent's id is compared, so that a plugin outlives no host.
	parentPoll = time.Second
)

// parent is remembered as early as possible: afterwards any other parent means that the host died.
var parent = os.Getppid()

// start binds the socket and returns once connections are accepted. The start hooks run after that; routes and events wait for
// them.
func (p *Plugin) start(launch Launch) error {
	p.mutex.Lock()
	p.launch = launch
	p.mutex.Unlock()
	p.channel.confirms = p.hostHas("ack")
	if err := os.MkdirAll(launch.DataDir, 0o700); err != nil {
		Logger().Warn("the data directory cannot be made; nothing can be kept", "error", err.Error())
	}
	if err := removeSocket(launch.SocketPath); err != nil {
		return err
	}
	listener, err := net.Listen("unix", launch.SocketPath)
	if err != nil {
		return fmt.Errorf("cannot listen on the socket: %w", err)
	}
	if err := os.Chmod(launch.SocketPath, 0o600); err != nil {
		return errors.Join(err, listener.Close())
	}
	server := &http.Server{
		Handler:           recovered(http.HandlerFunc(p.serve)),
		ReadHeaderTimeout: headTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeadBytes,
	}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			Logger().Error("the socket failed", "error", err.Error())
			p.Stop()
		}
	}()
	go p.live(server)
	return nil
}

// live is the plugin's life from the bound socket to the end.
func (p *Plugin) live(server *http.Server) {
	defer close(p.ended)
	go p.watchParent()
	if err := p.begin(); err != nil && p.ctx.Err() == nil {
		p.failure = fmt.Errorf("the plugin cannot start: %w", err)
		p.Stop()
	}
	<-p.ctx.Done()
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.end(server)
	}()
	select {
	case <-done:
	case <-time.After(endTimeout):
		Logger().Warn("the ending took too long", "seconds", endTimeout.Seconds())
	}
	_ = server.Close()
	_ = removeSocket(p.Launch().SocketPath)
}

// begin waits for the settings, runs the start hooks, and lets events and routes go.
func (p *Plugin) begin() error {
	if p.manifest.Config != nil && p.hostHas("config") {
		select {
		case <-p.channel.configured:
		case <-p.ctx.Done():
			return nil
		case <-time.After(configTimeout):
			return fmt.Errorf("the host sent no settings within %s", configTimeout)
		}
	}
	p.channel.takeConfigChange()
	ctx, cancel := context.WithTimeout(p.ctx, startTimeout)
	defer cancel()
	hooked := make(chan error, 1)
	go func() { hooked <- runHooks(ctx, p.hooks.start) }()
	select {
	case err := <-hooked:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		if p.ctx.Err() == nil {
			return fmt.Errorf("the start hooks took longer than %s", startTimeout)
		}
		return nil
	}
	close(p.started)
	go p.line.run()
	go p.followConfig()
	return nil
}

// followConfig runs the hooks after each change of the settings.
func (p *Plugin) followConfig() {
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-p.channel.configChanged:
			if err := runHooks(p.ctx, p.hooks.config); err != nil {
				Logger().Error("the hook for changed settings failed", "error", err.Error())
			}
		}
	}
}

// end finishes what is under way: events that wait, requests, then the shutdown hooks and the channel.
func (p *Plugin) end(server *http.Server) {
	wasStarted := isClosed(p.started)
	if !p.line.close(drainTimeout, wasStarted) {
		Logger().Warn("events were still being handled when the time for them was over")
	}
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	if wasStarted {
		if err := runHooks(ctx, p.hooks.shutdown); err != nil {
			Logger().Error("a shutdown hook failed", "error", err.Error())
		}
	}
	p.channel.close()
	_ = server.Shutdown(ctx)
}

func (p *Plugin) watchParent() {
	// In a namespace of its own the first process takes everything along when it dies; there is nothing to watch.
	if parent <= 1 {
		return
	}
	ticker := time.NewTicker(parentPoll)
	defer ticker.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-ticker.C:
			if os.Getppid() != parent {
				Logger().Warn("ending: the host has died")
				p.Stop()
				return
			}
		}
	}
}

// serve answers a request: the routes of the protocol, the page, then the plugin's own routes behind the auth secret.
func (p *Plugin) serve(w http.ResponseWriter, r *http.Request) {
	path, isRead := r.URL.Path, r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case path == p.manifest.healthPath() && isRead:
		writeJSON(w, http.StatusOK, map[string]any{"status": "ok", "plugin": p.manifest.Name})
	case path == "/_temps/channel":
		if p.refusesWrongSecret(w, r) {
			return
		}
		p.channel.serve(w, r)
	case path == "/_events" && r.Method == http.MethodPost:
		if p.refusesWrongSecret(w, r) {
			return
		}
		p.eventOfPost(w, r)
	case p.pages != nil && isBelow(path, "/ui"):
		p.pages.ServeHTTP(w, r)
	default:
		p.ownRoute(w, r)
	}
}

func (p *Plugin) ownRoute(w http.ResponseWriter, r *http.Request) {
	if !p.open && claimOf(r, p.Launch().AuthSecret) != claimRight {
		unauthorized(w)
		return
	}
	select {
	case <-p.started:
	case <-r.Context().Done():
		return
	case <-time.After(startWait):
		w.Header().Set("Retry-After", "5")
		writeProblem(w, http.StatusServiceUnavailable, "the plugin is still starting")
		return
	}
	p.mux.ServeHTTP(w, r)
}

// refusesWrongSecret is for what the host itself calls: other hosts send no secret there, and only a wrong one is refused.
func (p *Plugin) refusesWrongSecret(w http.ResponseWriter, r *http.Request) bool {
	if claimOf(r, p.Launch().AuthSecret) != claimWrong {
		return false
	}
	unauthorized(w)
	return true
}

func (p *Plugin) eventOfPost(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEventBytes))
	if err != nil {
		var tooLong *http.MaxBytesError
		if errors.As(err, &tooLong) {
			writeProblem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("an event has at most %d bytes", maxEventBytes))
		}
		return
	}
	event, err := readEvent(body)
	if err != nil {
		writeProblem(w, http.StatusUnprocessableEntity, "the body is not an event: "+err.Error())
		return
	}
	done := make(chan error, 1)
	p.line.push(event, len(body), func(failure error) { done <- failure })
	select {
	case failure := <-done:
		if failure != nil {
			writeProblem(w, http.StatusInternalServerError, "the event was not handled: "+failure.Error())
			return
		}
		writeJSON(w, http.StatusOK, map[string]any{"ok": true})
	case <-time.After(postedTimeout):
		w.Header().Set("Retry-After", "5")
		writeProblem(w, http.StatusServiceUnavailable, "the event was not handled in time; it may still be")
	}
}

// recovered answers 500 when a handler panics, and keeps the reason in the log.
func recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			reason := recover()
			if reason == nil {
				return
			}
			if reason == http.ErrAbortHandler {
				panic(reason)
			}
			Logger().Error("a route failed", "method", r.Method, "path", r.URL.Path,
				"error", fmt.Sprint(reason), "stack", string(debug.Stack()))
			writeProblem(w, http.StatusInternalServerError, "the plugin failed to answer; its log has the reason")
		}()
		next.ServeHTTP(w, r)
	})
}

// runHooks runs hooks one after the other until one fails. A panic is a failure.
func runHooks(ctx context.Context, hooks []Hook) (failure error) {
	defer func() {
		if reason := recover(); reason != nil {
			failure = fmt.Errorf("panic: %v\n%s", reason, debug.Stack())
		}
	}()
	for _, hook := range hooks {
		if err := hook(ctx); err != nil {
			return err
		}
	}
	return nil
}

// ServeOptions is what [RunServer] serves.
type ServeOptions struct {
	// Handler serves the plugin's own routes, behind the auth secret.
	Handler http.Handler
	// OnEvent takes the plugin's events.
	OnEvent EventHandler
	// OnConfig runs after each change of the settings.
	OnConfig Hook
	// UI is a page: files with an index.html at their root.
	UI fs.FS
}

// RunServer is the plain way: called between [EmitManifest] and [EmitReady], it serves the socket that the command line names
// and returns once connections are accepted. [Plugin.Wait] on what it returns keeps the process until ctx or the host ends it.
func RunServer(ctx context.Context, options ServeOptions) (*Plugin, error) {
	launch, err := ReadLaunch(os.Args[1:], os.Getenv)
	if err != nil {
		return nil, err
	}
	p := New(handshake.manifest)
	if options.OnEvent != nil {
		p.On("*", options.OnEvent)
	}
	if options.OnConfig != nil {
		p.OnConfig(options.OnConfig)
	}
	if options.Handler != nil {
		p.Handle("/", options.Handler)
	}
	if options.UI != nil {
		p.UI(options.UI)
	}
	if err := p.start(launch); err != nil {
		return nil, err
	}
	handshake.features = p.features()
	context.AfterFunc(ctx, p.Stop)
	return p, nil
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

func writeProblem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	problem := map[string]any{"title": http.StatusText(status), "status": status, "detail": detail}
	_ = json.NewEncoder(w).Encode(problem)
}

func removeSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && info.IsDir()) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Remove(path)
}

func isClosed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

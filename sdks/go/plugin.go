package temps

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
)

// Plugin is a plugin: handlers for events and routes around one manifest, and what its host offers.
//
// Handlers are added before [Plugin.Main]; everything else may be called from any goroutine while the plugin runs.
type Plugin struct {
	manifest Manifest
	document map[string]any
	mux      *http.ServeMux
	handlers []eventHandler
	hooks    hooks
	pages    *pages
	open     bool

	channel *channel
	line    *eventLine
	life
}

// EventHandler works on one event. Returning nil says that it is handled, and the host is told so; an error or a panic says
// that it is not, and the event comes again later. It has [HandlingTimeout], then ctx ends, the event counts as failed, and
// the next one begins. An event may come twice.
type EventHandler func(ctx context.Context, event Event) error

// Hook runs at a moment of the plugin's life. Its context ends when the plugin is told to end.
type Hook func(ctx context.Context) error

type eventHandler struct {
	pattern string
	handle  EventHandler
}

type hooks struct{ start, config, shutdown []Hook }

// New makes a plugin. A manifest that breaks a rule is refused when it is emitted; [Manifest.Validate] tells earlier.
func New(manifest Manifest) *Plugin {
	p := &Plugin{manifest: manifest, mux: http.NewServeMux()}
	p.line = newEventLine(p.handleEvent)
	p.channel = newChannel(p.line)
	p.life = newLife()
	return p
}

// On takes events of a type, of "deployment.*", or of "*"; the manifest must ask for them, too. Of several handlers that take
// in an event all are called, in order, until one fails. On panics when pattern is none, because that is a mistake in the code.
func (p *Plugin) On(pattern string, handler EventHandler) {
	if !IsPattern(pattern) {
		panic(fmt.Sprintf("temps: %q is neither an event type nor a pattern like \"deployment.*\"", pattern))
	}
	p.handlers = append(p.handlers, eventHandler{pattern, handler})
}

// Handle serves a route of the plugin's own, with the patterns of [http.ServeMux], for example "GET /notes/{id}". Only
// requests of the host reach it: they carry the auth secret of this start. It waits until the start hooks have run.
func (p *Plugin) Handle(pattern string, handler http.Handler) { p.mux.Handle(pattern, handler) }

// HandleFunc is [Plugin.Handle] for a function.
func (p *Plugin) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	p.mux.HandleFunc(pattern, handler)
}

// UI serves a built page below /ui/: files with an index.html at their root, usually embedded in the program. Everybody who
// asks is given them, so they must hold no secrets. It panics without an index.html.
func (p *Plugin) UI(files fs.FS) {
	made, err := newPages(files)
	if err != nil {
		panic("temps: " + err.Error())
	}
	p.pages = made
}

// OpenAPI gives an OpenAPI document of the plugin's routes, which the host merges into its own. The ready line that carries it
// has 1 MiB at most.
func (p *Plugin) OpenAPI(document map[string]any) { p.document = document }

// OpenRoutes lets requests without the auth secret reach the routes, for hosts that do not send it.
func (p *Plugin) OpenRoutes() { p.open = true }

// OnStart runs before the first event and the first request, 60 s at most for all hooks. An error ends the plugin.
func (p *Plugin) OnStart(hook Hook) { p.hooks.start = append(p.hooks.start, hook) }

// OnConfig runs after each change of the settings. Changes that come while it runs are told once. An error is logged.
func (p *Plugin) OnConfig(hook Hook) { p.hooks.config = append(p.hooks.config, hook) }

// OnShutdown runs when the plugin ends, after its last event, 8 s at most. An error is logged.
func (p *Plugin) OnShutdown(hook Hook) { p.hooks.shutdown = append(p.hooks.shutdown, hook) }

// Main runs the plugin until its host tells it to end, and ends the process: with status 0 in order, 1 when the plugin could
// not start, 2 when the command line is not one that a host gives.
func (p *Plugin) Main() {
	stdout := guardStdout()
	launch, err := ReadLaunch(os.Args[1:], os.Getenv)
	if err != nil {
		explainUsage(err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := p.Run(ctx, launch, stdout); err != nil {
		Logger().Error("the plugin failed", "error", err.Error())
		os.Exit(1)
	}
	os.Exit(0)
}

// Run is [Plugin.Main] for programs that keep the process: it writes the two lines of the handshake to stdout, serves, and
// returns once the plugin has ended in order, because ctx ended or the host died. A plugin runs once.
func (p *Plugin) Run(ctx context.Context, launch Launch, stdout lineWriter) error {
	// The manifest first, before anything that can fail: a host reads it at inspection, too.
	line, err := p.manifest.line()
	if err != nil {
		return err
	}
	if err := writeLine(stdout, line); err != nil {
		return err
	}
	if err := p.start(launch); err != nil {
		return err
	}
	ready := Ready{HasUI: p.pages != nil, OpenAPI: p.document, Features: p.features()}
	if line, err = ready.line(); err == nil {
		err = writeLine(stdout, line)
	}
	if err != nil {
		p.Stop()
		return errors.Join(err, p.Wait())
	}
	defer context.AfterFunc(ctx, func() {
		Logger().Info("ending: it was told to")
		p.Stop()
	})()
	return p.Wait()
}

// Platform asks the platform for its projects, environments and deployments.
func (p *Plugin) Platform() Platform { return Platform{p.channel} }

// KV is the plugin's key-value storage at the host.
func (p *Plugin) KV() KV { return KV{p.channel} }

// Config is the settings as they are now, with defaults and secrets. It fails with [ErrNoConfig] when the host sent none; a host
// of temps sends them before the start hooks run.
func (p *Plugin) Config() (Configuration, error) { return p.channel.currentConfig() }

// Launch is what the host said when it started the plugin; zero before that.
func (p *Plugin) Launch() Launch {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.launch
}

// DataDir is the plugin's own directory; its content outlives restarts and updates.
func (p *Plugin) DataDir() string { return p.Launch().DataDir }

// features are the optional features that both sides have.
func (p *Plugin) features() []string { return p.Launch().Features }

func (p *Plugin) hostHas(feature string) bool { return slices.Contains(p.features(), feature) }

// handleEvent calls the handlers that take the event in.
func (p *Plugin) handleEvent(ctx context.Context, event Event) error {
	for _, one := range p.handlers {
		if !Matches(one.pattern, event.Type) {
			continue
		}
		if err := one.handle(ctx, event); err != nil {
			return err
		}
	}
	return nil
}

// life is what a plugin is between its start and its end.
type life struct {
	mutex   sync.Mutex
	launch  Launch
	started chan struct{} // closed once the start hooks have run
	stop    context.CancelFunc
	ctx     context.Context // ends when the plugin is told to end
	ended   chan struct{}   // closed once the plugin has ended
	failure error
}

func newLife() life {
	ctx, stop := context.WithCancel(context.Background())
	return life{started: make(chan struct{}), ended: make(chan struct{}), ctx: ctx, stop: stop}
}

// Stop begins the orderly end.
func (p *Plugin) Stop() { p.stop() }

// Stopping is closed when the plugin is told to end, for work in the background and for long answers.
func (p *Plugin) Stopping() <-chan struct{} { return p.ctx.Done() }

// Wait returns once the plugin has ended: nil in order, an error when it could not start.
func (p *Plugin) Wait() error {
	<-p.ended
	return p.failure
}

func explainUsage(err error) {
	program := filepath.Base(os.Args[0])
	fmt.Fprintf(os.Stderr, "%s: %v\n\nThis program is a plugin: a host starts it, with\n"+
		"  %s --socket-path PATH --auth-secret SECRET --data-dir DIRECTORY\n"+
		"`temps plugin dev` runs it on your desk.\n", program, err, program)
}

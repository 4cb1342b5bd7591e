package temps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// RequestTimeout is how long an answer of the host is waited for when the context has no earlier end; a wait for the channel is
// part of it.
const RequestTimeout = 10 * time.Second

const (
	// maxFrameBytes bounds a frame, in both directions.
	maxFrameBytes = 1 << 20
	// maxInFlight bounds the questions that are unanswered at a time; further ones wait.
	maxInFlight = 32
	// writeTimeout is how long a frame may take to be written to a host that does not read.
	writeTimeout = 10 * time.Second
	// complaintInterval is how often frames that are not understood are logged.
	complaintInterval = time.Minute
)

// channel is the plugin's end of the channel: questions to the host, their answers, events and settings that come in.
//
// The host connects; the plugin accepts. There is one connection at a time: a new one takes the place of the old one, whose
// unanswered questions fail.
type channel struct {
	line     *eventLine
	confirms bool // each event is confirmed once it was handled

	configured    chan struct{} // closed when the first settings came
	configChanged chan struct{} // has one entry after a change
	places        chan struct{}

	mutex  sync.Mutex
	link   *link
	linked chan struct{} // closed while there is a connection
	closed bool
	config *Configuration
	nextID int32

	complained time.Time
	complaints int
}

// link is one connection, and the questions that were asked over it.
type link struct {
	socket  *websocket.Conn
	mutex   sync.Mutex
	waiting map[int32]chan answer
	lost    bool
}

type answer struct {
	result json.RawMessage
	err    error
}

func newChannel(line *eventLine) *channel {
	return &channel{
		line:          line,
		configured:    make(chan struct{}),
		configChanged: make(chan struct{}, 1),
		places:        make(chan struct{}, maxInFlight),
		linked:        make(chan struct{}),
	}
}

// serve takes a connection in place of the one before, and reads it until it ends.
func (c *channel) serve(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Upgrade", "websocket")
		writeProblem(w, http.StatusUpgradeRequired, "this path is a WebSocket (version 13)")
		return
	}
	// The secret says who connects; an origin says nothing on this socket.
	socket, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		Logger().Warn("the channel's upgrade failed", "error", err.Error())
		return
	}
	socket.SetReadLimit(maxFrameBytes)
	own := &link{socket: socket, waiting: map[int32]chan answer{}}
	if !c.take(own) {
		_ = socket.Close(websocket.StatusGoingAway, "the plugin is ending")
		return
	}
	c.read(own)
}

// take puts a connection in the place of the one before. It refuses once the channel was closed.
func (c *channel) take(own *link) bool {
	c.mutex.Lock()
	if c.closed {
		c.mutex.Unlock()
		return false
	}
	old := c.link
	c.link = own
	if old == nil {
		close(c.linked)
	}
	c.mutex.Unlock()
	if old != nil {
		old.fail()
		go func() { _ = old.socket.Close(websocket.StatusGoingAway, "a new channel took its place") }()
	}
	return true
}

// read takes what comes over a connection until it ends. Pings are answered by the library while this reads, so a pong says
// that everything before it was read.
func (c *channel) read(own *link) {
	defer c.drop(own)
	for {
		kind, text, err := own.socket.Read(context.Background())
		if err != nil {
			return
		}
		if kind != websocket.MessageText {
			c.complain("a binary message")
			continue
		}
		c.takeFrame(own, text)
	}
}

func (c *channel) drop(own *link) {
	own.fail()
	_ = own.socket.CloseNow()
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.link == own {
		c.link = nil
		c.linked = make(chan struct{})
	}
}

func (c *channel) takeFrame(own *link, text []byte) {
	frame, err := readFrame(text)
	switch {
	case err != nil:
		c.complain("a frame that cannot be read: " + err.Error())
	case frame.response != nil:
		if !own.answered(frame.response) {
			c.complain("an answer that nobody waits for")
		}
	case frame.config != nil:
		c.takeConfig(own, frame.config)
	case frame.event != nil:
		id := frame.event.ID
		// Over the connection that the event came over and no other: the host sends again what was not confirmed there.
		c.line.push(*frame.event, len(text), func(failure error) {
			if c.confirms {
				own.send(ackFrame(id, failure))
			}
		})
	}
}

// takeConfig keeps what came over the present connection: a late frame of the one before is older.
func (c *channel) takeConfig(own *link, config *Configuration) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.link != own {
		return
	}
	c.config = config
	select {
	case c.configChanged <- struct{}{}:
	default: // A change that nobody has heard of yet stands for this one, too.
	}
	// After the change was noted, so that whoever waits for the first settings can forget it.
	if !isClosed(c.configured) {
		close(c.configured)
	}
}

// takeConfigChange forgets that the settings changed.
func (c *channel) takeConfigChange() {
	select {
	case <-c.configChanged:
	default:
	}
}

func (c *channel) currentConfig() (Configuration, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.config == nil {
		return Configuration{}, ErrNoConfig
	}
	return *c.config, nil
}

// request asks the host and returns the result, read into result unless that is nil. All of it, the wait for a place and for a
// channel too, takes RequestTimeout at most, or less if ctx ends before.
func (c *channel) request(ctx context.Context, method string, params map[string]any, result any) error {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	select {
	case c.places <- struct{}{}:
		defer func() { <-c.places }()
	case <-ctx.Done():
		return late(ctx, method)
	}
	own, err := c.whenLinked(ctx, method)
	if err != nil {
		return err
	}
	raw, err := c.ask(ctx, own, method, params)
	if err != nil || result == nil {
		return err
	}
	if err := decode(raw, result); err != nil {
		return &ChannelError{Code: CodeInternal, Message: fmt.Sprintf("the host's answer to %s cannot be read: %v", method, err)}
	}
	return nil
}

func (c *channel) whenLinked(ctx context.Context, method string) (*link, error) {
	for {
		c.mutex.Lock()
		own, linked := c.link, c.linked
		c.mutex.Unlock()
		if own != nil {
			return own, nil
		}
		select {
		case <-linked:
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w", method, ErrChannelLost)
		}
	}
}

func (c *channel) ask(ctx context.Context, own *link, method string, params map[string]any) (json.RawMessage, error) {
	id := c.newID()
	frame, err := requestFrame(id, method, params)
	if err != nil {
		return nil, &ChannelError{Code: CodeInvalidParams, Message: fmt.Sprintf("the question %s is nothing that JSON knows: %v", method, err)}
	}
	if len(frame) > maxFrameBytes {
		return nil, &ChannelError{Code: CodeInvalidParams, Message: fmt.Sprintf("the question %s has more than %d bytes", method, maxFrameBytes)}
	}
	wait, ok := own.expect(id)
	if !ok {
		return nil, ErrChannelLost
	}
	defer own.forget(id)
	own.send(frame)
	select {
	case got := <-wait:
		return got.result, got.err
	case <-ctx.Done():
		return nil, late(ctx, method)
	}
}

// newID stays within 31 bits: some hosts read ids as such.
func (c *channel) newID() int32 {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.nextID++; c.nextID <= 0 {
		c.nextID = 1
	}
	return c.nextID
}

// close ends the connection that is there now, after what was to be sent, and accepts no other.
func (c *channel) close() {
	c.mutex.Lock()
	c.closed = true
	own := c.link
	c.mutex.Unlock()
	if own != nil {
		_ = own.socket.Close(websocket.StatusGoingAway, "the plugin is ending")
	}
}

func (c *channel) complain(what string) {
	c.mutex.Lock()
	c.complaints++
	count, isTime := c.complaints, time.Since(c.complained) >= complaintInterval
	if isTime {
		c.complained = time.Now()
	}
	c.mutex.Unlock()
	if isTime {
		Logger().Warn("the host sent "+what+"; it is ignored", "count", count)
	}
}

// late is why a question had no answer when its context ended.
func late(ctx context.Context, method string) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &ChannelError{Code: CodeTimeout, Message: "no answer to " + method + " in time"}
	}
	return fmt.Errorf("%s: %w", method, ctx.Err())
}

func (l *link) expect(id int32) (<-chan answer, bool) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	wait := make(chan answer, 1)
	l.waiting[id] = wait
	return wait, !l.lost
}

func (l *link) forget(id int32) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	delete(l.waiting, id)
}

func (l *link) answered(response *responseFrame) bool {
	id, err := readInteger(response.id, 32)
	if err != nil {
		return false
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	wait, ok := l.waiting[int32(id)]
	if ok {
		delete(l.waiting, int32(id))
		wait <- response.answer
	}
	return ok
}

// fail tells everybody who waits that no answer will come.
func (l *link) fail() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.lost = true
	for id, wait := range l.waiting {
		delete(l.waiting, id)
		wait <- answer{err: ErrChannelLost}
	}
}

// send writes a frame. The context is not the asker's: the library ends the connection with a context that ends.
func (l *link) send(frame []byte) {
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	if err := l.socket.Write(ctx, websocket.MessageText, frame); err != nil {
		l.fail()
	}
}

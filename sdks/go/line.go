package temps

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// HandlingTimeout is how long one event may be worked on: less than the 30 s after which a host counts it as failed.
const HandlingTimeout = 25 * time.Second

const (
	// maxWaiting bounds the events that wait before the channel is no longer read. A host with acks stops at 64 of them.
	maxWaiting = 10_000
	// maxWaitingBytes bounds them together, as they stood on the wire.
	maxWaitingBytes = 8 << 20
)

var errEnding = errors.New("the plugin is ending")

// eventLine is the events on their way to the handlers: bounded, worked off in order, one event at a time.
type eventLine struct {
	handle  EventHandler
	timeout time.Duration

	mutex   sync.Mutex
	changed *sync.Cond
	waiting []waitingEvent
	bytes   int
	closed  bool
	idle    chan struct{} // closed once the line is closed and worked off
}

type waitingEvent struct {
	event Event
	bytes int
	done  func(failure error)
}

func newEventLine(handle EventHandler) *eventLine {
	line := &eventLine{handle: handle, timeout: HandlingTimeout, idle: make(chan struct{})}
	line.changed = sync.NewCond(&line.mutex)
	return line
}

// push takes one event; it waits for room. done is called once, with the reason if the event was not handled.
func (l *eventLine) push(event Event, bytes int, done func(failure error)) {
	l.mutex.Lock()
	for !l.closed && (len(l.waiting) >= maxWaiting || l.bytes >= maxWaitingBytes) {
		l.changed.Wait()
	}
	if l.closed {
		l.mutex.Unlock()
		done(errEnding)
		return
	}
	l.waiting = append(l.waiting, waitingEvent{event, bytes, done})
	l.bytes += bytes
	l.changed.Broadcast()
	l.mutex.Unlock()
}

// run works the line off until it is closed and empty.
func (l *eventLine) run() {
	defer close(l.idle)
	for {
		next, ok := l.next()
		if !ok {
			return
		}
		next.done(l.one(next.event))
		l.mutex.Lock()
		l.bytes -= next.bytes
		l.changed.Broadcast()
		l.mutex.Unlock()
	}
}

func (l *eventLine) next() (waitingEvent, bool) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	for len(l.waiting) == 0 {
		if l.closed {
			return waitingEvent{}, false
		}
		l.changed.Wait()
	}
	next := l.waiting[0]
	l.waiting = l.waiting[1:]
	return next, true
}

// close takes in nothing more and waits until what is in the line was handled. It returns whether that was in time. Where the
// line was never run, nothing is handled, and the host sends it again to the next start.
func (l *eventLine) close(patience time.Duration, isRun bool) bool {
	l.mutex.Lock()
	l.closed = true
	l.changed.Broadcast()
	l.mutex.Unlock()
	if !isRun {
		return true
	}
	select {
	case <-l.idle:
		return true
	case <-time.After(patience):
		return false
	}
}

// one has an event handled, in its time. A handler that takes longer goes on beside the next event; how it ends can no longer
// be told to the host.
func (l *eventLine) one(event Event) error {
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- guarded(ctx, l.handle, event) }()
	select {
	case failure := <-ended:
		if failure != nil {
			logFailure("an event was not handled", event, failure)
		}
		return failure
	case <-ctx.Done():
		failure := fmt.Errorf("the handler took longer than %s", l.timeout)
		logFailure("an event was not handled", event, failure)
		go func() {
			if late := <-ended; late != nil {
				logFailure("an event failed after its time", event, late)
			}
		}()
		return failure
	}
}

// guarded turns a panic into a failure.
func guarded(ctx context.Context, handle EventHandler, event Event) (failure error) {
	defer func() {
		if reason := recover(); reason != nil {
			Logger().Error("a handler panicked", "event_id", event.ID, "error", fmt.Sprint(reason), "stack", string(debug.Stack()))
			failure = fmt.Errorf("panic: %v", reason)
		}
	}()
	return handle(ctx, event)
}

func logFailure(what string, event Event, failure error) {
	Logger().Error(what, "event_id", event.ID, "event_type", event.Type, "error", failure.Error())
}

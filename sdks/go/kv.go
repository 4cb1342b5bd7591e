package temps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// KV is the plugin's key-value storage: small JSON values that the host keeps, each plugin its own. A value has 64 KiB of JSON at
// most, a key 256 bytes, all together 10 MiB in 10,000 entries. A write is durable when its call returns.
//
// When a call fails it returns a [*ChannelError]: with [CodeConflict] and the present Revision when the entry has another revision
// than expected, with [CodeQuotaExceeded] when it would be more than the plugin may keep.
type KV struct{ channel *channel }

// Entry is one entry of the storage.
type Entry struct {
	Key string `json:"key" wire:"required"`
	// Value is its value; nil in a page without values. Decode reads it.
	Value json.RawMessage `json:"value,omitempty"`
	// Revision grows with each write; give it to [PutOptions].
	Revision int64 `json:"revision" wire:"required"`
	// ExpiresAt is when it ends, if it does.
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// Decode reads the value, by the rules of [json.Unmarshal].
func (e Entry) Decode(into any) error { return json.Unmarshal(e.Value, into) }

// Page is one page of entries.
type Page struct {
	// Entries may be fewer than the limit.
	Entries []Entry `json:"entries" wire:"required"`
	// Cursor is where the next page begins; empty after the last.
	Cursor string `json:"cursor,omitempty"`
}

// PutOptions is how an entry is written.
type PutOptions struct {
	// TTL ends the entry after that time, rounded up to whole seconds, ten years at most; 0 keeps it.
	TTL time.Duration
	// IfRevision writes only if the entry still has this revision; 0: if it does not exist. nil writes in any case.
	IfRevision *int64
}

// ListOptions is what a page shall hold.
type ListOptions struct {
	// Prefix leaves out keys that do not begin with it.
	Prefix string
	// Limit is 1 to 1000; 0 stands for 100.
	Limit int
	// Cursor is that of the page before.
	Cursor string
	// Values asks for the values, too.
	Values bool
}

// Revision is a revision for [PutOptions] and [KV.Delete].
func Revision(revision int64) *int64 { return &revision }

// Entry is one entry with its revision. Where there is none, or when it has ended, [IsNotFound] says so of the error.
func (kv KV) Entry(ctx context.Context, key string) (Entry, error) {
	return ask[Entry](ctx, kv.channel, "kv_get", map[string]any{"key": key})
}

// Get reads the value of one entry into a value, and says whether there is one.
func (kv KV) Get(ctx context.Context, key string, into any) (bool, error) {
	entry, err := kv.Entry(ctx, key)
	if IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, entry.Decode(into)
}

// Put writes an entry and returns its new revision. Of several that expect the same revision, one succeeds.
func (kv KV) Put(ctx context.Context, key string, value any, options PutOptions) (int64, error) {
	params := map[string]any{"key": key, "value": value}
	if options.TTL < 0 {
		return 0, errors.New("temps: a TTL is not negative")
	}
	if options.TTL > 0 {
		params["ttl"] = int64((options.TTL + time.Second - 1) / time.Second)
	}
	if options.IfRevision != nil {
		params["revision"] = *options.IfRevision
	}
	type written struct {
		Revision int64 `json:"revision" wire:"required"`
	}
	result, err := ask[written](ctx, kv.channel, "kv_put", params)
	return result.Revision, err
}

// Delete deletes an entry, with a revision only if it still has that one. It returns whether it was there.
func (kv KV) Delete(ctx context.Context, key string, ifRevision *int64) (bool, error) {
	params := map[string]any{"key": key}
	if ifRevision != nil {
		params["revision"] = *ifRevision
	}
	type deleted struct {
		Deleted bool `json:"deleted" wire:"required"`
	}
	result, err := ask[deleted](ctx, kv.channel, "kv_delete", params)
	return result.Deleted, err
}

// Keys is the keys that begin with prefix, in the order of their bytes.
func (kv KV) Keys(ctx context.Context, prefix string) ([]string, error) {
	var keys []string
	err := kv.all(ctx, prefix, false, func(entry Entry) { keys = append(keys, entry.Key) })
	return keys, err
}

// List is the entries whose keys begin with prefix, with their values, in the order of the bytes of their keys.
func (kv KV) List(ctx context.Context, prefix string) ([]Entry, error) {
	var entries []Entry
	err := kv.all(ctx, prefix, true, func(entry Entry) { entries = append(entries, entry) })
	return entries, err
}

// Page is one page of entries; without Values they have none.
func (kv KV) Page(ctx context.Context, options ListOptions) (Page, error) {
	params := map[string]any{"prefix": options.Prefix, "values": options.Values}
	if options.Limit != 0 {
		params["limit"] = options.Limit
	}
	if options.Cursor != "" {
		params["cursor"] = options.Cursor
	}
	return ask[Page](ctx, kv.channel, "kv_list", params)
}

// all goes through all pages. The quota bounds them.
func (kv KV) all(ctx context.Context, prefix string, values bool, each func(Entry)) error {
	options := ListOptions{Prefix: prefix, Values: values}
	for {
		page, err := kv.Page(ctx, options)
		if err != nil {
			return fmt.Errorf("listing %q: %w", prefix, err)
		}
		for _, entry := range page.Entries {
			each(entry)
		}
		if page.Cursor == "" {
			return nil
		}
		options.Cursor = page.Cursor
	}
}

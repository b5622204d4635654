package offline

import (
	"time"

	"linecard.example/internal/config"
	"linecard.example/internal/stanza"
)

// Config is the offline section of a configuration. The zero value is not valid: start from DefaultConfig. Bytes per group are per
// queue/N group of this process.
type Config struct {
	// QueueEntries is how many messages and receipts wait for one device at most; more are refused queue_full. Default 10000.
	// Raising it lets devices stay away longer and costs disk.
	QueueEntries int `toml:"queue_entries"`
	// QueueBytes is the same in bytes of ciphertext, 64 more counted for each entry. Default 64MiB.
	QueueBytes config.Size `toml:"queue_bytes"`
	// Cache is the memory for waiting messages per group; above it the heaviest queues go to disk. Default 32MiB. Raising it
	// saves reads when devices come back, and writes when they come back soon.
	Cache config.Size `toml:"cache"`
	// QueueCache is how many idle queues a group keeps in memory, about 350 bytes each. Default 4096. A device
	// that is attached and has nothing waiting needs none. Those that had a message stay until it is flushed, half a minute at most.
	QueueCache int `toml:"queue_cache"`
	// StreamCache is how many last ids of streams a group keeps in memory, about 50 bytes each. Default 32768.
	StreamCache int `toml:"stream_cache"`
	// WriteAheadAge is how long a message waits in memory only; then it is written to tables, to be ready for a flush. Default 20s.
	// Raising it spares writes for devices that come back within it, and makes flushes longer.
	WriteAheadAge config.Duration `toml:"write_ahead_age"`
	// WindowEntries is how many unacknowledged deliveries a device may have. Default 32. Raising it helps long fat links.
	WindowEntries int `toml:"window_entries"`
	// WindowBytes is the same in bytes. Default 256KiB.
	WindowBytes config.Size `toml:"window_bytes"`
	// Unresponsive is how long a device may leave deliveries unacknowledged before its session is closed. Default 45s.
	Unresponsive config.Duration `toml:"unresponsive"`
	// Retention is how long a message waits for its device. Default 720h (30 days).
	Retention config.Duration `toml:"retention"`
	// StreamRetention is how long the last id of a stream outlives the stream's messages. Default 720h. It must cover how long
	// clients keep unacknowledged messages (29 days).
	StreamRetention config.Duration `toml:"stream_retention"`
	// TombstoneRetention is how long messages for an unlinked device are answered stale_devices. Default 720h.
	TombstoneRetention config.Duration `toml:"tombstone_retention"`
	// ReceiptRetention is how long handing over a delivered receipt is tried. Default 168h (7 days).
	ReceiptRetention config.Duration `toml:"receipt_retention"`
	// IdleUnlink is how old the head of a full queue must be for its device to be unlinked. Default 336h (14 days).
	IdleUnlink config.Duration `toml:"idle_unlink"`
	// Sweep is the time between two passes of expiry over the queues of a group. Default 1h. Expired messages stay so much longer.
	Sweep config.Duration `toml:"sweep"`
	// StreamSweep is the same for last ids of streams. Default 24h.
	StreamSweep config.Duration `toml:"stream_sweep"`
	// SweepSlice is how many queues or streams one log entry of a pass covers. Default 1000. Raising it makes single entries slower.
	SweepSlice int `toml:"sweep_slice"`
	// RetryAfter is what clients are told to wait after busy, unavailable and unknown outcomes. Default 1s.
	RetryAfter config.Duration `toml:"retry_after"`
	// FullRetryAfter is what they are told to wait after queue_full and storage_full. Default 30s.
	FullRetryAfter config.Duration `toml:"full_retry_after"`
}

const day = 24 * time.Hour

// DefaultConfig returns the defaults that `up` runs with.
func DefaultConfig() Config {
	return Config{
		QueueEntries: 10000, QueueBytes: 64 << 20,
		Cache: 32 << 20, QueueCache: 4096, StreamCache: 32768,
		WriteAheadAge: config.Duration(20 * time.Second),
		WindowEntries: 32, WindowBytes: 256 << 10,
		Unresponsive:       config.Duration(45 * time.Second),
		Retention:          config.Duration(30 * day),
		StreamRetention:    config.Duration(30 * day),
		TombstoneRetention: config.Duration(30 * day),
		ReceiptRetention:   config.Duration(7 * day),
		IdleUnlink:         config.Duration(14 * day),
		Sweep:              config.Duration(time.Hour),
		StreamSweep:        config.Duration(day),
		SweepSlice:         1000,
		RetryAfter:         config.Duration(time.Second),
		FullRetryAfter:     config.Duration(30 * time.Second),
	}
}

// Validate returns every fault of c, nil when there is none.
func (c Config) Validate() []error {
	f := config.NewFaults("offline.")
	f.Count("queue_entries", c.QueueEntries, 64, 1<<20)
	f.Size("queue_bytes", c.QueueBytes, 1<<20, 16<<30)
	f.Size("cache", c.Cache, 64<<10, 1<<40)
	f.Count("queue_cache", c.QueueCache, 256, 1<<28)
	f.Count("stream_cache", c.StreamCache, 256, 1<<28)
	f.Span("write_ahead_age", c.WriteAheadAge, 100*time.Millisecond, time.Hour)
	f.Count("window_entries", c.WindowEntries, 1, 100)
	f.Size("window_bytes", c.WindowBytes, stanza.MaxFrame, 504<<10)
	f.Span("unresponsive", c.Unresponsive, time.Second, time.Hour)
	f.Span("retention", c.Retention, time.Minute, 366*day)
	f.Span("stream_retention", c.StreamRetention, time.Minute, 366*day)
	f.Span("tombstone_retention", c.TombstoneRetention, time.Minute, 366*day)
	f.Span("receipt_retention", c.ReceiptRetention, time.Minute, 366*day)
	f.Span("idle_unlink", c.IdleUnlink, time.Minute, 366*day)
	f.Span("sweep", c.Sweep, time.Second, 7*day)
	f.Span("stream_sweep", c.StreamSweep, time.Second, 30*day)
	f.Count("sweep_slice", c.SweepSlice, 1, 100000)
	f.Span("retry_after", c.RetryAfter, 10*time.Millisecond, 10*time.Minute)
	f.Span("full_retry_after", c.FullRetryAfter, 10*time.Millisecond, time.Hour)
	return f.List()
}

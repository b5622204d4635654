package shard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/vfs"
	"github.com/prometheus/client_golang/prometheus"
)

// DiskConfig says what is kept free on a disk. Dir is required; every other zero value means none or its default.
type DiskConfig struct {
	Dir  string // on the disk, exists; holds the ballast file
	FS   vfs.FS // nil: the disk
	Name string // for logs and metrics: "data"

	FloorPercent int           // share of the disk that new messages leave free
	Floor        int64         // bytes, if they are more than that; at most a quarter of the disk counts
	Ballast      int64         // bytes given up when the disk is full; at most a sixteenth of the disk counts
	Every        time.Duration // between two looks of Run; 0: 1 s

	Logger     *slog.Logger          // nil: discards
	Registerer prometheus.Registerer // nil: no metrics; names begin with disk_, for the caller to prefix
}

// Disk watches the free space of one file system and holds a ballast file on it. Below the floor what grows state should be refused;
// the databases themselves go on, since acks, expiry and compaction need room to give room back. When even that room is used up, the
// ballast goes. Safe for concurrent use.
type Disk struct {
	cfg     DiskConfig
	fs      vfs.FS
	log     *slog.Logger
	metrics diskMetrics
	low     atomic.Bool

	mu       sync.Mutex
	usage    vfs.DiskUsage // of the last look
	ballast  int64         // bytes of the file; 0: there is none
	released bool          // it was given up, and is not back yet: there is no reserve, so new messages stay refused
	blind    bool          // the last look failed
	dry      bool          // it was said that there is no reserve
	failed   bool          // the last attempt at a ballast failed
}

// DiskStatus is what a Disk knows, for readiness and metrics.
type DiskStatus struct {
	Name                        string
	Low                         bool
	Free, Total, Floor, Ballast int64 // bytes
}

// OpenDisk takes a first look and makes the ballast if there is room for it. A ballast that is damaged is made again: nothing is in it.
func OpenDisk(cfg DiskConfig) (*Disk, error) {
	if cfg.FS == nil {
		cfg.FS = vfs.Default
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	defaulted(&cfg.Every, time.Second)
	d := &Disk{cfg: cfg, log: cfg.Logger.With("disk", cfg.Name)}
	d.fs = vfs.OnDiskFull(cfg.FS, d.full)
	var err error
	if d.metrics, err = newDiskMetrics(cfg.Registerer, cfg.Name); err != nil {
		return nil, err
	}
	if d.usage, err = cfg.FS.GetDiskUsage(cfg.Dir); err != nil {
		return nil, fmt.Errorf("shard: free space of %s: %w", cfg.Dir, err)
	}
	d.ballast = d.findBallast()
	d.Check()
	return d, nil
}

// Run looks at the disk until ctx ends.
func (d *Disk) Run(ctx context.Context) {
	tick := time.NewTicker(d.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.Check()
		}
	}
}

// FS returns the file system for what lives on this disk: a write that finds no space releases the ballast and is tried again.
func (d *Disk) FS() vfs.FS { return d.fs }

// Low reports whether what grows state is to be refused. It costs one atomic load. A nil Disk is never low.
func (d *Disk) Low() bool { return d != nil && d.low.Load() }

// Status returns what the last look found.
func (d *Disk) Status() DiskStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	return DiskStatus{
		Name: d.cfg.Name, Low: d.low.Load(), Free: int64(d.usage.AvailBytes), Total: int64(d.usage.TotalBytes), Floor: d.floor(), Ballast: d.ballast,
	}
}

// Check looks at the disk once. A look that fails changes nothing.
func (d *Disk) Check() {
	usage, err := d.cfg.FS.GetDiskUsage(d.cfg.Dir)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		if !d.blind {
			d.log.Error("the free space cannot be read; what was known last counts", "dir", d.cfg.Dir, "err", err)
		}
		d.blind = true
		return
	}
	d.blind, d.usage = false, usage
	d.restoreBallast()
	free, floor := int64(d.usage.AvailBytes), d.floor()
	switch low := d.low.Load(); {
	case !low && free < floor:
		d.low.Store(true)
		d.logSpace(slog.LevelError, "below the free-space floor: new messages are refused storage_full")
	case low && !d.released && free >= floor+slack(floor):
		d.low.Store(false)
		d.dry = false
		d.logSpace(slog.LevelInfo, "above the free-space floor: new messages are taken again")
	}
	d.publish()
}

// full is called by a write that found no space; all writes wait for it.
func (d *Disk) full() {
	if d.foundFull() == 0 {
		time.Sleep(fullPause) // without the lock: whoever looks at the disk must see space come back
	}
}

// foundFull gives up the ballast and returns how many bytes it had.
func (d *Disk) foundFull() (had int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.metrics.full.Inc()
	d.low.Store(true)
	had = d.ballast
	d.releaseBallast()
	if usage, err := d.cfg.FS.GetDiskUsage(d.cfg.Dir); err == nil {
		d.usage = usage
	}
	switch {
	case had > 0:
		d.logSpace(slog.LevelError, "the disk is full: its ballast was released, new messages are refused storage_full; free space now", "released", had)
	case !d.dry:
		d.dry = true
		d.logSpace(slog.LevelError, "the disk is full and has no ballast: free space now, or this process ends")
	}
	d.publish()
	return had
}

// fullPause holds up writes on a disk that is full and has no ballast: Pebble repeats what failed at once, without end.
const fullPause = 20 * time.Millisecond

// logSpace logs a transition with its figures, in bytes.
func (d *Disk) logSpace(level slog.Level, what string, more ...any) {
	args := []any{"dir", d.cfg.Dir, "free", d.usage.AvailBytes, "floor", d.floor(), "total", d.usage.TotalBytes, "ballast", d.ballast}
	d.log.Log(context.Background(), level, what, append(args, more...)...)
}

func (d *Disk) publish() {
	d.metrics.free.Set(float64(d.usage.AvailBytes))
	d.metrics.floor.Set(float64(d.floor()))
	d.metrics.ballast.Set(float64(d.ballast))
	low := 0.0
	if d.low.Load() {
		low = 1
	}
	d.metrics.low.Set(low)
}

// floor returns the bytes to leave free. A disk of less than four times the configured bytes keeps a quarter: it is meant to be used.
func (d *Disk) floor() int64 {
	total := int64(d.usage.TotalBytes)
	return max(total/100*int64(d.cfg.FloorPercent), min(d.cfg.Floor, total/4))
}

// slack is how far above the floor free space must rise before messages are taken again, so that the border is not crossed with each
// compaction.
func slack(floor int64) int64 { return floor / 8 }

// smallDisk returns limit for a disk of at least full bytes, and in proportion less for a smaller one, but at least least. It keeps
// what the databases hold beside their content, such as logs that wait for reuse, a small part of any disk.
func (d *Disk) smallDisk(limit, full, least int64) int64 {
	if d == nil {
		return limit
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	total := int64(d.usage.TotalBytes)
	if total >= full {
		return limit
	}
	return max(least, int64(float64(limit)*float64(total)/float64(full)))
}

// StorageFull reports whether the host's disk is below its floor. Safe for concurrent use; it costs an atomic load.
func (h *Host) StorageFull() bool { return h.cfg.Disk.Low() }

// diskMetrics are the gauges of one disk.
type diskMetrics struct {
	free, floor, ballast, low prometheus.Gauge
	full                      prometheus.Counter
}

func newDiskMetrics(r prometheus.Registerer, name string) (diskMetrics, error) {
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "disk_" + name, Help: help}, []string{"disk"})
	}
	free, floor := gauge("free_bytes", "Bytes that the process may still use on the disk."), gauge("floor_bytes", "Free bytes below which new messages are refused.")
	ballast, low := gauge("ballast_bytes", "Bytes of the ballast file; 0: none, released or no room."), gauge("low", "1 while new messages are refused storage_full, else 0.")
	full := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "disk_full_total", Help: "Times that a write found no space at all."}, []string{"disk"})
	if r != nil {
		if err := errors.Join(register(r, &free), register(r, &floor), register(r, &ballast), register(r, &low), register(r, &full)); err != nil {
			return diskMetrics{}, fmt.Errorf("shard: registering metrics: %w", err)
		}
	}
	return diskMetrics{
		free: free.WithLabelValues(name), floor: floor.WithLabelValues(name), ballast: ballast.WithLabelValues(name), low: low.WithLabelValues(name),
		full: full.WithLabelValues(name),
	}, nil
}

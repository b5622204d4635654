package bench

import (
	"cmp"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"linecard.example/bench/report"
	"linecard.example/bench/swarm"
)

// restartMessages is how many messages wait when an offline process is killed.
const restartMessages = 1_000_000

// replay stores messages for users who are away, kills an offline process and measures how long it takes until it has what it had. How much
// it has to fold again is what its log has behind its tables; the check of its directory tells that while nothing runs in it.
func (r *run) replay(all swarm.Range) error {
	pairs := all.Count / 2
	each := max(1, cmp.Or(r.o.Messages, restartMessages)/pairs)
	if err := r.leave(swarm.Range{From: 1, Count: all.Count - 1, Step: 2}); err != nil {
		return err
	}
	from := time.Now()
	l, err := r.load("store", swarm.Pairs{Range: all, Size: loadSize, InFlight: 32, Messages: each, Blind: true})
	if err != nil {
		return err
	}
	if want := uint64(pairs * each); l.traffic.Acked != want {
		return fmt.Errorf("%w: %d of %d stored", errLost, l.traffic.Acked, want)
	}
	took := time.Since(from)
	r.rec.pause()
	defer r.rec.resume()
	d := r.sys.daemon("offline-1")
	d.kill()
	entries, last, err := r.entriesToFold(d)
	if err != nil {
		return err
	}
	from = time.Now()
	if err := d.start(); err != nil {
		return err
	}
	if err := d.ready(r.ctx); err != nil {
		return err
	}
	for applied := 0.0; applied < float64(last); {
		m, err := scrape(d.admin)
		if err != nil {
			return err
		}
		if applied = m.sum("linecard_offline_shard_applied_index"); time.Since(from) > readyLimit {
			return fmt.Errorf("%w: %.0f of %d entries are folded", errOptions, applied, last)
		}
	}
	restart := time.Since(from)
	perPack := l.inner["commands"] / max(l.inner["packs"], 1e-9)
	r.add(report.Figure{Key: "stored", Name: "messages stored on three disks each, for users who are away", Value: float64(l.traffic.Acked)})
	r.add(report.Figure{Key: "stored_cpu_us", Name: "  CPU of all seven processes for each", Unit: "us", Samples: l.cpu(), Goal: goalReplicated, Better: report.Less})
	r.add(report.Figure{Key: "stored_rate", Name: "  messages per second", Unit: "/s", Value: float64(l.traffic.Acked) / took.Seconds(), Better: report.More})
	r.add(report.Figure{Key: "restart_packs", Name: "entries of the log that an offline process that was killed had to fold again", Value: float64(entries)})
	r.add(report.Figure{Key: "restart_commands", Name: "  messages and acks in them, by the packs' mean", Value: float64(entries) * perPack})
	r.add(report.Figure{Key: "restart_s", Name: "  from its start until they were folded", Unit: "s", Value: restart.Seconds(), Better: report.Less})
	return r.balanced(false)
}

var errFsck = errors.New("bench: fsck")

// entriesToFold counts the entries of a process's logs behind what its tables have, and adds up where the logs end. The process is not
// running.
func (r *run) entriesToFold(d *daemon) (n, ends uint64, err error) {
	out, err := exec.CommandContext(r.ctx, r.o.Exe, "fsck", "--data", d.data).CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %w: %.2000s", errFsck, err, out)
	}
	for line := range strings.Lines(string(out)) {
		var group string
		var flushed, last uint64
		if _, err := fmt.Sscanf(line, "%s flushed %d last %d", &group, &flushed, &last); err != nil {
			continue
		}
		ends += last
		if last > flushed {
			n += last - flushed
		}
	}
	return n, ends, nil
}

package node

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"linecard.example/internal/admin"
	"linecard.example/internal/config"
	"linecard.example/internal/shard"
)

// DiskConfig says what a router or offline process leaves free on the disk of its data directory. Below that floor messages,
// registrations and new devices are refused storage_full; deliveries, acks and expiry go on.
type DiskConfig struct {
	// FloorPercent is the floor as a share of the disk, 0 to 50, default 5. Raising it pages you earlier.
	FloorPercent int `toml:"floor_percent"`
	// Floor is the floor in bytes if they are more than that share, but never more than a quarter of the disk. 0: the share alone.
	// Default 1GiB. It must hold what compaction needs for a while: logs and tables that are written anew before the old ones go.
	Floor config.Size `toml:"floor"`
	// Ballast is the size of a file in the data directory that is removed when the disk is full all the same, so that deliveries and
	// acks can go on; at most a sixteenth of the disk. 0: none. Default 64MiB.
	Ballast config.Size `toml:"ballast"`
	// Check is the time between two looks at the free space, 10ms to 1m, default 1s. What is written within it may pass the floor.
	Check config.Duration `toml:"check"`
}

func (c DiskConfig) validate(f config.Faults) {
	f.Count("disk.floor_percent", c.FloorPercent, 0, 50)
	f.Size("disk.floor", c.Floor, 0, 1<<50)
	f.Size("disk.ballast", c.Ballast, 0, 1<<40)
	f.Span("disk.check", c.Check, 10*time.Millisecond, time.Minute)
}

// openDisk returns the disk that a daemon's databases live on: that of the data directory, unless the daemon's own directory is a mount
// point.
func (n *Node) openDisk(dir string, role Role) (*shard.Disk, error) {
	name := "data"
	if other, err := otherDevice(n.cfg.Data, dir); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	} else if !other {
		dir = n.cfg.Data
	} else {
		name = string(role)
	}
	for _, d := range n.disks {
		if d.Status().Name == name {
			return d, nil
		}
	}
	d, err := shard.OpenDisk(shard.DiskConfig{
		Dir: dir, Name: name, FloorPercent: n.cfg.Disk.FloorPercent, Floor: int64(n.cfg.Disk.Floor), Ballast: int64(n.cfg.Disk.Ballast),
		Every: n.cfg.Disk.Check.D(), Logger: n.log, Registerer: prometheus.WrapRegistererWithPrefix("linecard_", n.reg),
	})
	if err == nil {
		n.disks = append(n.disks, d)
	}
	return d, err
}

// otherDevice reports whether dir exists on another device than data.
func otherDevice(data, dir string) (bool, error) {
	a, err := os.Stat(data)
	if err != nil {
		return false, err
	}
	b, err := os.Stat(dir)
	if os.IsNotExist(err) {
		return false, nil
	}
	return err == nil && deviceOf(a) != deviceOf(b), err
}

func deviceOf(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Dev
	}
	return 0
}

// warnings lists what an operator should see to while the process serves on. A full disk is none of the reasons to send clients
// elsewhere: those that come fetch what waits for them, which is how space comes back.
func (n *Node) warnings(now time.Time) []admin.Fault {
	all := append(n.certificateWarning(now), n.missingLinks(n.hearerLinks())...)
	if n.cluster != nil {
		all = append(append(all, n.cluster.warnings()...), n.missingLinks(n.rosterLinks())...)
	}
	for _, d := range n.disks {
		if s := d.Status(); s.Low {
			all = append(all, admin.Fault{Name: "disk " + s.Name, Why: fmt.Sprintf(
				"new messages are refused storage_full: %d bytes free of %d, floor %d, ballast %d", s.Free, s.Total, s.Floor, s.Ballast)})
		}
	}
	return all
}

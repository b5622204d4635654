package testkit

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"linecard.example/gateway/client"
)

// smallDisk is the size of the file system of the disk tests. A quarter of it is the floor, a sixteenth the ballast.
const smallDisk = 96 << 20

// inSmallDisk runs the test again, as a process in a mount namespace of its own, where everything that it writes is on a tmpfs of
// smallDisk bytes. It returns true in that process. In the first one it reports what the other said. A machine that lets neither root
// nor a user namespace mount skips the test, with the refusal.
func inSmallDisk(t *testing.T) bool {
	t.Helper()
	if os.Getenv("LINECARD_SMALL_DISK") != "" {
		mountSmallDisk(t)
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v", "-test.timeout", "5m")
	cmd.Env = append(os.Environ(), "LINECARD_SMALL_DISK=1", "LINECARD_BINARY="+Binary(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	switch {
	case cmd.ProcessState == nil:
		t.Skipf("no process with a mount namespace of its own as user %d: %v", os.Geteuid(), err)
	case bytes.Contains(out, []byte("--- SKIP: "+t.Name())):
		t.Skipf("%s", out)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	default:
		t.Logf("%s", out)
	}
	return false
}

// mountSmallDisk puts the temporary directory of this process on a file system of its own.
func mountSmallDisk(t *testing.T) {
	t.Helper()
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Skipf("making the mounts private: %v", err)
	}
	dir, err := os.MkdirTemp("", "linecard-small-") // not the test's own, which must be on it
	must(t, err)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", smallDisk)); err != nil {
		t.Skipf("mounting a tmpfs of %d bytes: %v", smallDisk, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
		must(t, os.Remove(dir))
	})
	t.Setenv("TMPDIR", dir)
}

// hoard is a system on a small disk with senders that never stop and receivers that are away.
type hoard struct {
	*System
	t         *testing.T
	h         *History
	senders   []*Device
	receivers []*Device // closed: they have accounts and queues
	running   sync.WaitGroup
	stop      atomic.Bool
	pause     atomic.Bool
}

const (
	hoardPairs = 3
	hoardBody  = 24 << 10
)

func newHoard(t *testing.T) *hoard {
	set := Settings{
		Gateway: crowd,
		Offline: "full_retry_after = \"200ms\"\n", Router: "full_retry_after = \"200ms\"\nstranger_rate = 1e6\nstranger_burst = 1000000\n",
		Disk: "check = \"50ms\"\n",
	}
	x := &hoard{System: Start(t, Together, set), t: t, h: NewHistory()}
	for i := range hoardPairs {
		x.senders = append(x.senders, x.NewDevice(fmt.Sprintf("sender%d", i), x.h, DeviceOptions{}))
		d := x.NewDevice(fmt.Sprintf("receiver%d", i), x.h, DeviceOptions{Quiet: true})
		d.Close()
		x.receivers = append(x.receivers, d)
	}
	return x
}

// gibberish returns a text that does not compress.
func gibberish(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	b := make([]byte, n)
	for i := range b {
		b[i] = letters[rand.IntN(len(letters))]
	}
	return string(b)
}

// fill starts to send to every receiver, without an end.
func (x *hoard) fill() {
	for i, d := range x.senders {
		to := x.receivers[i].Name
		x.running.Go(func() {
			var waiting []*client.Sent
			for !x.stop.Load() || len(waiting) > 0 {
				for x.pause.Load() {
					time.Sleep(time.Millisecond) // until the test lets it go on
				}
				if !x.stop.Load() {
					sent, err := d.Say(to, gibberish(hoardBody))
					if err != nil {
						x.t.Errorf("%s: %v", d.Name, err)
						return
					}
					waiting = append(waiting, sent)
				}
				if len(waiting) >= 8 || x.stop.Load() {
					if err := d.Acked(to, waiting[0]); err != nil {
						x.t.Errorf("%s: %v", d.Name, err)
						return
					}
					waiting = waiting[1:]
				}
			}
		})
	}
}

// comeBack opens the receivers again: they drain their queues.
func (x *hoard) comeBack() {
	for i, d := range x.receivers {
		x.receivers[i] = x.NewDevice(d.Name, x.h, DeviceOptions{Home: d.Home})
	}
}

// settle stops the senders, waits for the acks of all they sent, and judges.
func (x *hoard) settle() {
	x.stop.Store(true)
	x.running.Wait()
	devices := map[string][]string{}
	for _, d := range x.receivers {
		devices[d.Name] = []string{d.Label()}
	}
	x.h.Judge(x.t, devices)
	sent, acked, got := x.h.Totals()
	x.t.Logf("sent %d, acked %d, received %d messages of %d bytes", sent, acked, got, hoardBody)
}

func (x *hoard) metric(name string) float64 { return x.Metrics("up").Sum(name) }

const fullRefusals = `linecard_offline_refusals_total{reason="storage_full"}`

// TestSmallDisk fills a small disk with queued messages through the protocol: at the floor new messages, registrations and devices are
// refused storage_full, what was acked is kept; every queue is drained, the space comes back, and what was refused is taken. Sessions that
// exchange messages meanwhile are held up and not closed, and lose nothing.
func TestSmallDisk(t *testing.T) {
	if !inSmallDisk(t) {
		return
	}
	x := newHoard(t)
	crowd := x.NewCrowd(CrowdOptions{})
	x.fill()
	Eventually(t, "the disk is full to its floor", func() bool { return x.metric(fullRefusals) > 0 })
	_, acked, _ := x.h.Totals()
	if acked*hoardBody < smallDisk/8 {
		t.Errorf("refused after %d messages of %d bytes on a disk of %d", acked, hoardBody, smallDisk)
	}
	// Compactions give some back for a while: the border is crossed several times before it stays low.
	Eventually(t, "/readyz warns and still sends clients", func() bool {
		status, page := x.Get("up", "/readyz")
		return status == http.StatusOK && strings.Contains(page, "storage_full") && x.metric("linecard_disk_low") == 1
	})
	if n := x.metric("linecard_disk_ballast_bytes"); n != smallDisk/16 {
		t.Errorf("ballast of %v bytes", n)
	}
	x.registrationRefused()
	before := x.metric("linecard_disk_free_bytes")
	x.comeBack()
	Eventually(t, "every queue is drained and space is back", func() bool {
		return x.metric("linecard_disk_low") == 0 && x.metric(`linecard_disk_free_bytes`) > before
	})
	x.NewDevice("newcomer", x.h, DeviceOptions{})
	_, again, _ := x.h.Totals()
	Eventually(t, "messages are taken again", func() bool { _, n, _ := x.h.Totals(); return n > again+20 })
	crowd.Turn()
	x.settle()
	crowd.Finish()
	x.stopInOrder("below the free-space floor", "above the free-space floor")
}

// registrationRefused registers somebody new until one is told why not and when to come back.
func (x *hoard) registrationRefused() {
	x.t.Helper()
	before := x.metric(`linecard_gateway_handshakes_total{result="storage_full"}`)
	var seen atomic.Bool
	x.running.Go(func() {
		for i := 0; !seen.Load(); i++ {
			if d, err := x.OpenDevice(fmt.Sprintf("patient%d", i), nil, DeviceOptions{}); err != nil {
				x.t.Errorf("the registration that was put off: %v", err)
			} else {
				d.Close()
			}
		}
	})
	Eventually(x.t, "a registration is refused storage_full", func() bool {
		return x.metric(`linecard_gateway_handshakes_total{result="storage_full"}`) > before
	})
	seen.Store(true)
}

// stopInOrder ends the process and looks for lines of its log.
func (x *hoard) stopInOrder(lines ...string) {
	x.t.Helper()
	if code, err := x.Process("up").Stop(60 * time.Second); code != 0 || err != nil {
		x.t.Errorf("exit code %d, %v", code, err)
	}
	for _, want := range lines {
		if n := strings.Count(x.Process("up").Output(), want); n == 0 {
			x.t.Errorf("the log says %q %d times", want, n)
		}
	}
}

// TestFullDisk has somebody else use up the disk to its last byte: the ballast goes, acks and deliveries go on, also after the process
// was killed and started again on the full disk; with space back, the ballast is there again and messages are taken.
func TestFullDisk(t *testing.T) {
	if !inSmallDisk(t) {
		return
	}
	x := newHoard(t)
	x.fill()
	Eventually(t, "some messages wait", func() bool { _, n, _ := x.h.Totals(); return n > 90 }) // a compaction of them fits into the ballast
	x.pause.Store(true)
	foreign := eatDisk(t, filepath.Join(x.Dir, "foreign"))
	x.pause.Store(false)
	Eventually(t, "messages are refused", func() bool { return x.metric(fullRefusals) > 0 })
	x.comeBack()
	x.drained() // logs that are used again may have had room enough for it
	x.Process("up").Kill()
	x.StartAll() // takes new files
	if n := x.metric("linecard_disk_ballast_bytes"); n != 0 {
		t.Errorf("started on a full disk with a ballast of %v bytes", n)
	}
	for _, d := range append(x.senders, x.receivers...) {
		d.Hurry()
	}
	if err := os.Remove(foreign); err != nil {
		t.Fatal(err)
	}
	Eventually(t, "the ballast is back", func() bool {
		return x.metric("linecard_disk_ballast_bytes") == smallDisk/16 && x.metric("linecard_disk_low") == 0
	})
	_, again, _ := x.h.Totals()
	Eventually(t, "messages are taken again", func() bool { _, n, _ := x.h.Totals(); return n > again+20 })
	x.settle()
	x.stopInOrder("its ballast was released")
}

// drained waits until the receivers have all that was acked so far.
func (x *hoard) drained() {
	x.t.Helper()
	Eventually(x.t, "every queue is drained", func() bool {
		n := 0
		for _, d := range x.receivers {
			n += x.h.Waiting(d.Name, d.Label())
		}
		return n == 0
	})
}

// eatDisk takes in one go what is free on the disk when nobody writes, so that nothing of the ballast is taken with it: that goes when the
// process finds the disk full.
func eatDisk(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	var before, free int64
	same := 0
	Eventually(t, "the disk is quiet", func() bool {
		var st syscall.Statfs_t
		must(t, syscall.Statfs(path, &st))
		if before, free = free, int64(st.Bavail)*st.Bsize; free != before {
			same = 0
		}
		same++
		return same > 60
	})
	must(t, syscall.Fallocate(int(f.Fd()), 0, 0, free-4<<10))
	return path
}

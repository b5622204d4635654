package testkit

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// groundEnv is set in the process that has the namespaces.
const groundEnv = "LINECARD_FAULT_GROUND"

// enterGround runs the test again, as a process with a network and mounts of its own, where what it changes ends with it and concerns nobody
// else. It returns true where the test is to run: in that process, or here if there may be none.
func enterGround(t *testing.T) bool {
	t.Helper()
	if os.Getenv(groundEnv) != "" || os.Geteuid() != 0 {
		return true
	}
	deadline := "10m"
	if os.Getenv("LINECARD_LONG") != "" {
		deadline = "3h"
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v", "-test.timeout", deadline)
	cmd.Env = append(os.Environ(), groundEnv+"=1", "LINECARD_BINARY="+Binary(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	switch {
	case cmd.ProcessState == nil:
		t.Logf("no process with namespaces of its own: %v", err)
		return true
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	default:
		t.Logf("%s", out)
	}
	return false
}

// newGround lays networks and disks. It ends with the test.
func newGround(t *testing.T) *ground {
	g := &ground{dir: t.TempDir(), hosts: map[string]string{}, disks: map[string]*ownDisk{}, why: map[string]string{}}
	if os.Getenv(groundEnv) == "" {
		g.why["network"] = "needs root, for network namespaces"
		g.why["disk"] = "needs root, for a mount"
		return g
	}
	if err := g.layNetwork(); err != nil {
		clear(g.hosts)
		g.why["network"] = "no networks: " + err.Error()
	}
	if err := g.layDisk(t, "offline-"+diskMachine); err != nil {
		clear(g.disks)
		g.why["disk"] = "no disk: " + err.Error()
	}
	return g
}

// layNetwork makes a network namespace for each machine, connected to this process's, which forwards between them, and where the clients are.
// Addresses are those meant for documentation. Names of namespaces are files below /run, which is this process's own.
func (g *ground) layNetwork() error {
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o600); err != nil {
		return err
	}
	if err := run("ip link set lo up"); err != nil {
		return err
	}
	for i, m := range g.machines() {
		here, there := fmt.Sprintf("192.0.2.%d", 4*i+1), fmt.Sprintf("192.0.2.%d", 4*i+2)
		for _, command := range []string{
			"ip netns add machine" + m,
			"ip link add to" + m + " type veth peer name uplink netns machine" + m,
			"ip addr add " + here + "/30 dev to" + m,
			"ip link set to" + m + " up",
			"ip -n machine" + m + " addr add " + there + "/30 dev uplink",
			"ip -n machine" + m + " link set lo up",
			"ip -n machine" + m + " link set uplink up",
			"ip -n machine" + m + " route add default via " + here,
		} {
			if err := run(command); err != nil {
				return err
			}
		}
		g.hosts[m] = there
	}
	return nil
}

func run(command string) error {
	f := strings.Fields(command)
	if out, err := exec.Command(f[0], f[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", command, err, bytes.TrimSpace(out))
	}
	return nil
}

// cut lets everything vanish that one machine sends to another, until heal.
func (g *ground) cut(t testing.TB, from, to string) {
	t.Helper()
	g.rules++
	must(t, run(fmt.Sprintf("ip rule add pref %d from %s to %s blackhole", 100+g.rules, g.hosts[from], g.hosts[to])))
}

// heal lets everything through again.
func (g *ground) heal(t testing.TB) {
	t.Helper()
	for ; g.rules > 0; g.rules-- {
		must(t, run(fmt.Sprintf("ip rule del pref %d", 100+g.rules)))
	}
}

// layDisk gives a member a disk of its own: an ext4 file system on a file.
func (g *ground) layDisk(t *testing.T, member string) error {
	image, d := filepath.Join(g.dir, member+".img"), &ownDisk{mount: filepath.Join(g.dir, member)}
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(image, diskBytes); err != nil {
		return err
	}
	if err := os.Mkdir(d.mount, 0o700); err != nil {
		return err
	}
	if err := run("mkfs.ext4 -q " + image); err != nil {
		return err
	}
	if err := run("mount -o loop " + image + " " + d.mount); err != nil {
		return err
	}
	t.Cleanup(func() {
		if err := run("umount " + d.mount); err != nil {
			t.Error(err)
		}
		if d.group != "" {
			_ = os.Remove(d.group) // empty but for a process that is about to go
		}
	})
	var st unix.Stat_t
	if err := unix.Stat(d.mount, &st); err != nil {
		return err
	}
	d.device = fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	g.disks[member] = d
	return nil
}

// slow lets a process write to its disk only so many times a second, until it is called with 0. What waits is whoever syncs.
func (g *ground) slow(t testing.TB, member string, p *Process, writes int) {
	t.Helper()
	d := g.disks[member]
	if d.group == "" {
		d.group = fmt.Sprintf("/sys/fs/cgroup/blkio/linecard-%d", os.Getpid())
		if err := os.Mkdir(d.group, 0o700); err != nil {
			t.Skip("no control group that slows a disk: ", err)
		}
	}
	must(t, os.WriteFile(filepath.Join(d.group, "cgroup.procs"), []byte(strconv.Itoa(p.PID())), 0o600))
	must(t, os.WriteFile(filepath.Join(d.group, "blkio.throttle.write_iops_device"), fmt.Appendf(nil, "%s %d", d.device, writes), 0o600))
}

// fill takes all the room that there is on a member's disk but so many bytes; empty gives it back.
func (g *ground) fill(t testing.TB, member string, leave int64) {
	t.Helper()
	f, err := os.Create(filepath.Join(g.disks[member].mount, "filler"))
	must(t, err)
	defer f.Close()
	for size := free(t, g.disks[member].mount) - leave; size >= 4096; {
		if info, err := f.Stat(); err != nil || unix.Fallocate(int(f.Fd()), 0, info.Size(), size) != nil {
			size /= 2
		} else {
			size = free(t, g.disks[member].mount) - leave
		}
	}
}

// free is how many bytes may still be written below dir.
func free(t testing.TB, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	must(t, unix.Statfs(dir, &st))
	return int64(st.Bavail) * st.Bsize
}

func (g *ground) empty(t testing.TB, member string) {
	t.Helper()
	must(t, os.Remove(filepath.Join(g.disks[member].mount, "filler")))
}

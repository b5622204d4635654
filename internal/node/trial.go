package node

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"linecard.example/internal/roster"
)

// Trial is a cluster whose machines are all this one: a router and an offline for each, and a gateway, a process each. It is for a try, and
// for nothing else: the disk that they share is the machine that may not die. OpenTrial makes it or finds it, Run runs it once.
type Trial struct {
	Dir     string   // of everything: DIR/NAME.toml, DIR/NAME with the data, DIR/keys
	Members []string // router-1, offline-1, and so on; the first one founds the cluster

	cfgs  map[string]Config // the gateway's among them
	lock  dirLock
	exe   string
	again time.Duration // until a process that ended is started again
}

const (
	trialMachines = 3
	trialShards   = 4 // fewer than usual: seven processes share one machine, and each group costs all of its replicas
	trialPort     = 17400
	trialPorts    = 100 // between the first ports of two trials
	// trialAgain is how long a machine stays dead: time to see that the others go on.
	trialAgain = 5 * time.Second
)

// OpenTrial makes keys and configurations in dir, or goes on with those that are there. The processes listen on consecutive ports of the
// loopback address from port on, 0: 17400, or the next multiple of a hundred from which on all are free. They are picked once: a
// directory keeps its ports.
func OpenTrial(dir string, port int, now time.Time) (*Trial, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	t := &Trial{Dir: dir, cfgs: map[string]Config{}, exe: exe, again: trialAgain}
	for n := range trialMachines {
		t.Members = append(t.Members, fmt.Sprintf("router-%d", n+1), fmt.Sprintf("offline-%d", n+1))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := t.lock.lock(dir); errors.Is(err, errDirInUse) {
		return nil, fmt.Errorf("the cluster in %s runs already", dir)
	} else if err != nil {
		return nil, err
	}
	if err := t.prepare(port, now); err != nil {
		t.lock.close()
		return nil, err
	}
	return t, nil
}

// prepare makes what is not there, and reads all of it.
func (t *Trial) prepare(port int, now time.Time) error {
	keys := filepath.Join(t.Dir, "keys")
	if err := InitKeys(keys, "try", now); err != nil && !errors.Is(err, ErrKeysExist) {
		return err
	}
	for _, name := range t.names() {
		_, _, err := gatewayKeys(keys, name, now.Add(renewBefore))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errExpired) {
			err = IssueKeys(keys, name, now)
		}
		if err != nil {
			return err
		}
	}
	if _, err := os.Stat(t.Config("gateway")); errors.Is(err, fs.ErrNotExist) {
		if err := t.writeConfigs(port); err != nil {
			return err
		}
	}
	for _, name := range t.names() {
		cfg, err := ReadConfig(t.Config(name), nil, trialRole(name))
		if err != nil {
			return err
		}
		if cfg.Data != filepath.Join(t.Dir, name) {
			return fmt.Errorf("%s is of another directory, %s: a trial cannot be moved; begin another one", t.Config(name), filepath.Dir(cfg.Data))
		}
		t.cfgs[name] = cfg
	}
	if have := t.cfgs["gateway"].Gateway.Listen; port != 0 && !strings.HasSuffix(have, fmt.Sprint(":", port)) {
		return fmt.Errorf("%s has been given the ports from %s on, and keeps them; leave --port away, or begin another directory", t.Dir, have)
	}
	return nil
}

func (t *Trial) names() []string { return append([]string{"gateway"}, t.Members...) }

// Config is the path of a process's configuration.
func (t *Trial) Config(name string) string { return filepath.Join(t.Dir, name+".toml") }

// Root is the path of what clients pin.
func (t *Trial) Root() string { return filepath.Join(t.Dir, "keys", fileRootPub) }

// Listen is where clients connect.
func (t *Trial) Listen() string { return t.cfgs["gateway"].Gateway.Listen }

// trialRole is what the process of that name runs.
func trialRole(name string) Role {
	role, _, _ := strings.Cut(name, "-")
	return Role(role)
}

// writeConfigs picks the ports and writes all configurations at once, the gateway's last: with it, all are there.
func (t *Trial) writeConfigs(port int) error {
	port, err := freePorts(port, 2+3*len(t.Members))
	if err != nil {
		return err
	}
	next := func() string { port++; return fmt.Sprintf("127.0.0.1:%d", port-1) }
	clients := next()
	links, routers := map[string]string{}, []string{}
	for _, name := range t.Members {
		links[name] = next()
		if trialRole(name) == Router {
			routers = append(routers, fmt.Sprintf("%q", links[name]))
		}
	}
	for _, name := range append(append([]string{}, t.Members...), "gateway") {
		own := fmt.Sprintf("roster = true\n\n[gateway]\nlisten = %q\n", clients)
		if name != "gateway" {
			own = fmt.Sprintf("listen = %q\n\n[raft]\nlisten = %q\n\n[disk]\nballast = \"1MiB\"\n", links[name], next())
		}
		text := fmt.Sprintf("# Made by linecard cluster try. One machine that plays three: nothing to run for others.\n\ncluster = \"try\"\nshards = %d\ndata = %q\n\n"+
			"[log]\nlevel = \"warn\"\n\n[admin]\nlisten = %q\n\n[links]\nkeys = %q\nname = %q\nrouters = [%s]\n%s",
			trialShards, filepath.Join(t.Dir, name), next(), filepath.Join(t.Dir, "keys"), name, strings.Join(routers, ", "), own)
		if err := writeFile(t.Config(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// freePorts returns the first of n consecutive ports of the loopback address that nobody listens on; want, or, if that is 0, one it finds.
func freePorts(want, n int) (int, error) {
	first, last := want, want
	if want == 0 {
		first, last = trialPort, trialPort+50*trialPorts
	}
	if first < 1 || first+n > 1<<16 {
		return 0, fmt.Errorf("port %d: want %d ports from it on", want, n)
	}
	var err error
	for port := first; port <= last; port += trialPorts {
		if err = portsFree(port, n); err == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("%d consecutive ports are needed: %w", n, err)
}

func portsFree(first, n int) error {
	for port := first; port < first+n; port++ {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		ln.Close()
	}
	return nil
}

// joined reports whether a member's directory is in the cluster.
func (t *Trial) joined(name string) (bool, error) {
	var r *roster.Roster
	r, err := readRoster(t.cfgs[name].Data)
	return r != nil, err
}

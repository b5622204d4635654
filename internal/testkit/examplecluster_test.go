package testkit

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"linecard.example/internal/node"
)

const exampleCluster = "../../cmd/linecard/cluster.example"

// exampleMember is a daemon of the example: where its configuration lies, and what it is called.
type exampleMember struct{ path, name, role string }

func exampleMembers() []exampleMember {
	all := []exampleMember{{exampleCluster + "/gateway-1/gateway.toml", "gateway-1", "gateway"}}
	for n := 1; n <= 3; n++ {
		for _, role := range []string{"router", "offline"} {
			all = append(all, exampleMember{fmt.Sprintf("%s/machine-%d/%s.toml", exampleCluster, n, role), fmt.Sprintf("%s-%d", role, n), role})
		}
	}
	return all
}

// TestExampleClusterFits: the configurations of the example are good, each for its daemon, agree with each other, and nothing in them collides.
func TestExampleClusterFits(t *testing.T) {
	var routers []string
	listeners := map[string]string{}
	var first node.Config
	for i, m := range exampleMembers() {
		cfg, err := node.ReadConfig(m.path, nil, node.Role(m.role))
		if err != nil {
			t.Errorf("%s: %v", m.path, err)
			continue
		}
		if i == 0 {
			first = cfg
		}
		if cfg.Cluster != first.Cluster || cfg.Shards != first.Shards || cfg.Links.Name != m.name || cfg.Data != "." || !slices.Equal(cfg.Links.Routers, first.Links.Routers) {
			t.Errorf("%s: %+v", m.path, cfg.Links)
		}
		machine := filepath.Base(filepath.Dir(m.path))
		for _, addr := range []string{cfg.Links.Listen, cfg.Raft.Listen, cfg.Admin.Listen} {
			host, port, _ := net.SplitHostPort(addr)
			if m.role == "gateway" && addr != cfg.Admin.Listen {
				continue
			}
			if host != "127.0.0.1" && host != "10.0.0."+strings.TrimPrefix(machine, "machine-") {
				t.Errorf("%s listens on %s", m.path, addr)
			}
			if other := listeners[machine+port]; other != "" {
				t.Errorf("%s and %s both listen on port %s", m.path, other, port)
			}
			listeners[machine+port] = m.path
		}
		if m.role == "router" {
			routers = append(routers, cfg.Links.Listen)
		}
	}
	if !first.Links.Roster || !slices.Equal(first.Links.Routers, routers) {
		t.Errorf("the routers are %q, and everybody asks %q", routers, first.Links.Routers)
	}
}

// TestExampleClusterUnits: the units and scripts that are printed start the example's daemons, where its README puts the files.
func TestExampleClusterUnits(t *testing.T) {
	readme, err := os.ReadFile(exampleCluster + "/README.md")
	must(t, err)
	dir := t.TempDir()
	for _, role := range []string{"router", "offline", "gateway"} {
		unit, err := os.ReadFile("../../kernel-tuning/testdata/linux/etc/systemd/system/linecard-" + role + ".service")
		must(t, err)
		for _, want := range []string{"linecard " + role + " --config /etc/linecard/" + role + ".toml", "WorkingDirectory=/var/lib/linecard/" + role, "User=linecard\n"} {
			if !strings.Contains(string(unit), want) {
				t.Errorf("the unit of %s has no %q", role, want)
			}
		}
		must(t, os.WriteFile(filepath.Join(dir, "linecard-"+role+".service"), []byte(strings.ReplaceAll(string(unit), "/usr/local/bin/linecard ", "/bin/true ")), 0o600))
		if role == "gateway" {
			continue
		}
		dropIn := "linecard-" + role + ".service.d"
		must(t, os.CopyFS(filepath.Join(dir, dropIn), os.DirFS(filepath.Join(exampleCluster, "systemd", dropIn))))
		script := "../../kernel-tuning/testdata/freebsd/usr/local/etc/rc.d/linecard_" + role
		if out, err := exec.Command("sh", "-n", script).CombinedOutput(); err != nil {
			t.Errorf("%s: %v %s", script, err, out)
		}
		text, err := os.ReadFile(script)
		must(t, err)
		said := `echo "$linecard_` + role + `_enable $linecard_` + role + `_config $linecard_` + role + `_chdir"`
		out, err := exec.Command("sh", "-c", ". "+exampleCluster+"/freebsd/rc.conf; "+said).CombinedOutput()
		if want := "YES /usr/local/etc/linecard/" + role + ".toml /var/db/linecard/" + role + "\n"; err != nil || string(out) != want {
			t.Errorf("rc.conf says %q, want %q: %v", out, want, err)
		}
		conf, err := os.ReadFile(exampleCluster + "/freebsd/rc.conf")
		must(t, err)
		for _, key := range regexp.MustCompile(`(?m)^linecard_`+role+`_[a-z]+`).FindAllString(string(conf), -1) {
			if !strings.Contains(string(text), key) {
				t.Errorf("%s does not know %s", script, key)
			}
		}
	}
	for _, want := range []string{"/etc/linecard", "/var/lib/linecard/ROLE/keys", "/usr/local/etc/linecard", "/var/db/linecard/ROLE/keys"} {
		if !strings.Contains(string(readme), want) {
			t.Errorf("README.md says nothing of %s", want)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		return // what it would say of the units alone, kernel-tuning's tests say where it is
	}
	cmd := exec.Command(analyze, "verify", "linecard-router.service", "linecard-offline.service", "linecard-gateway.service")
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
	out, _ := cmd.CombinedOutput() // it also tells about units of the machine
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "linecard") {
			t.Error(line)
		}
	}
}

// TestExampleClusterRuns founds a cluster with the example's configurations, by the steps of its README, with ports of this machine in place of
// the addresses; two chat on it.
func TestExampleClusterRuns(t *testing.T) {
	s := &System{t: t, Shape: Cluster, Dir: t.TempDir(), admin: map[string]string{}}
	keys := filepath.Join(s.Dir, "keys")
	s.Root = filepath.Join(keys, "root.pub")
	s.mustRun("keys", "init", "--dir", keys, "--cluster", "prod")
	here := map[string]string{} // by what stands in the example; admin listeners are each machine's own
	at := func(key string) string {
		if here[key] == "" {
			here[key] = FreeAddr(t)
		}
		return here[key]
	}
	s.Server = at(":7400")
	address := regexp.MustCompile(`"(10\.0\.0\.\d+|127\.0\.0\.1|):\d+"`)
	for _, m := range exampleMembers() {
		text, err := os.ReadFile(m.path)
		must(t, err)
		local := address.ReplaceAllStringFunc(string(text), func(a string) string {
			a = strings.Trim(a, `"`)
			if strings.HasPrefix(a, "127.") {
				s.admin[m.name] = at(m.name + a)
				return `"` + s.admin[m.name] + `"`
			}
			return `"` + at(a) + `"`
		})
		dir := filepath.Join(s.Dir, m.name)
		must(t, os.MkdirAll(filepath.Join(dir, "keys"), 0o700))
		must(t, os.WriteFile(s.config(m.name), []byte(local), 0o600))
		s.mustRun("keys", "issue", m.name, "--dir", keys)
		for _, pattern := range []string{"ca.pem", m.name + ".*"} {
			files, err := filepath.Glob(filepath.Join(keys, pattern))
			must(t, err)
			for _, f := range files {
				content, err := os.ReadFile(f)
				must(t, err)
				must(t, os.WriteFile(filepath.Join(dir, "keys", filepath.Base(f)), content, 0o600))
			}
		}
		p := NewProcess(t, m.name, m.role, "--config", s.config(m.name))
		p.wrap = []string{"sh", "-c", `cd "$0" && exec "$@"`, dir} // as the unit does
		s.procs = append(s.procs, p)
	}
	inside := func(name string, args ...string) {
		cmd := exec.Command(Binary(t), append(args, "--config", s.config(name))...)
		cmd.Dir = filepath.Join(s.Dir, name)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %q: %v\n%s", name, args, err, out)
		}
	}
	inside("router-1", "cluster", "init")
	s.Process("router-1").Start()
	for _, m := range exampleMembers()[2:] {
		inside(m.name, "cluster", "join", "--role", m.role)
	}
	s.StartAll()
	inside("router-3", "cluster", "status", "--wait", waitLimit.String())
	h := NewHistory()
	ann, bob := s.NewDevice("ann", h, DeviceOptions{}), s.NewDevice("bob", h, DeviceOptions{})
	must(t, ann.SayAll("bob", 20, 8))
	h.Judge(t, map[string][]string{"bob": {bob.Label()}})
}

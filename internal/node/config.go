package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"linecard.example/border"
	"linecard.example/gateway"
	"linecard.example/internal/config"
	"linecard.example/internal/metrics"
	"linecard.example/internal/roster"
	"linecard.example/mediad"
	"linecard.example/offline"
	"linecard.example/router"
	"linecard.example/turnd"
)

// Role is a daemon that a process runs.
type Role string

// The daemons of a process.
const (
	Gateway Role = "gateway"
	Router  Role = "router"
	Offline Role = "offline"
	Border  Role = "border"
	Media   Role = "mediad"
	Relay   Role = "turnd"
)

// Up returns the daemons of `up`.
func Up() []Role { return []Role{Gateway, Router, Offline, Media, Relay} }

// Config is the configuration of one process. A process reads the sections of the daemons it runs; one file may serve several.
type Config struct {
	// Cluster names the cluster: clients pin it with the root, links refuse another one. Default "local".
	Cluster string `toml:"cluster"`
	// Shards is the number of shards, fixed when the cluster is created: 1 to 1024, default 16. More spread the load over more
	// raft groups and cost idle CPU each.
	Shards int `toml:"shards"`
	// Data is the directory for everything durable. Default "./data".
	Data string `toml:"data"`

	// Bootstrap lets a router or offline process with a fresh data directory start its groups as their only replica. Set by the
	// flag --bootstrap and by `up`; a data directory that was in use ignores it.
	Bootstrap bool `toml:"-"`
	// Worker is the number of a gateway's worker process under a supervisor, unique among those that run at a time on the node; 0
	// without one.
	Worker uint16 `toml:"-"`
	// Upgrade has a gateway take the sessions of the one that runs on the same data directory, which then ends. Set by the flag --upgrade.
	Upgrade bool `toml:"-"`
	// Member has Validate want what a member of a cluster needs. Set by the cluster commands.
	Member bool `toml:"-"`
	// Clock is the wall clock of the whole process; nil: time.Now. For tests.
	Clock func() time.Time `toml:"-"`

	Log     LogConfig      `toml:"log"`
	Disk    DiskConfig     `toml:"disk"`
	Admin   AdminConfig    `toml:"admin"`
	Links   LinksConfig    `toml:"links"`
	Raft    RaftConfig     `toml:"raft"`
	Gateway gateway.Config `toml:"gateway"`
	Router  router.Config  `toml:"router"`
	Offline offline.Config `toml:"offline"`
	Media   mediad.Config  `toml:"media"`
	Relay   turnd.Config   `toml:"relay"`
	Region  border.Config  `toml:"region"`
}

// LogConfig says how a process logs to standard error.
type LogConfig struct {
	// Format is "text" (default) or "json".
	Format string `toml:"format"`
	// Level is "debug", "info" (default), "warn" or "error".
	Level string `toml:"level"`
	// ClientBurst is how many lines about clients each daemon writes at once for one reason, 1-100000, default 20: connections
	// refused, sessions closed, messages refused. Raising it shows more of a flood.
	ClientBurst int `toml:"client_burst"`
	// ClientEvery is the time after which there may be one more, 1ms-1h, default 5s: 17,280 lines a day and reason at most. What is
	// left out is counted in the next line.
	ClientEvery config.Duration `toml:"client_every"`
}

func (c LogConfig) budget() metrics.Budget {
	return metrics.Budget{Burst: c.ClientBurst, Every: c.ClientEvery.D()}
}

// AdminConfig is the operator's HTTP listener.
type AdminConfig struct {
	// Listen is HOST:PORT, default 127.0.0.1:7401. There is no authentication: keep it on a loopback or management address.
	Listen string `toml:"listen"`
	// TurnLimit is how long a loop or shard goroutine may go without a turn before /healthz says so. Default 5s.
	TurnLimit config.Duration `toml:"turn_limit"`
	// HeapProfile says whether allocations are sampled for /debug/pprof/heap and allocs: "on", "off", or "auto" (default), which is on but in
	// a process with nothing but a gateway, a mediad or a turnd. There it costs up to 1.3 MB.
	HeapProfile string `toml:"heap_profile"`
}

// LinksConfig connects the daemons of separate processes. `up` needs none of it.
type LinksConfig struct {
	// Keys is the directory with ca.pem, NAME.pem, NAME.key and, for a gateway, NAME.static and NAME.cert. Default DATA/keys.
	Keys string `toml:"keys"`
	// Name is the daemon's name in that directory. Default: what runs ("gateway", "router", "offline", "mediad", "turnd", "up").
	Name string `toml:"name"`
	// Listen is where a router or offline process accepts links, HOST:PORT. No default.
	Listen string `toml:"listen"`
	// Advertise is the address of Listen as others dial it, for a member of a cluster. Default: Listen, which then needs a host.
	Advertise string `toml:"advertise"`
	// Routers are the addresses of router processes. A gateway dials them, and so do a mediad and a turnd. Members of a cluster, and gateways with Roster, ask them for
	// the roster, until one answers: some are enough.
	Routers []string `toml:"routers"`
	// Offlines are the addresses of all offline processes; gateways and routers dial them, and each offline dials the others. Not read where
	// the roster says it.
	Offlines []string `toml:"offlines"`
	// Roster has a gateway, mediad or turnd dial the members of a cluster as the routers tell them. Members do so anyway. Default false.
	Roster bool `toml:"roster"`
	// Shards are the numbers that this router or offline process holds, such as "0-7,12". Default: all. Members hold what the placement
	// gives them.
	Shards string `toml:"shards"`
	// Credit bounds the bytes on their way to this process from one peer for one group, 256KiB-1GiB, default 4MiB. Raising it takes
	// longer bursts and more memory when a loop or a shard does not keep up.
	Credit config.Size `toml:"credit"`
}

// RaftConfig makes a router or offline process a member of a cluster, in which each group has several replicas.
type RaftConfig struct {
	// Listen is where the replicas of other members connect, HOST:PORT. No default: without it the process is alone, and the only
	// replica of its groups.
	Listen string `toml:"listen"`
	// Advertise is that address as others dial it. Default: Listen, which then needs a host.
	Advertise string `toml:"advertise"`
	// Heartbeat is how long a leader may be silent before another is elected, 100ms-10s, default 0: 300ms, and 1s above 32 shards. Raising
	// it forgives machines that are short of CPU, and makes every end of a leader cost more.
	Heartbeat config.Duration `toml:"heartbeat"`
}

// heartbeat returns raft's timeout for a member.
func (c *Config) heartbeat() time.Duration {
	switch {
	case c.Raft.Heartbeat != 0:
		return c.Raft.Heartbeat.D()
	case c.Shards > 32:
		return time.Second
	}
	return 300 * time.Millisecond
}

// linked reports whether a process that runs role is one of a cluster and goes by its roster.
func (c *Config) linked(role Role) bool {
	if !role.member() {
		return c.Links.Roster
	}
	return c.Raft.Listen != "" || c.Member
}

// DefaultConfig returns the defaults that `up` runs with.
func DefaultConfig() Config {
	c := Config{
		Cluster: "local", Shards: 16, Data: "./data",
		Log: LogConfig{Format: "text", Level: "info",
			ClientBurst: metrics.DefaultBudget.Burst, ClientEvery: config.Duration(metrics.DefaultBudget.Every)},
		Disk:  DiskConfig{FloorPercent: 5, Floor: 1 << 30, Ballast: 64 << 20, Check: config.Duration(1e9)},
		Admin: AdminConfig{Listen: "127.0.0.1:7401", TurnLimit: config.Duration(5e9), HeapProfile: "auto"},
		Links: LinksConfig{Credit: 4 << 20},

		Gateway: gateway.DefaultConfig(), Router: router.DefaultConfig(), Offline: offline.DefaultConfig(),
		Media: mediad.DefaultConfig(), Relay: turnd.DefaultConfig(),
	}
	c.Gateway.Listen = "127.0.0.1:7400"
	return c
}

// LoadConfig reads a configuration file over the defaults. It does not validate.
func LoadConfig(path string) (Config, error) {
	c := DefaultConfig()
	if path == "" {
		return c, nil
	}
	err := config.Load(path, &c)
	return c, err
}

// ReadConfig reads a configuration file, has change, which may be nil, put the command line over it, and validates it for a process that
// runs the given daemons. The error is everything that is wrong: unknown keys and values out of range together; a file that cannot be
// parsed has only its first fault.
func ReadConfig(path string, change func(*Config), roles ...Role) (Config, error) {
	c, err := LoadConfig(path)
	var unknown interface{ Unwrap() []error } // the list of unknown keys: the rest of the file was read
	if err != nil && !errors.As(err, &unknown) {
		return c, err
	}
	if change != nil {
		change(&c)
	}
	return c, errors.Join(err, c.Validate(roles...))
}

// Validate returns every fault of the configuration for a process that runs the given daemons, all at once.
func (c Config) Validate(roles ...Role) error {
	f := config.NewFaults("")
	f.Check(clusterRule.MatchString(c.Cluster), "cluster", "%q: want 1 to 64 of a-z A-Z 0-9 . _ -", c.Cluster)
	f.Check(c.Shards >= 1 && c.Shards <= 1024, "shards", "%d: want 1 to 1024", c.Shards)
	f.Check(c.Data != "", "data", "want a directory")
	f.Check(c.Log.Format == "text" || c.Log.Format == "json", "log.format", "%q: want text or json", c.Log.Format)
	f.Check(new(slog.Level).UnmarshalText([]byte(c.Log.Level)) == nil, "log.level", "%q: want debug, info, warn or error", c.Log.Level)
	f.Count("log.client_burst", c.Log.ClientBurst, 1, 100000)
	f.Span("log.client_every", c.Log.ClientEvery, time.Millisecond, time.Hour)
	c.Disk.validate(f)
	f.Check(isAddress(c.Admin.Listen), "admin.listen", "%q: want HOST:PORT", c.Admin.Listen)
	f.Check(c.Admin.TurnLimit.D() >= 1e9, "admin.turn_limit", "%v: want at least 1s", c.Admin.TurnLimit)
	f.Check(slices.Contains([]string{"auto", "on", "off"}, c.Admin.HeapProfile), "admin.heap_profile", "%q: want auto, on or off", c.Admin.HeapProfile)
	f.Size("links.credit", c.Links.Credit, 256<<10, 1<<30)
	if c.Shards >= 1 && c.Shards <= 1024 {
		_, err := parseShards(c.Links.Shards, c.Shards)
		f.Check(err == nil, "links.shards", "%v", err)
	}
	together := len(roles) > 1
	f.Check(!together || c.Raft.Listen == "" && !c.Links.Roster, "raft.listen, links.roster", "`up` is all daemons in one process, and alone")
	c.validateRegion(f, roles...)
	for _, role := range roles {
		c.validateRole(f, role, together)
	}
	return errors.Join(f.List()...)
}

func (c Config) validateRole(f config.Faults, role Role, together bool) {
	switch role {
	case Gateway:
		f.Add(c.Gateway.Validate()...)
		f.Check(!together || c.Gateway.WindowIDs == c.Router.WindowIDs && c.Gateway.WindowBytes == c.Router.WindowBytes,
			"gateway.window_ids, gateway.window_bytes", "want what router.window_ids and router.window_bytes tell the clients")
		f.Check(!together || c.Offline.WindowEntries <= c.Router.WindowIDs && c.Offline.WindowBytes <= c.Router.WindowBytes,
			"offline.window_entries, offline.window_bytes", "want at most what router.window_ids and router.window_bytes tell the clients")
		c.validateDialler(f, role, together)
	case Border:
		c.validateDialler(f, role, together)
	case Media:
		c.validateMedia(f, together)
	case Relay:
		c.validateRelay(f, together)
	case Router:
		f.Add(c.Router.Validate()...)
		f.Check(together || c.linked(role) || len(c.Links.Offlines) > 0, "links.offlines", "a router needs the addresses of the offline processes")
	case Offline:
		f.Add(c.Offline.Validate()...)
	}
	if !together && role.member() {
		f.Check(isAddress(c.Links.Listen), "links.listen", "%q: a %s needs HOST:PORT to accept links on", c.Links.Listen, role)
	}
	if !together && role.member() && c.linked(role) {
		c.validateMember(f, role)
	}
	for _, a := range append(append([]string{}, c.Links.Routers...), c.Links.Offlines...) {
		f.Check(isAddress(a), "links", "%q: want HOST:PORT", a)
	}
}

// member reports whether processes of that role can be members of a cluster.
func (r Role) member() bool { return r == Router || r == Offline }

// validateDialler checks what a daemon needs that finds all others by dialling.
func (c Config) validateDialler(f config.Faults, role Role, together bool) {
	f.Check(together || len(c.Links.Routers) > 0, "links.routers", "a %s needs the addresses of the routers", role)
	f.Check(together || c.Links.Roster || len(c.Links.Offlines) > 0, "links.offlines", "a %s needs the addresses of the offline processes, or links.roster", role)
}

// validateMember checks what others get to know of a member.
func (c Config) validateMember(f config.Faults, role Role) {
	m := c.member(1, role)
	f.Check(isAddress(c.Raft.Listen), "raft.listen", "%q: a member of a cluster needs HOST:PORT for other replicas", c.Raft.Listen)
	f.Check(dialable(m.Link), "links.advertise", "%q: other members need an address to dial", m.Link)
	f.Check(dialable(m.Raft), "raft.advertise", "%q: other members need an address to dial", m.Raft)
	f.Check(roster.ValidName(m.Name), "links.name", "%q: want 1 to 63 of a-z 0-9 . -", m.Name)
	f.Check(len(c.Links.Routers) > 0, "links.routers", "a member needs the address of a router, such as the first one")
	f.Check(c.Links.Shards == "", "links.shards", "a member holds what the placement gives it")
	if c.Raft.Heartbeat != 0 {
		f.Span("raft.heartbeat", c.Raft.Heartbeat, 100*time.Millisecond, 10*time.Second)
	}
}

// dialable reports whether s is an address that means the same elsewhere.
func dialable(s string) bool {
	host, _, err := net.SplitHostPort(s)
	ip := net.ParseIP(host)
	return err == nil && roster.ValidAddress(s) && (ip == nil || !ip.IsUnspecified())
}

func (c Config) keyDir() string {
	if c.Links.Keys != "" {
		return c.Links.Keys
	}
	return filepath.Join(c.Data, "keys")
}

func isAddress(s string) bool {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n < 1<<16
}

// parseShards reads a list such as "0-7,12"; the empty string is all of them. Numbers are ascending and below total.
func parseShards(list string, total int) ([]int, error) {
	var all []int
	if list == "" {
		for n := range total {
			all = append(all, n)
		}
		return all, nil
	}
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			to = from
		}
		a, errA := strconv.Atoi(from)
		b, errB := strconv.Atoi(to)
		if errA != nil || errB != nil || a < 0 || b < a || b >= total || (len(all) > 0 && a <= all[len(all)-1]) {
			return nil, fmt.Errorf("%q: want ascending numbers and ranges below %d, such as 0-7,12", list, total)
		}
		for n := a; n <= b; n++ {
			all = append(all, n)
		}
	}
	return all, nil
}

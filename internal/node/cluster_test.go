package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/roster"
	"linecard.example/internal/shard"
	"linecard.example/internal/stanza"
)

// testRoster is a cluster with a router and so many offlines, of ids 1, 2, and so on.
func testRoster(t *testing.T, voters, offlines int) *roster.Roster {
	t.Helper()
	of := func(node uint64, role roster.Role) roster.Member {
		name := fmt.Sprintf("%s-%d", role, node)
		return roster.Member{Node: node, Name: name, Role: role, State: roster.Active, Link: name + ":1", Raft: name + ":2"}
	}
	r, why := roster.Found(7, voters, of(1000, roster.Router))
	for i := range offlines {
		if why == roster.Done {
			r, why = r.Announce(of(uint64(i+1), roster.Offline), 0)
		}
	}
	if why != roster.Done {
		t.Fatal(why)
	}
	return r
}

// TestPlacing: a member opens the groups that come to it, keeps those that go as long as it votes in them, and then deletes them.
func TestPlacing(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Shards, cfg.Data = 8, t.TempDir()
	f := &fakeReplicas{in: map[int]bool{}}
	c := &cluster{cfg: &cfg, node: 1, role: Offline, log: slog.New(slog.DiscardHandler), board: link.NewBoard(), host: f, groups: f,
		held: map[int]*holding{}}
	alone := testRoster(t, 1, 1)
	if err := c.board.Offer(alone); err != nil {
		t.Fatal(err)
	}
	f.open = c.first(nil, false)
	if got := slices.Clone(f.open); len(got) != 8 {
		t.Errorf("alone it holds %v", got)
	}
	for n := range 8 {
		f.in[n] = true
	}
	more := testRoster(t, 1, 4)
	var keep, lose []int
	for n := range 8 {
		if more.Replicas(nil, stanza.QueueGroup(n))[0] == 1 {
			keep = append(keep, n)
		} else {
			lose = append(lose, n)
		}
	}
	if len(keep) == 0 || len(lose) == 0 {
		t.Fatalf("nothing to see: keeps %v", keep)
	}
	c.follow(more)
	if len(f.did) > 0 || len(c.warnings()) > 0 {
		t.Errorf("voting in all: %q, %v", f.did, c.warnings())
	}
	if got := f.want(stanza.QueueGroup(lose[0])); !slices.Equal(got, nodeNames(more.Replicas(nil, stanza.QueueGroup(lose[0])))) {
		t.Errorf("wants %q", got)
	}
	for look := range 2*goneLooks - 1 { // out of the configuration, and in it again for a moment
		f.in[lose[0]] = look == goneLooks-1
		c.follow(more)
	}
	if len(f.did) > 0 {
		t.Errorf("deleted at once: %q", f.did)
	}
	c.follow(more)
	c.follow(more)
	c.follow(more)
	if want := []string{fmt.Sprint("close ", lose[0]), fmt.Sprint("drop ", lose[0])}; !slices.Equal(f.did, want) {
		t.Errorf("%q, want %q", f.did, want)
	}
	f.did, f.failed = nil, errors.New("no disk")
	c.follow(alone)
	if w := texts(c.warnings()); !slices.Equal(w, []string{stanza.QueueGroup(lose[0]).String() + ": no disk"}) {
		t.Errorf("%q", w)
	}
	f.failed = nil
	c.follow(alone)
	if want := []string{fmt.Sprint("open ", lose[0])}; !slices.Equal(f.did, want) || len(c.warnings()) > 0 {
		t.Errorf("%q, want %q; %v", f.did, want, c.warnings())
	}
	kept, err := readRoster(cfg.Data)
	if err != nil || kept.Version != more.Version {
		t.Errorf("kept version %d of %d: %v", kept.Version, more.Version, err)
	}
	if err := c.board.Offer(more); err != nil {
		t.Fatal(err)
	}
	if got := c.first([]stanza.Group{stanza.QueueGroup(lose[0])}, false); len(got) != len(keep)+1 || !slices.Contains(got, lose[0]) {
		t.Errorf("it opens %v, its are %v and something of %d is here", got, keep, lose[0])
	}
	if got := c.first(nil, true); len(got) != 8 {
		t.Errorf("who begins the groups opens %v", got)
	}
}

// site is the machines of a cluster in this process.
type site struct {
	t    *testing.T
	dir  string
	cfgs map[string]Config
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), cfgs: map[string]Config{}}
	if err := InitKeys(filepath.Join(s.dir, "keys"), "local", time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"router-1", "offline-1", "offline-2", "gateway"} {
		s.add(name)
	}
	return s
}

func (s *site) add(name string) {
	s.t.Helper()
	if err := IssueKeys(filepath.Join(s.dir, "keys"), name, time.Now()); err != nil {
		s.t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Data, cfg.Shards, cfg.Links.Keys, cfg.Links.Name = filepath.Join(s.dir, name), 4, filepath.Join(s.dir, "keys"), name
	cfg.Admin.Listen, cfg.Gateway.Listen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Links.Listen, cfg.Raft.Listen, cfg.Links.Roster = s.address(), s.address(), name == "gateway"
	if r, ok := s.cfgs["router-1"]; ok {
		cfg.Links.Routers = []string{r.Links.Listen}
	} else {
		cfg.Links.Routers = []string{cfg.Links.Listen}
	}
	s.cfgs[name] = cfg
}

// address returns one that was free a moment ago.
func (s *site) address() string {
	s.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func roleOf(name string) Role {
	role, _, _ := strings.Cut(name, "-")
	return Role(role)
}

func (s *site) run(name string) (stop func()) {
	s.t.Helper()
	n, err := s.open(name)
	if err != nil {
		s.t.Fatal(name, ": ", err)
	}
	return start(s.t, n)
}

func (s *site) open(name string) (*Node, error) {
	cfg := s.cfgs[name]
	if err := cfg.Validate(roleOf(name)); err != nil {
		s.t.Fatal(name, ": ", err)
	}
	return New(cfg, []Role{roleOf(name)}, slog.New(slog.NewTextHandler(logWriter{s.t}, nil)).With("process", name))
}

type logWriter struct{ t *testing.T }

func (w logWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

func (s *site) join(name string) error {
	s.t.Helper()
	_, err := JoinCluster(s.soon(), s.cfgs[name], roleOf(name), slog.New(slog.DiscardHandler))
	return err
}

func (s *site) leave(name string) error {
	s.t.Helper()
	return LeaveCluster(s.soon(), s.cfgs["gateway"], name, slog.New(slog.DiscardHandler))
}

// soon bounds what an operator waits.
func (s *site) soon() context.Context {
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	s.t.Cleanup(cancel)
	return ctx
}

func (s *site) status() *ClusterStatus {
	s.t.Helper()
	st, err := StatusOfCluster(s.soon(), s.cfgs["gateway"], slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	return st
}

// TestClusterOfOne: a cluster of single replicas is founded, joined and looked at; its gateway learns from the router where everybody is, and
// everybody starts again from what he kept.
func TestClusterOfOne(t *testing.T) {
	s := newSite(t)
	for _, name := range []string{"router-1", "offline-1"} { // nobody starts by himself
		if _, err := s.open(name); !errors.Is(err, errNoMember) {
			t.Fatalf("%s in no cluster: %v", name, err)
		}
	}
	if _, err := InitCluster(s.cfgs["router-1"], 2); err == nil {
		t.Error("two voters")
	}
	if _, err := InitCluster(s.cfgs["router-1"], 1); err != nil {
		t.Fatal(err)
	}
	if _, err := InitCluster(s.cfgs["router-1"], 1); err == nil {
		t.Error("founded twice")
	}
	stopRouter := s.run("router-1")
	for range 2 { // the second time changes nothing
		if err := s.join("offline-1"); err != nil {
			t.Fatal(err)
		}
	}
	stopOffline := s.run("offline-1")
	stopGateway := s.run("gateway")
	st := s.status()
	if len(st.Up) != 2 || len(st.Leaders) != 8 || len(st.Roster.Members) != 2 {
		t.Errorf("up %v, leaders %v, %+v", st.Up, st.Leaders, st.Roster)
	}
	var page bytes.Buffer
	if err := st.Write(&page); err != nil || !strings.Contains(page.String(), "offline-1  offline  active  yes  4      4 ") || strings.Contains(page.String(), "no leader") {
		t.Errorf("%v\n%s", err, page.String())
	}
	if err := s.leave("offline-1"); err == nil || !strings.Contains(err.Error(), "only active member") {
		t.Errorf("the last leaves: %v", err)
	}
	stopGateway()
	stopOffline()
	stopRouter()
	defer s.run("router-1")()
	defer s.run("offline-1")()
	defer s.run("gateway")()
}

// TestMemberWithoutDisk: a member that comes back with an empty disk is refused, and joins under its old name when that was taken out.
func TestMemberWithoutDisk(t *testing.T) {
	s := newSite(t)
	if _, err := InitCluster(s.cfgs["router-1"], 1); err != nil {
		t.Fatal(err)
	}
	router, err := s.open("router-1")
	if err != nil {
		t.Fatal(err)
	}
	defer start(t, router)()
	for _, name := range []string{"offline-1", "offline-2"} {
		if err := s.join(name); err != nil {
			t.Fatal(err)
		}
	}
	defer s.run("offline-1")()
	if err := os.RemoveAll(s.cfgs["offline-2"].Data); err != nil {
		t.Fatal(err)
	}
	if _, err := s.open("offline-2"); !errors.Is(err, errNoMember) {
		t.Errorf("it starts: %v", err)
	}
	var refused errRefused
	if err := s.join("offline-2"); !errors.As(err, &refused) || refused.why != roster.NameTaken || !strings.Contains(err.Error(), "linecard cluster leave") {
		t.Errorf("it joins: %v", err)
	}
	missing := func() bool {
		return has(texts(router.warnings(time.Now())), "link router to offline", s.cfgs["offline-2"].Links.Listen)
	}
	if !missing() {
		t.Errorf("nobody misses offline-2: %q", texts(router.warnings(time.Now())))
	}
	if err := s.leave("offline-2"); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); missing(); time.Sleep(10 * time.Millisecond) { // the answer may be here before the list
		if time.Now().After(end) {
			t.Fatalf("who left is missed: %q", texts(router.warnings(time.Now())))
		}
	}
	if err := s.join("offline-2"); err != nil {
		t.Fatal(err)
	}
	r := s.status().Roster
	states := map[roster.State]int{}
	for _, m := range r.Members {
		if m.Name == "offline-2" {
			states[m.State]++
		}
	}
	if states[roster.Active] != 1 || states[roster.Leaving] != 1 {
		t.Errorf("%+v", r.Members)
	}
}

// TestTwins: a copy of a member's directory does not start while the member is there, and nobody is told its address.
func TestTwins(t *testing.T) {
	s := newSite(t)
	s.add("offline-3")
	if _, err := InitCluster(s.cfgs["router-1"], 3); err != nil {
		t.Fatal(err)
	}
	defer s.run("router-1")()
	var first *Node
	for _, name := range []string{"offline-1", "offline-2", "offline-3"} {
		if err := s.join(name); err != nil {
			t.Fatal(err)
		}
		n, err := s.open(name)
		if err != nil {
			t.Fatal(name, ": ", err)
		}
		defer start(t, n)()
		if first == nil {
			first = n
		}
	}
	for end := time.Now().Add(time.Minute); first.network.Connections() == 0; time.Sleep(10 * time.Millisecond) { // other processes' business
		if time.Now().After(end) {
			t.Fatal("no replica is connected")
		}
	}
	twin := s.cfgs["offline-1"]
	twin.Data, twin.Links.Listen, twin.Raft.Listen = filepath.Join(s.dir, "copy"), s.address(), s.address()
	if err := os.Mkdir(twin.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"node", fileRoster} {
		content, err := os.ReadFile(filepath.Join(s.cfgs["offline-1"].Data, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(twin.Data, name), content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s.cfgs["offline-1"] = twin
	if n, err := s.open("offline-1"); !errors.Is(err, shard.ErrDuplicate) || !strings.Contains(err.Error(), "copy of the other's data directory") {
		if err == nil {
			n.close()
		}
		t.Errorf("the copy starts: %v", err)
	}
}

// TestMemberMoves: a member that comes back at another address tells the others.
func TestMemberMoves(t *testing.T) {
	s := newSite(t)
	if _, err := InitCluster(s.cfgs["router-1"], 1); err != nil {
		t.Fatal(err)
	}
	defer s.run("router-1")()
	if err := s.join("offline-1"); err != nil {
		t.Fatal(err)
	}
	s.run("offline-1")()
	cfg := s.cfgs["offline-1"]
	cfg.Links.Listen = s.address()
	s.cfgs["offline-1"] = cfg
	defer s.run("offline-1")()
	defer s.run("gateway")()                                                      // ready: it has found the queues' leader
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // other processes' business: it can only be asked again
		st := s.status()
		i := slices.IndexFunc(st.Roster.Members, func(m roster.Member) bool { return m.Name == "offline-1" })
		if st.Roster.Members[i].Link == cfg.Links.Listen {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%+v", st.Roster.Members)
		}
	}
}

// TestClusterFiles: what is in the data directory has to fit.
func TestClusterFiles(t *testing.T) {
	s := newSite(t)
	router := s.cfgs["router-1"]
	if _, err := InitCluster(router, 1); err != nil {
		t.Fatal(err)
	}
	cfg := s.cfgs["offline-1"]
	cfg.Data = router.Data
	if _, err := New(cfg, []Role{Offline}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "that of a router") {
		t.Errorf("another role's directory: %v", err)
	}
	path := filepath.Join(router.Data, fileRoster)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text[:len(text)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.open("router-1"); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a damaged roster: %v", err)
	}
	other := testRoster(t, 1, 1)
	if err := os.WriteFile(path, other.Append(nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.open("router-1"); err == nil || !strings.Contains(err.Error(), "no member") {
		t.Errorf("a roster of others: %v", err)
	}
	used := s.cfgs["offline-2"]
	if err := os.MkdirAll(used.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(used.Data, "node"), []byte("00000000000000aa\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.join("offline-2"); err == nil || !strings.Contains(err.Error(), "was in use, but not by offline") {
		t.Errorf("data of a process alone: %v", err)
	}
}

// TestMemberConfig: everything that a member's configuration lacks is said at once.
func TestMemberConfig(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Raft.Listen, cfg.Links.Listen, cfg.Links.Shards, cfg.Links.Name = ":7423", "0.0.0.0:7422", "0-3", "Router_1"
	err := cfg.Validate(Router)
	for _, key := range []string{"links.advertise", "raft.advertise", "links.name", "links.routers", "links.shards"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("nothing of %s: %v", key, err)
		}
	}
	cfg.Links.Shards, cfg.Links.Name, cfg.Links.Routers = "", "router-1", []string{"10.0.0.1:7422"}
	cfg.Links.Advertise, cfg.Raft.Advertise = "10.0.0.1:7422", "r1.example:7423"
	if err := cfg.Validate(Router); err != nil {
		t.Error(err)
	}
	if err := cfg.Validate(Gateway, Router, Offline); err == nil || !strings.Contains(err.Error(), "raft.listen") {
		t.Errorf("`up` with replicas: %v", err)
	}
}

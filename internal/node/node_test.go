package node

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"linecard.example/internal/admin"
	"linecard.example/internal/config"
)

var all = []Role{Gateway, Router, Offline}

// upNode opens all daemons in one process on free ports. It does not run.
func upNode(t *testing.T) *Node {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Data, cfg.Shards = filepath.Join(t.TempDir(), "data"), 3
	cfg.Admin.Listen, cfg.Gateway.Listen = "127.0.0.1:0", "127.0.0.1:0"
	if err := EnsureKeys(cfg); err != nil {
		t.Fatal(err)
	}
	n, err := New(cfg, all, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// start runs n until the returned function is called, which fails the test when Run does.
func start(t *testing.T, n *Node) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- n.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal("ended: ", err)
	case <-time.After(time.Minute):
		t.Fatal("not ready")
	}
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// texts returns the faults as "name: why".
func texts(faults []admin.Fault) (list []string) {
	for _, f := range faults {
		list = append(list, f.Name+": "+f.Why)
	}
	return list
}

// has reports whether a text begins with the first part and contains the others.
func has(list []string, parts ...string) bool {
	return slices.ContainsFunc(list, func(text string) bool {
		if !strings.HasPrefix(text, parts[0]) {
			return false
		}
		for _, part := range parts {
			if !strings.Contains(text, part) {
				return false
			}
		}
		return true
	})
}

// TestReadiness: not listening and no links before Run, ready in it, draining at its end.
func TestReadiness(t *testing.T) {
	n := upNode(t)
	faults := texts(n.unready(time.Now()))
	for _, want := range [][2]string{
		{"gateway: ", "not listening"}, {"link gateway to router: ", "no stream within"}, {"link gateway to offline: ", "no stream within"},
		{"link router to offline: ", "no stream within"}, {"link offline to offline: ", "no stream within"},
	} {
		if !has(faults, want[0], want[1]) {
			t.Errorf("before Run: no %q in %q", want, faults)
		}
	}
	stop := start(t, n)
	if faults := n.unready(time.Now()); len(faults) > 0 {
		t.Errorf("running: %q", texts(faults))
	}
	stop()
	if faults := texts(n.unready(time.Now())); !slices.Equal(faults, []string{"process: draining"}) {
		t.Errorf("at the end: %q", faults)
	}
}

// TestLeaderless: with their raft groups ended, router and offline know no leader, and say of which group.
func TestLeaderless(t *testing.T) {
	n := upNode(t)
	limit := time.Now().Add(time.Minute)
	for {
		faults := texts(n.unready(time.Now()))
		if !has(faults, "router: ") && !has(faults, "offline: ") {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("no leaders: %q", faults)
		}
		time.Sleep(10 * time.Millisecond) // raft elects on goroutines of its own; readiness is asked, it calls nobody
	}
	if err := n.closeHosts(closeLimit); err != nil {
		t.Fatal(err)
	}
	faults := texts(n.unready(time.Now()))
	if !has(faults, "router: ", "dir/0", "leader") || !has(faults, "offline: ") {
		t.Errorf("without raft: %q", faults)
	}
	n.close()
}

// TestHealth looks at the same turns at a later time: every loop and every shard goroutine is told by its name. A process that ends
// is healthy.
func TestHealth(t *testing.T) {
	n := upNode(t)
	stop := start(t, n)
	if faults := n.unhealthy(time.Now()); len(faults) > 0 {
		t.Errorf("now: %q", texts(faults))
	}
	faults := texts(n.unhealthy(time.Now().Add(6 * time.Second)))
	for _, name := range []string{"gateway loop/0", "router dir/0", "router dir/2", "offline queue/0", "offline queue/2"} {
		if !has(faults, name+": has not turned for ") {
			t.Errorf("6 s later: no %s in %q", name, faults)
		}
	}
	n.cfg.Admin.TurnLimit = config.Duration(time.Hour)
	if faults := n.unhealthy(time.Now().Add(6 * time.Second)); len(faults) > 0 {
		t.Errorf("with a limit of 1h: %q", texts(faults))
	}
	stop()
	if faults := n.unhealthy(time.Now().Add(time.Hour * 2)); len(faults) > 0 {
		t.Errorf("at the end: %q", texts(faults))
	}
}

// TestFresh: without --bootstrap a router does not make a cluster of its own, and the directory stays fresh.
func TestFresh(t *testing.T) {
	dir := t.TempDir()
	cfg := DefaultConfig()
	cfg.Data, cfg.Shards, cfg.Links.Keys = filepath.Join(dir, "data"), 2, filepath.Join(dir, "keys")
	cfg.Admin.Listen, cfg.Links.Listen, cfg.Links.Offlines = "127.0.0.1:0", "127.0.0.1:0", []string{"127.0.0.1:1"}
	if err := InitKeys(cfg.Links.Keys, "local", time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := IssueKeys(cfg.Links.Keys, "router", time.Now()); err != nil {
		t.Fatal(err)
	}
	open := func(bootstrap bool) error {
		cfg.Bootstrap = bootstrap
		n, err := New(cfg, []Role{Router}, slog.New(slog.DiscardHandler))
		if err == nil {
			err = n.router.Run(canceled())
			n.close()
		}
		return err
	}
	if err := open(false); err == nil || !strings.Contains(err.Error(), "--bootstrap") {
		t.Fatalf("fresh: %v", err)
	}
	for _, bootstrap := range []bool{true, false, true} { // ignored once the directory was in use
		if err := open(bootstrap); err != nil {
			t.Fatal(err)
		}
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// TestWantedLinks: alone, a daemon wants a stream to every address of its configuration.
func TestWantedLinks(t *testing.T) {
	n := upNode(t)
	defer n.close()
	apart := &Node{cfg: n.cfg, roles: []Role{Router}, router: n.router, reg: n.reg}
	apart.cfg.Links.Offlines = []string{"c:3", "d:4"}
	if faults := texts(apart.unready(time.Now())); !has(faults, "link router to offline: no stream to c:3, to d:4") {
		t.Errorf("%q", faults)
	}
}

// TestUpKeys: made once, renewed before they expire, and refused for another cluster.
func TestUpKeys(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Data = filepath.Join(t.TempDir(), "data")
	cert := func(now time.Time) string {
		t.Helper()
		if err := ensureKeys(cfg, now); err != nil {
			t.Fatal(err)
		}
		_, cert, err := gatewayKeys(cfg.keyDir(), upName, now)
		if err != nil {
			t.Fatal(err)
		}
		return string(cert)
	}
	first := cert(day)
	if cert(day.Add(leafLifetime-renewBefore-time.Hour)) != first {
		t.Error("renewed too early")
	}
	second := cert(day.Add(leafLifetime - renewBefore + time.Hour))
	if second == first {
		t.Error("not renewed before its end")
	}
	if err := checkCluster([]byte(second), "local"); err != nil {
		t.Error(err)
	}
	if err := checkCluster([]byte(second), "prod"); err == nil || !strings.Contains(err.Error(), `"local"`) || !strings.Contains(err.Error(), `"prod"`) {
		t.Errorf("keys of another cluster: %v", err)
	}
}

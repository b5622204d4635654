package testkit

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"linecard.example/gateway/client"
	"linecard.example/internal/link"
	"linecard.example/internal/node"
	"linecard.example/internal/wire"
)

// TestRelayCredential: what a gateway gives ann and bob is what the routers have a turnd verify, and says whose it is.
func TestRelayCredential(t *testing.T) {
	urls := []string{"turn:127.0.0.1:7478?transport=udp", "turn:127.0.0.1:7478?transport=tcp"}
	s := newSpread(t)
	cfg := s.config("up")
	cfg.Gateway.RelayURLs = urls
	must(t, node.EnsureKeys(cfg))
	s.run("up", cfg, nil, node.Gateway, node.Router, node.Offline)
	s.waitReady()
	s.door("up", filepath.Join(cfg.Data, "root.pub"))
	secrets := hearSecrets(t, s)
	before := time.Now().Truncate(time.Second)
	for _, name := range []string{"ann", "bob"} {
		d := s.doors[0].NewDevice(name, nil, DeviceOptions{})
		got, err := d.RelayCredential(t.Context())
		must(t, err)
		if want := fmt.Sprintf("%d:%d", got.Expires.Unix(), d.Self().Account); got.Username != want || !slices.Equal(got.URLs, urls) {
			t.Errorf("%s: %+v, want %s", name, got, want)
		}
		if life := got.Expires.Sub(before); life < cfg.Gateway.RelayLife.D() {
			t.Errorf("%s: for %v", name, life)
		}
		if !slices.ContainsFunc(secrets, func(r wire.RelaySecret) bool { return string(r.AppendPassword(nil, got.Username)) == got.Password }) {
			t.Errorf("%s: of another secret than %v", name, secrets)
		}
	}
}

// hearSecrets returns what the router of `up` tells a turnd.
func hearSecrets(t *testing.T, s *spread) []wire.RelaySecret {
	t.Helper()
	for _, e := range s.endpoints() {
		if e.Info().Role != link.RoleRouter {
			continue
		}
		told := make(chan []wire.RelaySecret, 8)
		word := link.NewWord(link.KindRelaySecrets, func(p []byte) error {
			secrets, err := wire.ParseRelaySecrets(p)
			told <- secrets
			return err
		}, slog.New(slog.DiscardHandler))
		info := e.Info()
		info.Role, info.Node, info.Incarnation = link.RoleRelay, info.Node+1, 1
		t.Cleanup(link.Connect(link.NewEndpoint(info, word, link.Options{}), e))
		select {
		case secrets := <-told:
			return secrets
		case <-time.After(waitLimit):
			t.Fatal("no router tells secrets")
		}
	}
	t.Fatal("there is no router")
	return nil
}

// TestNoRelay: a gateway that was told of no relay says so.
func TestNoRelay(t *testing.T) {
	d := upInside(t, nil).doors[0].NewDevice("ann", nil, DeviceOptions{})
	if _, err := d.RelayCredential(t.Context()); !errors.Is(err, client.ErrNoRelay) {
		t.Errorf("%v", err)
	}
}

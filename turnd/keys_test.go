package turnd

import (
	"fmt"
	"testing"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// router is the other end of a turnd's link.
type router struct{ up chan *link.Stream }

func (r router) Up(s *link.Stream)                   { r.up <- s }
func (router) Down(*link.Stream, error)              {}
func (router) Receive(*link.Stream, []link.Envelope) {}

// TestSecretsFromRouters: what routers tell lets clients in, through a rotation and after the router has gone.
func TestSecretsFromRouters(t *testing.T) {
	cfg := testConfig()
	cfg.Users = nil
	s, err := New(cfg, Deps{Node: 9, Incarnation: 1, Shards: 4, Cluster: "test"})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	if ok, why := s.Ready(); ok || why == "" {
		t.Error("ready without a secret")
	}
	r := router{make(chan *link.Stream, 1)}
	stop := link.Connect(link.NewEndpoint(link.Info{Role: link.RoleRouter, Node: 1, Incarnation: 1, Shards: 4, Cluster: "test"}, r, link.Options{}), s.Endpoint())
	to := <-r.up
	tell := func(payload []byte) {
		t.Helper()
		if err := to.Send(&link.Envelope{Kind: link.KindRelaySecrets, Group: stanza.DirGroup(0), Term: 1, Payload: payload}); err != nil {
			t.Fatal(err)
		}
	}
	// newest waits until the newest secret is the one with this number.
	newest := func(id uint32) {
		t.Helper()
		eventually(t, fmt.Sprintf("secret %d is heard of", id), func() bool {
			all := *s.credentials.secrets.Load()
			return len(all) > 0 && all[0].ID == id
		})
	}
	enters := func(what string, id uint32, want bool) {
		t.Helper()
		name, password := credential(id, "21", time.Now().Add(time.Hour).Unix())
		d := dial(t, s.Addrs("udp")[0], name, password)
		d.greet()
		if code := d.request(allocateRequest, wantUDP); (code == 0) != want || !want && code != codeUnauthorized {
			t.Errorf("%s: %d", what, code)
		}
	}
	tell(wire.AppendRelaySecrets(nil, []wire.RelaySecret{secret(1)}))
	newest(1)
	if ok, why := s.Ready(); !ok {
		t.Errorf("not ready: %s", why)
	}
	enters("with the only one", 1, true)
	tell(wire.AppendRelaySecrets(nil, []wire.RelaySecret{secret(3), secret(2), secret(1)}))
	newest(3)
	enters("with the oldest one", 1, true)
	tell([]byte("no secrets"))
	tell(wire.AppendRelaySecrets(nil, []wire.RelaySecret{secret(4), secret(3), secret(2)}))
	newest(4)
	enters("with one that is gone", 1, false)
	enters("with the former one", 2, true)
	enters("with the one that signs", 3, true)
	stop()
	if ok, why := s.Ready(); !ok {
		t.Errorf("not ready without a router: %s", why)
	}
	enters("without a router", 3, true)
}

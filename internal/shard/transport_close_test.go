package shard

import (
	"crypto/tls"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// Closing a connection waits for nobody, and least of all for a peer that does not read.
func TestConnCloseDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t)
		n, err := NewNetwork(NetworkConfig{Cluster: "c", Shards: 1, Node: "n0", TLS: ca.config(t, "n0", time.Now().Add(time.Hour)), Peers: new(members)})
		noErr(t, err)
		near, far := net.Pipe() // which has no room for what nobody reads
		server, client := tls.Server(far, n.server), tls.Client(near, n.client)
		shaken := make(chan error, 1)
		go func() { shaken <- server.Handshake() }()
		noErr(t, client.Handshake(), <-shaken)
		begun := time.Now()
		noErr(t, (&conn{Conn: client, n: n, peer: "n1"}).Close())
		if waited := time.Since(begun); waited > 0 {
			t.Errorf("closing took %v", waited)
		}
		noErr(t, far.Close())
	})
}

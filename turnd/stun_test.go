package turnd

import (
	"encoding/hex"
	"testing"
)

// TestVectors: the samples of RFC 5769 2.2 and 2.4, which others made.
func TestVectors(t *testing.T) {
	response, _ := hex.DecodeString("0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96")
	var m message
	if !m.parse(response) || m.typ != bindingRequest.success() || !m.fingerprint {
		t.Fatalf("2.2 does not parse: %+v", m)
	}
	if !m.genuine(response, []byte("VOkJxbRl1RmTxUk/WvJxBt")) || m.genuine(response, []byte("VOkJxbRl1RmTxUk/WvJxBT")) {
		t.Error("2.2: the integrity is not what the RFC says")
	}
	request, _ := hex.DecodeString("000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b900000015001c662f2f3439396b39353464364f4c33346f4c394653547679363473410014000b6578616d706c652e6f72670000080014f67024656dd64a3e02b8e0712e85c9a28ca89666")
	m = message{}
	if !m.parse(request) || string(m.realm) != "example.org" || string(m.username) != "マトリックス" {
		t.Fatalf("2.4 does not parse: %+v", m)
	}
	if !m.genuine(request, longTermKey("マトリックス", "example.org", "TheMatrIX")) {
		t.Error("2.4: the integrity is not what the RFC says")
	}
}

// TestAfterIntegrity: what follows the integrity is nobody's, so it is not read.
func TestAfterIntegrity(t *testing.T) {
	d := &device{t: t, user: "anna", password: "p", realm: "r", nonce: []byte("n")}
	b := d.build(permissionRequest, d.id(), wantPeers(goodPeer))
	id := [12]byte(b[8:20])
	b = attrAddr(b, attrPeer, badPeer, &id)
	var m message
	if !m.parse(b) || len(m.peers) != 1 || m.peers[0] != goodPeer {
		t.Errorf("read %+v", m.peers)
	}
	if !m.genuine(b, longTermKey("anna", "r", "p")) {
		t.Error("not genuine with something after it")
	}
}

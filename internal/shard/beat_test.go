package shard

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"
	"github.com/hashicorp/raft"
	"linecard.example/internal/stanza"
)

// dozingTransport hands out the handler of heartbeats, and holds the goroutine that asks for an address next: raft's first step in handling
// one.
type dozingTransport struct {
	*raft.InmemTransport
	handle func(raft.RPC)
	doze   chan chan struct{}
}

func (t *dozingTransport) SetHeartbeatHandler(f func(raft.RPC)) { t.handle = f }

func (t *dozingTransport) EncodePeer(id raft.ServerID, a raft.ServerAddress) []byte {
	select {
	case wake := <-t.doze:
		<-wake
	default:
	}
	return t.InmemTransport.EncodePeer(id, a)
}

// A heartbeat that was found to change nothing is handled before its replica stands for an election, however long that takes: handled in
// the middle of it, it would write a term beside raft's main goroutine.
func TestNoElectionBesideAHeartbeat(t *testing.T) {
	_, in := raft.NewInmemTransport("n1")
	_, lead := raft.NewInmemTransport("lead")
	lead.Connect("n1", in)
	in.Connect("lead", lead)
	trans := &dozingTransport{InmemTransport: in, doze: make(chan chan struct{}, 1)}
	cfg := testConfig(vfs.NewMem())
	cfg.Join, cfg.Heartbeat = true, time.Second
	cfg.Transport = func(stanza.Group) (raft.Transport, raft.ServerAddress) { return trans, "n1" }
	h := openHost(t, cfg)
	g, err := Open[int, uint64](h, testGroup, newToy())
	noErr(t, err)
	head := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("lead"), Addr: []byte("lead")}
	conf := raft.Configuration{Servers: []raft.Server{{ID: "lead", Address: "lead"}, {ID: "n1", Address: "n1"}}}
	first := &raft.AppendEntriesRequest{RPCHeader: head, Term: 5,
		Entries: []*raft.Log{{Index: 1, Term: 5, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(conf)}}}
	noErr(t, lead.AppendEntries("n1", "n1", first, &raft.AppendEntriesResponse{}))

	wake, answer := make(chan struct{}), make(chan raft.RPCResponse, 1)
	trans.doze <- wake
	go trans.handle(raft.RPC{Command: &raft.AppendEntriesRequest{RPCHeader: head, Term: 5}, RespChan: answer})
	eventually(t, "a candidate", func() bool { return g.raft.State() == raft.Candidate })
	time.Sleep(50 * time.Millisecond) // longer than it takes to ask; it must not, however long
	select {
	case rpc := <-lead.Consumer():
		t.Errorf("it asks for votes beside a heartbeat: %T", rpc.Command)
	default:
	}
	close(wake)
	if r := <-answer; !r.Response.(*raft.AppendEntriesResponse).Success {
		t.Errorf("%+v", r)
	}
	rpc := <-lead.Consumer() // and now nobody else writes the term
	rpc.Respond(&raft.RequestPreVoteResponse{}, nil)
	if term := g.raft.CurrentTerm(); term != 5 {
		t.Errorf("term %d", term)
	}
	noErr(t, h.Close())
}

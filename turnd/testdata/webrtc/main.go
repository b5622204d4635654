// Command webrtc has two WebRTC peers meet through a TURN server and nowhere else, and moves 1 MiB each way over a data channel. Arguments:
// the server's URL (RFC 7065), a user name and its password. It is a module of its own, so that none of what it needs is linecard's.
//
// On success it prints the kinds of the selected pair of candidates and how much was moved each way: `relay relay 1048576`.
package main

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/webrtc/v4"
)

const (
	size  = 1 << 20
	piece = 16 << 10 // what any implementation takes as one message
)

// patience is how long gathering may take, for each peer, and connecting and moving, for each direction: less together than the test waits, and far
// more than the second that they take, for machines whose processors are busy.
const patience = 15 * time.Second

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "want URL, user name and password")
		os.Exit(2)
	}
	if err := run(webrtc.ICEServer{URLs: os.Args[1:2], Username: os.Args[2], Credential: os.Args[3]}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(server webrtc.ICEServer) error {
	var engine webrtc.SettingEngine
	engine.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	engine.SetRelayAcceptanceMinWait(0) // there are no other candidates to wait for
	api := webrtc.NewAPI(webrtc.WithSettingEngine(engine))
	var peers [2]*webrtc.PeerConnection
	for i := range peers {
		p, err := api.NewPeerConnection(webrtc.Configuration{
			ICEServers: []webrtc.ICEServer{server}, ICETransportPolicy: webrtc.ICETransportPolicyRelay,
		})
		if err != nil {
			return err
		}
		defer func() { _ = p.Close() }()
		peers[i] = p
	}
	ended := make(chan error, 2)
	channel, err := peers[0].CreateDataChannel("data", nil)
	if err != nil {
		return err
	}
	var payloads [2][]byte // what each side sends
	for i := range payloads {
		payloads[i] = make([]byte, size)
		_, _ = rand.Read(payloads[i]) // never fails
	}
	exchange(channel, payloads[0], sha256.Sum256(payloads[1]), ended)
	peers[1].OnDataChannel(func(c *webrtc.DataChannel) {
		exchange(c, payloads[1], sha256.Sum256(payloads[0]), ended)
	})
	if err := signal(peers[0], peers[1]); err != nil {
		return err
	}
	for range peers {
		select {
		case err := <-ended:
			if err != nil {
				return err
			}
		case <-time.After(patience):
			return errors.New("the peers did not exchange their payloads in time")
		}
	}
	pair, err := peers[0].SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil {
		return err
	}
	fmt.Println(pair.Local.Typ, pair.Remote.Typ, size)
	return nil
}

// exchange sends a payload when the channel opens, and says when all that comes has the hash.
func exchange(c *webrtc.DataChannel, payload []byte, want [sha256.Size]byte, ended chan<- error) {
	c.OnOpen(func() {
		for p := payload; len(p) > 0; p = p[piece:] {
			if err := c.Send(p[:piece]); err != nil {
				ended <- err
				return
			}
		}
	})
	got, hash := 0, sha256.New()
	c.OnMessage(func(m webrtc.DataChannelMessage) {
		hash.Write(m.Data)
		if got += len(m.Data); got < size {
			return
		}
		if [sha256.Size]byte(hash.Sum(nil)) != want || got > size {
			ended <- fmt.Errorf("%d bytes came that are not what was sent", got)
			return
		}
		ended <- nil
	})
}

// signal has each peer know the other one, with all candidates.
func signal(caller, callee *webrtc.PeerConnection) error {
	offer, err := caller.CreateOffer(nil)
	if err != nil {
		return err
	}
	if err := describe(caller, callee, offer); err != nil {
		return err
	}
	answer, err := callee.CreateAnswer(nil)
	if err != nil {
		return err
	}
	return describe(callee, caller, answer)
}

// describe makes a description one peer's own, and tells the other one.
func describe(of, to *webrtc.PeerConnection, d webrtc.SessionDescription) error {
	gathered := webrtc.GatheringCompletePromise(of)
	if err := of.SetLocalDescription(d); err != nil {
		return err
	}
	select {
	case <-gathered:
	case <-time.After(patience):
		return errors.New("gathering candidates did not end in time")
	}
	return to.SetRemoteDescription(*of.LocalDescription())
}

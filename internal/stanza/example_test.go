package stanza_test

import (
	"fmt"

	"linecard.example/internal/stanza"
)

// A whole session: alice (account 17, device 1) registers, finds bob (account 33, device 1), sends him a message and gets her ticks;
// then bob's side of the same message. Each line is one encoded stanza, without the flags byte of its frame.
func Example_session() {
	key := [32]byte{31: 0xb0}
	list := stanza.AppendDevices(nil, []stanza.DeviceKey{{Device: 1, Key: key}})
	body := stanza.AppendCipher(nil, 1, []byte("hi bob"))
	ids := stanza.AppendPacked(nil, []uint64{2049})

	show := func(who string, s interface{ Append([]byte) []byte }) {
		b := s.Append(nil)
		v, _, err := stanza.Decode(b)
		if err != nil {
			panic(err)
		}
		fmt.Printf("%-8s %-12s %x\n", who, v.Tag, b)
	}
	show("alice ->", &stanza.Register{Handle: []byte("Alice"), Interval: 240})
	show("-> alice", &stanza.Bound{
		Account: 17, Device: 1, Version: 1, Time: 1_800_000_000_000, WindowIDs: 32, WindowBytes: 262_144,
	})
	show("alice ->", &stanza.Query{ID: 1, Op: stanza.OpLookup, Handle: []byte("bob")})
	show("-> alice", &stanza.Result{ID: 1, Account: 33, Version: 1, Handle: []byte("bob"), Devices: stanza.DeviceList{List: list}})
	show("alice ->", &stanza.MessageUp{ID: 2049, Account: 33, Version: 1, Body: body})
	show("-> alice", &stanza.Ack{IDs: ids})
	show("alice ->", &stanza.MessageUp{ID: 2051, After: 2049, Account: 33, Version: 1, Body: body})
	show("-> alice", &stanza.Refused{ID: 2051, Reason: stanza.ReasonGap, Last: 2048, HasLast: true})
	show("-> bob", &stanza.MessageDown{ID: 2049, From: 17, FromDevice: 1, SentAt: 1_800_000_000_123, Body: []byte("hi bob")})
	show("bob ->", &stanza.DeliveryAck{Count: 1})
	show("-> alice", &stanza.ReceiptDown{Tag: stanza.TagDelivered, From: 33, IDs: ids})
	show("bob ->", &stanza.ReadUp{ID: 2049, Account: 17, Device: 1, IDs: ids})
	show("-> alice", &stanza.ReceiptDown{Tag: stanza.TagRead, From: 33, IDs: ids})
	show("alice ->", &stanza.DeliveryAck{Count: 2})
	show("alice ->", stanza.Ping{})
	show("-> alice", stanza.Pong{})
	show("-> alice", &stanza.Close{Reason: stanza.ReasonDraining, RetryAfter: 1500})
	// Output:
	// alice -> register     020a3105416c69636558f001
	// -> alice bound        03130c1110011c013880a0f1c2b1343c2040808010
	// alice -> query        0b0904013103626f624c01
	// -> alice result       0c3204010c211c013103626f625325241001352000000000000000000000000000000000000000000000000000000000000000b0
	// alice -> message      40100481100c211c01ff0106686920626f62
	// -> alice ack          070421028110
	// alice -> message      401204831008020c211c01ff0106686920626f62
	// -> alice refused      0908048310281e5c8010
	// -> bob   message      40150481101411180124fba0f1c2b134ff686920626f62
	// bob ->   delivery_ack 880101
	// -> alice delivered    4106142121028110
	// bob ->   read         420b0481100c11100121028110
	// -> alice read         4206142121028110
	// alice -> delivery_ack 880102
	// alice -> ping         0500
	// -> alice pong         0600
	// -> alice close        040528062cdc0b
}

// A zero-allocation read of the routing attributes of a message, without a typed stanza.
func ExampleDecode() {
	up := stanza.MessageUp{ID: 2049, Account: 33, Version: 1, Body: stanza.AppendCipher(nil, 1, []byte("hi bob"))}
	v, rest, err := stanza.Decode(up.Append(nil))
	account, _ := v.Uint(stanza.AttrAccount)
	fmt.Println(v.Tag, account, v.Has(stanza.AttrFrom), len(rest), err)
	// Output: message 33 false 0 <nil>
}

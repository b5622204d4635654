package link

// Kind says what an envelope asks or tells. The numbers are the links' wire format: they only grow.
type Kind uint8

// Kinds of envelopes. Behind each: who sends it to whom, the group it is charged to, and what it means. Slot and Gen name a
// session of the gateway in question; payloads called stanza are ready to be sealed for a client as they are.
const (
	// KindHello: leader of a group -> each interested peer, operators among them, when the stream comes up and when leadership starts;
	// Term. Not charged.
	KindHello Kind = 1
	// KindRebind: gateway -> router, dir/N: a session that was bound by an earlier leader, or in an earlier process of the gateway's
	// line, keeps Serial; Account, Device, Slot, Gen, Serial, Epoch (of its attachment, 0: none yet), ID (number expected next there).
	KindRebind Kind = 2
	// KindRebindDone: gateway -> router, dir/N: all sessions were re-sent; Term of the hello answered.
	KindRebindDone Kind = 3
	// KindBind: gateway -> router, dir/N: Account, Device, Slot, Gen, ID (highest id the client says it used), Flags; 32-byte static key, or with
	// FlagResumed its 16-byte wire.StaticHash. What follows, the stanza as the client sent it, is of no interest.
	KindBind Kind = 4
	// KindRegister: gateway -> router, dir/hash(handle): Slot, Gen, ID, Flags; 32-byte static key and the register stanza.
	KindRegister Kind = 5
	// KindRedeem: gateway -> router, dir/hash(invite code): Slot, Gen; 32-byte static key, length byte and folded handle, the code.
	KindRedeem Kind = 6
	// KindRedeemed: router -> gateway: Slot, Gen, Reason (0: the invite is good).
	KindRedeemed Kind = 7
	// KindBound: router -> gateway, dir/N: Slot, Gen, Account, Device, Serial, ID (highest id noted before); 16-byte wire.StaticHash of the
	// device's key, bound stanza.
	KindBound Kind = 8
	// KindClose: router or offline -> gateway: close that session; Slot, Gen, Reason, RetryAfter.
	KindClose Kind = 9
	// KindUnbind: gateway -> router, dir/N: Account, Device, Slot, Gen, Serial.
	KindUnbind Kind = 10
	// KindMessage: gateway -> router, dir/N of the recipient: Slot, Gen, Account and Device of the sender, ID, Charge; stanza.
	KindMessage Kind = 11
	// KindStore: router -> offline, queue/N of the recipient: a message with Gateway filled in.
	KindStore Kind = 12
	// KindAck: offline -> gateway, queue/N: Slot, Gen, ID, Charge: the message is durable.
	KindAck Kind = 13
	// KindRefused: router or offline -> gateway: Slot, Gen, ID, Charge, Reason; refused stanza.
	KindRefused Kind = 14
	// KindAttach: router -> offline, queue/N: Gateway, Account, Device, Slot, Gen, Serial, and of a re-bound session Epoch and ID: the
	// attachment of that epoch goes on under this name.
	KindAttach Kind = 15
	// KindDetach: router -> offline, queue/N: the fields of attach, without the last two.
	KindDetach Kind = 16
	// KindAttachDone: router -> offline, queue/N: all attachments were re-sent; Term of the hello answered.
	KindAttachDone Kind = 17
	// KindDeliver: offline -> gateway, queue/N: Slot, Gen, Epoch, ID (number in the attachment, from 1); stanza.
	KindDeliver Kind = 18
	// KindDeliveryAck: gateway -> offline, queue/N: Account, Device, Slot, Gen, Epoch, ID (attachment number, cumulative).
	KindDeliveryAck Kind = 19
	// KindExpect: gateway -> offline, queue/N: Account, Device, Slot, Gen, Epoch, ID (number expected next).
	KindExpect Kind = 20
	// KindGone: gateway -> router or offline: Account, Device, Slot, Gen: that session is no more; forget it.
	KindGone Kind = 21
	// KindQuery: gateway -> router, dir/N of the handle or account asked: Slot, Gen, Account and Device of the asker, ID; stanza. One about
	// another region goes on: router -> border, with Gateway -> border there -> router.
	KindQuery Kind = 22
	// KindResult: router -> gateway: Slot, Gen, ID; result or error stanza. From another region: router -> border -> border -> router, with
	// Gateway -> gateway.
	KindResult Kind = 23
	// KindNote: gateway -> router, dir/N of the sender: Account, Device, ID (highest id forwarded).
	KindNote Kind = 24
	// KindContact: gateway -> router, dir/N of the sender: Account wrote to the account in ID.
	KindContact Kind = 25
	// KindReceipt: offline of B -> offline of A, queue/A: Account and Device of A, ID (account of B); tag byte, packed ids. With the tag
	// undelivered a byte of reason stands between them. To another region through two borders, and so is the answer.
	KindReceipt Kind = 26
	// KindReceiptStored: offline of A -> offline of B, queue/B: Account of B, ID (first id of the batch); account of A, device of A,
	// tag, packed ids.
	KindReceiptStored Kind = 27
	// KindDropQueue: router -> offline, queue/N: Account, Device: the device was unlinked.
	KindDropQueue Kind = 28
	// KindQueueDropped: offline -> router, dir/N: Account, Device.
	KindQueueDropped Kind = 29
	// KindUnlinkIdle: offline -> router, dir/N: Account, Device: its full queue was not read for 14 days.
	KindUnlinkIdle Kind = 30
	// KindNotLeader: router or offline -> sender: this process does not lead the group; Slot, Gen, ID, Charge copied.
	KindNotLeader Kind = 31

	// kindGrant gives back ID bytes of credit for Group. The package's own; never reaches a Handler. Not charged.
	kindGrant Kind = 32

	// KindTicketKeys: leader of dir/0 -> every gateway; Term: the keys of resumption tickets, wire.AppendTicketKeys; they replace those of
	// a lower term and those that came before.
	KindTicketKeys Kind = 33

	// KindRoster: anybody -> anybody who has not shown to know it: roster.Roster. Sent and handled by Board; never reaches a Handler. Not
	// charged: there is at most one on its way.
	KindRoster Kind = 34
	// KindAnnounce: a router or offline, as operator -> router, dir/0: ID; roster.Member. It is, or its addresses are now, such.
	KindAnnounce Kind = 35
	// KindLeave: operator -> router, dir/0: ID; name of the member that is to leave.
	KindLeave Kind = 36
	// KindMemberAnswer: router -> operator, dir/0: ID; byte: roster.Refusal, 0 for done.
	KindMemberAnswer Kind = 37

	// KindLook: operator -> router or offline: ID. Answered by the stream (Board.Tell); never reaches a Handler.
	KindLook Kind = 38
	// KindLooked: router or offline -> operator: ID; what the process says about itself, in JSON.
	KindLooked Kind = 39

	// KindRegions: border -> router or offline: ID: a bit for each region that can be reached through it now, 1<<number. Not charged.
	KindRegions Kind = 40
	// KindForward: a message or read receipt on its way to its recipient's home region: offline -> border, queue/N -> border of the other
	// region -> router, dir/N -> offline, queue/N, the last two of the recipient. Account and Device of the sender, ID; Slot, Gen: names
	// it for the answer, on each hop by who sends it there; Epoch, from the first hop to the second border: its place in the outbound
	// queue; Gateway, on the last hop: the border; FlagStale; stanza.
	KindForward Kind = 41
	// KindForwarded: border -> border -> offline: the answer to that: Slot, Gen, Epoch, Reason (0: it is stored), RetryAfter, FlagStale. Router
	// and offline answer their border with ack, refused and not_leader.
	KindForwarded Kind = 42

	// KindGrantKeys: leader of dir/0 -> every mediad; Term: the public keys of grants, wire.AppendGrantPublics; they replace those of a
	// lower term and those that came before.
	KindGrantKeys Kind = 43

	// KindRelaySecrets: leader of dir/0 -> every turnd; Term: what credentials of relays are verified with, wire.AppendRelaySecrets; they
	// replace those of a lower term and those that came before.
	KindRelaySecrets Kind = 44

	kindEnd Kind = 45

	// kindsOld is the last kind that peers know who do not say which they know.
	kindsOld = KindTicketKeys
)

// Bits of Envelope.Flags.
const (
	// FlagInvited on a register: the gateway has redeemed an invite for it.
	FlagInvited uint8 = 1 << 0
	// FlagResumed on a bind: the session showed a ticket and not its static key, of which the gateway knows the hash.
	FlagResumed uint8 = 1 << 1
	// FlagStale on a forward and what answers it: the message was made for another device list than its recipient has.
	FlagStale uint8 = 1 << 2
)

var kindNames = [kindEnd]string{
	"none", "hello", "rebind", "rebind_done", "bind", "register", "redeem", "redeemed", "bound", "close", "unbind", "message",
	"store", "ack", "refused", "attach", "detach", "attach_done", "deliver", "delivery_ack", "expect", "gone", "query", "result",
	"note", "contact", "receipt", "receipt_stored", "drop_queue", "queue_dropped", "unlink_idle", "not_leader", "grant",
	"ticket_keys", "roster", "announce", "leave", "member_answer", "look", "looked", "regions", "forward", "forwarded",
	"grant_keys", "relay_secrets",
}

// String returns the kind's name, as logs and metric labels show it; "unknown" outside of the list.
func (k Kind) String() string {
	if k >= kindEnd {
		return "unknown"
	}
	return kindNames[k]
}

// charged reports whether envelopes of this kind use up credits.
func (k Kind) charged() bool {
	return k != KindHello && k != kindGrant && k != KindRoster && k != KindRegions
}

package stanza

// Budget is the encoded size of one kind of stanza against its limit, both in bytes of plaintext: flags byte of a frame of its own
// included, ciphertext and the 18 bytes of frame length and tag not.
type Budget struct {
	Name  string
	Limit int
	Size  int
}

// The numbers that the budgets are measured with: the largest account, a counter after 268 million messages, today's clock.
const (
	budgetAccount = MaxAccount
	budgetID      = 1<<28 - 1
	budgetSentAt  = 1_800_000_000_000
	budgetDevice  = 127 // further devices are numbered from 128 on, one byte more each
	budgetVersion = 1<<14 - 1
	budgetCipher  = 16_000 // from 16,384 bytes on each of two lengths takes one byte more
)

// Budgets measures every kind of stanza that has a byte budget with the encoder itself. It allocates; for tests and reports.
func Budgets() []Budget {
	one := messageUpSize(1)
	ids := AppendPacked(nil, []uint64{budgetID})
	down := MessageDown{
		ID: budgetID, From: budgetAccount, FromDevice: budgetDevice, SentAt: budgetSentAt, Body: make([]byte, budgetCipher),
	}
	receipt := ReceiptDown{Tag: TagDelivered, From: budgetAccount, IDs: ids}
	ack := Ack{IDs: ids}
	deliveryAck := DeliveryAck{Count: 127}
	return []Budget{
		{"message up", 24, one},
		{"message down", 32, framed(down.Append(nil)) - budgetCipher},
		{"each further device of the account", 4, (messageUpSize(8) - one + 6) / 7},
		{"receipt down (delivered, read)", 16, framed(receipt.Append(nil))},
		{"ack down", 10, framed(ack.Append(nil))},
		{"delivery_ack up", 4, framed(deliveryAck.Append(nil))},
		{"ping", 3, framed(Ping{}.Append(nil))},
	}
}

// framed is the size of a frame's plaintext with this one stanza.
func framed(stanza []byte) int { return 1 + len(stanza) }

// messageUpSize is the size of an upward message to so many devices, beyond the ciphertexts. They share budgetCipher bytes, so that
// all sizes compare messages of one length.
func messageUpSize(devices int) int {
	cipher := make([]byte, budgetCipher/devices)
	var body []byte
	for i := range devices {
		body = AppendCipher(body, budgetDevice+Device(i), cipher)
	}
	up := MessageUp{ID: budgetID, After: budgetID - 127, Account: budgetAccount, Version: budgetVersion, Body: body}
	return framed(up.Append(nil)) - devices*len(cipher)
}

package stanza

// Limits of the codec. Longer or deeper input is rejected before anything is done with it.
const (
	MaxFrame   = 65535 - 16   // plaintext of a frame: flags byte and stanzas; what a sealed frame of 65,535 bytes holds
	MaxStanza  = MaxFrame - 1 // one encoded stanza
	MaxStanzas = 256          // stanzas of a frame
	MaxAttr    = 62           // highest attribute number; ascending without repeats, so also the attributes of a stanza or record
	MaxDepth   = 4            // nested lists
	MaxPacked  = 64           // numbers of a packed list

	// MaxID bounds ids, versions, stamps and counters: far beyond what a device can send, and room to add to without overflow.
	MaxID = 1<<56 - 1
)

// wireType is the low two bits of a key byte.
type wireType uint8

const (
	wireVarint wireType = 0
	wireBytes  wireType = 1
	wireFixed  wireType = 2
	wireList   wireType = 3
	wireNone   wireType = 0xff // in attrWires: not in the list, any wire type is legal
)

const (
	rawBit   = 0x80 // of the tag byte
	bodyMark = 0xff // key byte before a body
)

// keyOf returns the key byte of an attribute.
func keyOf(a Attr, w wireType) byte { return byte(a)<<2 | byte(w) }

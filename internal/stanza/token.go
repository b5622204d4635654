package stanza

// Tag is the number of a stanza's kind: 1..127, the low seven bits of its first byte. Numbers are those of tokens.txt.
type Tag uint8

// Attr is the number of an attribute: 1..62.
type Attr uint8

// Op is the operation of a query.
type Op uint8

// unknownToken names every number that is not in the lists, so that names stay a closed set of metric labels.
const unknownToken = "unknown"

// Delivery reports whether a downward stanza of this tag counts towards the session's delivery number and is acknowledged with
// delivery_ack; it holds for tags that this version does not know.
func (t Tag) Delivery() bool { return t >= 64 }

// String returns the token's name, "unknown" outside the list.
func (t Tag) String() string { return nameOf(tagNames[:], int(t)) }

// String returns the token's name, "unknown" outside the list.
func (a Attr) String() string { return nameOf(attrNames[:], int(a)) }

// String returns the token's name, "unknown" outside the list.
func (o Op) String() string { return nameOf(opNames[:], int(o)) }

func nameOf(names []string, n int) string {
	if n < len(names) && names[n] != "" {
		return names[n]
	}
	return unknownToken
}

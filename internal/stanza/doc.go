// Package stanza is the vocabulary of linecard: addresses, tokens, reasons, and the codec of stanzas. docs/protocol.md specifies
// the encoding; wire seals what this package encodes.
//
// A decrypted frame is a flags byte (0 today) and one or more stanzas. A stanza is
//
//	tag      1 byte: low 7 bits the tag's number; bit 7 (raw): the content is all body, no attributes
//	length   minimal uvarint: bytes of content
//	content  attributes in ascending order, each a key byte (number<<2 | wire type) and a value;
//	         then, if there is a body, the key byte 0xFF and the body, to the end of the content
//
// Wire types: 0 varint (minimal LEB128, at most 64 bits), 1 bytes (uvarint length and bytes), 2 fixed8 (8 bytes, big-endian),
// 3 list (uvarint byte length, then records, each a uvarint length and attributes, no body). Every stanza has exactly one
// encoding: the raw bit is set iff there are no attributes and the body is not empty, the body mark appears only between
// attributes and a body that is not empty. Decode rejects everything else. Unknown tags and unknown attributes are legal,
// skipped, and kept when the stanza is relayed by its Raw bytes.
//
// Decoding borrows: a View and everything that it returns are views into the frame, valid as long as the frame. Decode, the accessors,
// the Parse functions and Append allocate nothing, with the exceptions that say so (compressed device lists, addresses as text).
//
// Threading: plain functions over the caller's bytes, safe for concurrent use on different values; the zstd coders behind
// device lists are shared and safe for concurrent use. No goroutine, clock, log or network.
//
// Files:
//
//	address.go    Account, Device, Group, shards, handles      errors.go     the decoding errors
//	token.go      Tag, Attr, Op    tokens.txt -> tokens_gen.go reason.go     Reason, Retry    reasons.txt -> reasons_gen.go
//	varint.go     minimal varints                              limits.go     wire types and limits
//	decode.go     Decode, DecodeFrame: validation              view.go       View, Records, Record: accessors
//	build.go      Builder                                      packed.go     packed numbers
//	fields.go     range checks of typed stanzas                session.go    bind, register, bound, close, ping, pong
//	message.go    message, read, delivered                     cipher.go     ciphertexts of an upward message's body
//	ack.go        ack, delivery_ack, refused, retry            query.go      query, result, error
//	devices.go    device lists                                 compress.go   zstd
//	budget.go     encoded sizes against the byte budgets       gen/          the generator
package stanza

//go:generate go run ./gen

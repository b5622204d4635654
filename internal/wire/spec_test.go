package wire

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// This file is Noise_XX and Noise_NNpsk0_25519_ChaChaPoly_SHA256 once more, written from the Noise specification (revision 34) on plain primitives:
// it shares no code with flynn/noise, with circl or with this package, so that a vector on which both agree is not one mistake made twice.

// specSymmetric is the SymmetricState of section 5.2 with the CipherState of 5.1 in it.
type specSymmetric struct {
	ck, h []byte
	k     []byte // empty until the first MixKey
	n     uint64
}

func specInit(protocol string, prologue []byte) *specSymmetric {
	h := []byte(protocol) // 32 bytes: it is h itself; shorter names than that are none of ours
	if len(h) != 32 {
		sum := sha256.Sum256(h)
		h = sum[:]
	}
	s := &specSymmetric{ck: h, h: h}
	s.mixHash(prologue)
	return s
}

func (s *specSymmetric) mixHash(data []byte) {
	sum := sha256.Sum256(append(bytes.Clone(s.h), data...))
	s.h = sum[:]
}

// specHMAC is HMAC-SHA256, section 4.3.
func specHMAC(key, data []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(data)
	return m.Sum(nil)
}

// specHKDF is HKDF with two outputs, section 4.3.
func specHKDF(ck, ikm []byte) (one, two []byte) {
	temp := specHMAC(ck, ikm)
	one = specHMAC(temp, []byte{1})
	return one, specHMAC(temp, append(bytes.Clone(one), 2))
}

// mixDH is MixKey(DH(private, public)).
func (s *specSymmetric) mixDH(private, public []byte) { s.mixKey(specDH(private, public)) }

func (s *specSymmetric) mixKey(material []byte) {
	s.ck, s.k = specHKDF(s.ck, material)
	s.n = 0
}

// mixKeyAndHash is MixKeyAndHash, section 5.2: HKDF with three outputs.
func (s *specSymmetric) mixKeyAndHash(psk []byte) {
	temp := specHMAC(s.ck, psk)
	one := specHMAC(temp, []byte{1})
	two := specHMAC(temp, append(bytes.Clone(one), 2))
	three := specHMAC(temp, append(bytes.Clone(two), 3))
	s.ck, s.k, s.n = one, three, 0
	s.mixHash(two)
}

func specDH(private, public []byte) []byte {
	k, err := ecdh.X25519().NewPrivateKey(private)
	if err != nil {
		panic(err)
	}
	p, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		panic(err)
	}
	secret, err := k.ECDH(p)
	if err != nil {
		panic(err)
	}
	return secret
}

// specNonce is the ChaChaPoly nonce of section 12.3.
func specNonce(n uint64) []byte {
	return binary.LittleEndian.AppendUint64(make([]byte, 4), n)
}

func specSeal(k []byte, n uint64, ad, plain []byte) []byte {
	a, err := chacha20poly1305.New(k)
	if err != nil {
		panic(err)
	}
	return a.Seal(nil, specNonce(n), plain, ad)
}

// encryptAndHash is EncryptAndHash of section 5.2.
func (s *specSymmetric) encryptAndHash(plain []byte) []byte {
	out := plain
	if len(s.k) > 0 {
		out = specSeal(s.k, s.n, s.h, plain)
		s.n++
	}
	s.mixHash(out)
	return out
}

func specPublic(private []byte) []byte {
	k, err := ecdh.X25519().NewPrivateKey(private)
	if err != nil {
		panic(err)
	}
	return k.PublicKey().Bytes()
}

// specXX is a whole handshake as somebody sees it who has all four private keys.
type specXX struct {
	messages [3][]byte // Noise messages
	hashes   [3][]byte // h after each message
	up, down []byte    // keys: initiator to responder and back
}

// runSpecXX computes section 7.5's XX: -> e; <- e, ee, s, es; -> s, se.
func runSpecXX(prologue, clientStatic, clientEphemeral, serverStatic, serverEphemeral, cert, payload []byte) specXX {
	var out specXX
	s := specInit("Noise_XX_25519_ChaChaPoly_SHA256", prologue)
	re, rs := specPublic(serverEphemeral), specPublic(serverStatic)
	ie, is := specPublic(clientEphemeral), specPublic(clientStatic)

	s.mixHash(ie)
	out.messages[0] = append(bytes.Clone(ie), s.encryptAndHash(nil)...)
	out.hashes[0] = s.h

	s.mixHash(re)
	s.mixDH(clientEphemeral, re) // ee
	m := append(bytes.Clone(re), s.encryptAndHash(rs)...)
	s.mixDH(clientEphemeral, rs) // es
	out.messages[1] = append(m, s.encryptAndHash(cert)...)
	out.hashes[1] = s.h

	m = s.encryptAndHash(is)
	s.mixDH(clientStatic, re) // se
	out.messages[2] = append(bytes.Clone(m), s.encryptAndHash(payload)...)
	out.hashes[2] = s.h

	out.up, out.down = specHKDF(s.ck, nil) // Split
	return out
}

// specResume is a whole resumption as somebody sees it who has the PSK and both private keys.
type specResume struct {
	messages [2][]byte
	hashes   [2][]byte
	up, down []byte
}

// runSpecResume computes NNpsk0, sections 7.5 and 9: -> psk, e; <- e, ee. With a psk, e is mixed into the key too.
func runSpecResume(prologue, psk, clientEphemeral, serverEphemeral []byte) specResume {
	var out specResume
	s := specInit("Noise_NNpsk0_25519_ChaChaPoly_SHA256", prologue)
	ie, re := specPublic(clientEphemeral), specPublic(serverEphemeral)
	s.mixKeyAndHash(psk)
	s.mixHash(ie)
	s.mixKey(ie)
	out.messages[0] = append(bytes.Clone(ie), s.encryptAndHash(nil)...)
	out.hashes[0] = s.h

	s.mixHash(re)
	s.mixKey(re)
	s.mixDH(clientEphemeral, re) // ee
	out.messages[1] = append(bytes.Clone(re), s.encryptAndHash(nil)...)
	out.hashes[1] = s.h
	out.up, out.down = specHKDF(s.ck, nil) // Split
	return out
}

// specFrame is the frame of docs/protocol.md: length, body.
func specFrame(parts ...[]byte) []byte {
	b := bytes.Join(parts, nil)
	if len(b) > 65535 {
		panic(fmt.Sprint("a body of ", len(b)))
	}
	return append([]byte{byte(len(b) >> 8), byte(len(b))}, b...)
}

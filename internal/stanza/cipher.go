package stanza

// AppendCipher appends one device's ciphertext to the body of an upward message. The caller keeps devices ascending, at most
// MaxDevices of them, and ciphertexts not empty.
func AppendCipher(dst []byte, d Device, ciphertext []byte) []byte {
	dst = appendUvarint(dst, uint64(d))
	dst = appendUvarint(dst, uint64(len(ciphertext)))
	return append(dst, ciphertext...)
}

// NextCipher takes the first device's ciphertext off the body of an upward message. cipher and rest borrow body; rest is empty
// behind the last. It checks this one entry; that devices ascend and are not too many is ValidCiphers' to check. Its error wraps
// ErrStanza.
func NextCipher(body []byte) (d Device, cipher, rest []byte, err error) {
	n, l := uvarint(body)
	if l <= 0 {
		return 0, nil, nil, varintFault(l)
	}
	if n == 0 || n > uint64(MaxDevice) {
		return 0, nil, nil, ErrValue
	}
	cipher, rest, err = span(body[l:])
	if err == nil && len(cipher) == 0 {
		err = ErrBody
	}
	if err != nil {
		return 0, nil, nil, err
	}
	return Device(n), cipher, rest, nil
}

// ValidCiphers checks the whole body of an upward message: 1..MaxDevices entries, devices ascending, ciphertexts not empty. It
// returns the number of entries, or an error that wraps ErrStanza.
func ValidCiphers(body []byte) (n int, err error) {
	if len(body) == 0 {
		return 0, ErrBody
	}
	last := Device(0)
	for len(body) > 0 {
		d, _, rest, err := NextCipher(body)
		if err != nil {
			return 0, err
		}
		if d <= last {
			return 0, ErrNotCanonical
		}
		if n++; n > MaxDevices {
			return 0, ErrTooMany
		}
		last, body = d, rest
	}
	return n, nil
}

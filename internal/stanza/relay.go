package stanza

// Bounds of what is about relays.
const (
	MaxCredential = 512 // bytes of a name, and of a password; TURN takes names below 513
	MaxRelayURLs  = 16  // URLs in a result
	MaxRelayURL   = 255 // bytes of one
)

// AppendURLs appends the list content of urls to dst, as Result has it: a record with a url for each. Limits are the receiver's to check.
func AppendURLs(dst []byte, urls []string) []byte {
	for _, u := range urls {
		b := BeginRecord(dst)
		b.Bytes(AttrURL, []byte(u))
		dst = b.EndRecord()
	}
	return dst
}

// RelayURLs returns the URLs of s, which was parsed, as copies; nil = none.
func (s *Result) RelayURLs() (urls []string) {
	for records := (Records{rest: s.URLs}); ; {
		rec, ok := records.Next()
		if !ok {
			return urls
		}
		u, _ := rec.Bytes(AttrURL)
		urls = append(urls, string(u))
	}
}

// urls returns an optional list of URLs; nil if it is absent.
func (r *reader) urls() []byte {
	records, _ := r.v.List(AttrURLs)
	list := records.rest
	for count := 1; ; count++ {
		rec, ok := records.Next()
		if !ok {
			return list
		}
		u, _ := rec.Bytes(AttrURL)
		switch {
		case count > MaxRelayURLs:
			r.fail(ErrTooMany)
		case len(u) == 0:
			r.fail(ErrMissing)
		case len(u) > MaxRelayURL:
			r.fail(ErrTooLong)
		}
	}
}

// optList appends a list unless it has no records.
func (b *Builder) optList(a Attr, list []byte) {
	if len(list) != 0 {
		b.List(a, list)
	}
}

package stanza

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// appender is what every typed stanza is.
type appender interface{ Append(dst []byte) []byte }

type parser struct {
	name  string
	tag   Tag // 0: two tags, which the function checks
	parse func(View) (appender, error)
}

// parsers has a way to read each typed stanza, and gives it back ready to append. Message and read differ by direction.
var parsers = []parser{
	{"bind", TagBind, func(v View) (appender, error) { s, err := ParseBind(v); return &s, err }},
	{"register", TagRegister, func(v View) (appender, error) { s, err := ParseRegister(v); return &s, err }},
	{"bound", TagBound, func(v View) (appender, error) { s, err := ParseBound(v); return &s, err }},
	{"close", TagClose, func(v View) (appender, error) { s, err := ParseClose(v); return &s, err }},
	{"ping", TagPing, func(v View) (appender, error) { return wrap(ParsePing(v)) }},
	{"pong", TagPong, func(v View) (appender, error) { return wrap(ParsePong(v)) }},
	{"ack", TagAck, func(v View) (appender, error) { s, err := ParseAck(v); return &s, err }},
	{"delivery_ack", TagDeliveryAck, func(v View) (appender, error) { s, err := ParseDeliveryAck(v); return &s, err }},
	{"refused", TagRefused, func(v View) (appender, error) { s, err := ParseRefused(v); return &s, err }},
	{"retry", TagRetry, func(v View) (appender, error) { return wrap(ParseRetryAll(v)) }},
	{"query", TagQuery, func(v View) (appender, error) { s, err := ParseQuery(v); return &s, err }},
	{"result", TagResult, func(v View) (appender, error) { s, err := ParseResult(v); return &s, err }},
	{"error", TagError, func(v View) (appender, error) { s, err := ParseQueryError(v); return &s, err }},
	{"message up", TagMessage, func(v View) (appender, error) { s, err := ParseMessageUp(v); return &s, err }},
	{"message down", TagMessage, func(v View) (appender, error) { s, err := ParseMessageDown(v); return &s, err }},
	{"read up", TagRead, func(v View) (appender, error) { s, err := ParseReadUp(v); return &s, err }},
	{"undelivered", TagUndelivered, func(v View) (appender, error) { s, err := ParseUndelivered(v); return &s, err }},
	{"receipt down", 0, func(v View) (appender, error) { s, err := ParseReceiptDown(v); return &s, err }},
}

func wrap[T appender](s T, err error) (appender, error) { return s, err }

// deviceKeys makes n devices with keys of equal bytes, or of different bytes that do not compress.
func deviceKeys(n int) []DeviceKey {
	keys := make([]DeviceKey, n)
	x := uint32(1)
	for i := range keys {
		keys[i].Device = Device(3*i + 1)
		for j := range keys[i].Key {
			x = x*1664525 + 1013904223
			keys[i].Key[j] = byte(x >> 24)
		}
	}
	return keys
}

// samples has at least one of every typed stanza.
func samples() map[string]appender {
	ids := AppendPacked(nil, []uint64{1000, 1001, 1005})
	key := bytes.Repeat([]byte{0xab}, KeySize)
	small, large := AppendDevices(nil, deviceKeys(3)), AppendDevices(nil, deviceKeys(MaxDevices))
	body := AppendCipher(AppendCipher(nil, 1, []byte("cipher one")), 2, []byte("cipher two"))
	return map[string]appender{
		"bind":                &Bind{Account: MaxAccount, Device: 3, ID: 4096, Interval: 240},
		"bind, least":         &Bind{Account: 1, Device: 1},
		"register":            &Register{Handle: []byte("Alice"), Invite: []byte("code"), ID: 9, Interval: 60},
		"register, least":     &Register{Handle: []byte("a")},
		"bound":               &Bound{Account: 18, Device: 2, Version: 3, Time: 1_800_000_000_123, WindowIDs: 32, WindowBytes: 256 << 10, ID: 77},
		"bound with ticket":   &Bound{Account: 18, Device: 2, Version: 3, Time: 1_800_000_000_123, WindowIDs: 32, WindowBytes: 256 << 10, Ticket: bytes.Repeat([]byte{7}, MaxTicket)},
		"close":               &Close{Reason: ReasonDraining, RetryAfter: 1500},
		"close, least":        &Close{Reason: ReasonDisplaced},
		"ping":                Ping{},
		"ping, interval":      Ping{Interval: 900},
		"pong":                Pong{},
		"ack":                 &Ack{IDs: ids},
		"delivery_ack":        &DeliveryAck{Count: 300},
		"retry":               RetryAll{},
		"refused, gap":        &Refused{ID: 12, Reason: ReasonGap, Last: 0, HasLast: true},
		"refused, full":       &Refused{ID: 12, Reason: ReasonQueueFull, RetryAfter: 2000, Full: AppendPacked(nil, []uint64{1, 3})},
		"refused, stale":      &Refused{ID: 12, Reason: ReasonStaleDevices, Version: 4, Devices: DeviceList{List: small}},
		"refused, compressed": &Refused{ID: 12, Reason: ReasonStaleDevices, Version: 4, Devices: DeviceList{List: large}, HasLast: true, Last: 1},
		"query, lookup":       &Query{ID: 1, Op: OpLookup, Handle: []byte("Bob")},
		"query, devices":      &Query{ID: 2, Op: OpDeviceList, Account: 33},
		"query, link":         &Query{ID: 3, Op: OpLink, Key: key},
		"query, unlink":       &Query{ID: 4, Op: OpUnlink, Device: 2},
		"query, upload":       &Query{ID: 5, Op: OpMediaGrant, Method: GrantUpload, Size: 100 << 20},
		"query, download":     &Query{ID: 6, Op: OpMediaGrant, Method: GrantDownload, Blob: key},
		"result, grant":       &Result{ID: 5, Expiry: 1_800_000_900_000, Grant: bytes.Repeat([]byte{7}, MaxGrant), URL: []byte("https://media.example.com")},
		"query, relay":        &Query{ID: 7, Op: OpRelay},
		"result, relay": &Result{ID: 7, Expiry: 1_800_043_200_000, Username: []byte("1800043200:21"), Password: []byte("Cd/49soE35ICqcJF/bCTn8Z4OyE="),
			URLs: AppendURLs(nil, []string{"turn:relay.example.com:3478?transport=udp", "turns:relay.example.com:5349?transport=tcp"})},
		"result, lookup":     &Result{ID: 1, Account: 33, Version: 2, Handle: []byte("bob"), Devices: DeviceList{List: small}},
		"result, compressed": &Result{ID: 2, Account: 33, Version: 40, Devices: DeviceList{List: large}},
		"result, link":       &Result{ID: 3, Device: 2, Version: 3},
		"result, no devices": &Result{ID: 3, Account: 4, Devices: DeviceList{List: []byte{}}},
		"error":              &QueryError{ID: 5, Reason: ReasonBusy, RetryAfter: 250},
		"message up":         &MessageUp{ID: 1000, After: 999, Account: 33, Version: 2, Body: body},
		"message up, least":  &MessageUp{ID: 1, Account: 33, Version: 1, Body: body},
		"message down":       &MessageDown{ID: 1000, From: 18, FromDevice: 1, SentAt: 1_800_000_000_456, Body: []byte("cipher one")},
		"read up":            &ReadUp{ID: 2000, After: 1, Account: 18, Device: 1, IDs: ids},
		"read down":          &ReceiptDown{Tag: TagRead, From: 33, IDs: ids},
		"undelivered":        &Undelivered{From: 33, IDs: ids, Reason: ReasonStaleDevices},
		"delivered":          &ReceiptDown{Tag: TagDelivered, From: 33, IDs: ids},
	}
}

// sampleStanzas are the samples, encoded.
func sampleStanzas(testing.TB) map[string][]byte {
	encoded := map[string][]byte{}
	for name, s := range samples() {
		encoded[name] = s.Append(nil)
	}
	return encoded
}

func TestTypedRoundTrip(t *testing.T) {
	for name, s := range samples() {
		enc := s.Append([]byte("x"))
		v, rest, err := Decode(enc[1:])
		if err != nil || len(rest) != 0 || enc[0] != 'x' {
			t.Errorf("%s: %v, %d bytes left", name, err, len(rest))
			continue
		}
		parsed := 0
		for _, p := range parsers {
			got, err := p.parse(v)
			if p.tag != v.Tag && p.tag != 0 && !errors.Is(err, ErrTag) {
				t.Errorf("%s parsed as %s: %v", name, p.name, err)
			}
			if err != nil {
				continue
			}
			parsed++
			if again := got.Append(nil); !bytes.Equal(again, enc[1:]) {
				t.Errorf("%s as %s: appended %x, want %x", name, p.name, again, enc[1:])
			}
			if reflect.TypeOf(got) == reflect.TypeOf(s) && !equalStanza(got, s) {
				t.Errorf("%s: parsed %+v, want %+v", name, got, s)
			}
		}
		if parsed == 0 {
			t.Errorf("%s: no parser took it", name)
		}
	}
}

// equalStanza compares two typed stanzas, device lists by their devices.
func equalStanza(a, b appender) bool {
	switch x := a.(type) {
	case *Result:
		y, z := *x, *b.(*Result)
		ok := sameDevices(y.Devices, z.Devices)
		y.Devices, z.Devices = DeviceList{}, DeviceList{}
		return ok && reflect.DeepEqual(y, z)
	case *Refused:
		y, z := *x, *b.(*Refused)
		ok := sameDevices(y.Devices, z.Devices)
		y.Devices, z.Devices = DeviceList{}, DeviceList{}
		return ok && reflect.DeepEqual(y, z)
	}
	return reflect.DeepEqual(a, b)
}

func sameDevices(a, b DeviceList) bool {
	x, err1 := a.Keys(nil)
	y, err2 := b.Keys(nil)
	return err1 == nil && err2 == nil && a.None() == b.None() && slices.Equal(x, y)
}

func TestParseFaults(t *testing.T) {
	ids := AppendPacked(nil, []uint64{1})
	with := func(tag Tag, f func(b *Builder), body string) []byte {
		b := Begin(nil, tag)
		f(&b)
		return b.End([]byte(body))
	}
	withURLs := func(urls ...string) []byte {
		return with(TagResult, func(b *Builder) { b.Uint(AttrID, 1); b.List(AttrURLs, AppendURLs(nil, urls)) }, "")
	}
	for _, c := range []struct {
		name   string
		stanza []byte
		want   error
	}{
		{"bind", with(TagBind, func(b *Builder) { b.Uint(AttrDevice, 1) }, ""), ErrMissing},
		{"bind", with(TagBind, func(b *Builder) { b.Uint(AttrAccount, 0); b.Uint(AttrDevice, 1) }, ""), ErrValue},
		{"bind", with(TagBind, func(b *Builder) { b.Uint(AttrAccount, 1<<34); b.Uint(AttrDevice, 1) }, ""), ErrValue},
		{"bind", with(TagBind, func(b *Builder) { b.Uint(AttrAccount, 1); b.Uint(AttrDevice, 1<<16) }, ""), ErrValue},
		{"bind", with(TagBind, func(b *Builder) { b.Uint(AttrID, MaxID+1); b.Uint(AttrAccount, 1); b.Uint(AttrDevice, 1) }, ""), ErrValue},
		{"bind", with(TagBind, func(b *Builder) { b.Uint(AttrAccount, 1); b.Uint(AttrDevice, 1) }, "x"), ErrBody},
		{"register", with(TagRegister, func(b *Builder) {}, ""), ErrMissing},
		{"register", with(TagRegister, func(b *Builder) { b.Bytes(AttrHandle, make([]byte, 257)) }, ""), ErrTooLong},
		{"register", with(TagRegister, func(b *Builder) { b.Bytes(AttrHandle, ids); b.Bytes(AttrInvite, make([]byte, 65)) }, ""), ErrTooLong},
		{"close", with(TagClose, func(b *Builder) { b.Uint(AttrReason, 1<<16) }, ""), ErrValue},
		{"close", with(TagClose, func(b *Builder) { b.Uint(AttrReason, 1); b.Uint(AttrRetryAfter, 1<<32) }, ""), ErrValue},
		{"ping", with(TagPing, func(b *Builder) {}, "x"), ErrBody},
		{"ping", with(TagPing, func(b *Builder) { b.Uint(AttrInterval, 1<<32) }, ""), ErrValue},
		{"ack", with(TagAck, func(b *Builder) {}, ""), ErrMissing},
		{"ack", with(TagAck, func(b *Builder) { b.Bytes(AttrIDs, bytes.Repeat([]byte{1}, MaxPacked+1)) }, ""), ErrTooMany},
		{"ack", with(TagAck, func(b *Builder) { b.Bytes(AttrIDs, []byte{1, 0}) }, ""), ErrValue},
		{"delivery_ack", []byte{byte(TagDeliveryAck), 0}, ErrBody},
		{"delivery_ack", with(TagDeliveryAck, func(*Builder) {}, "\x00"), ErrValue},
		{"delivery_ack", with(TagDeliveryAck, func(*Builder) {}, "\x01\x01"), ErrBody},
		{"delivery_ack", with(TagDeliveryAck, func(*Builder) {}, "\x81\x00"), ErrBody},
		{"delivery_ack", with(TagDeliveryAck, func(*Builder) {}, "\x80\x80\x80\x80\x10"), ErrValue},
		{"query", with(TagQuery, func(b *Builder) { b.Uint(AttrID, 1) }, ""), ErrMissing},
		{"query", with(TagQuery, func(b *Builder) { b.Uint(AttrID, 1); b.Bytes(AttrKey, ids); b.Uint(AttrOp, 3) }, ""), ErrValue},
		{"query", with(TagQuery, func(b *Builder) { b.Uint(AttrID, 1); b.Uint(AttrOp, 256) }, ""), ErrValue},
		{"query", with(TagQuery, func(b *Builder) { b.Uint(AttrID, 1); b.Uint(AttrOp, 10); b.Uint(AttrMethod, 256) }, ""), ErrValue},
		{"query", with(TagQuery, func(b *Builder) { b.Uint(AttrID, 1); b.Uint(AttrOp, 10); b.Uint(AttrSize, MaxID+1) }, ""), ErrValue},
		{"query", with(TagQuery, func(b *Builder) { b.Uint(AttrID, 1); b.Uint(AttrOp, 10); b.Bytes(AttrBlob, make([]byte, 31)) }, ""), ErrValue},
		{"result", with(TagResult, func(b *Builder) { b.Uint(AttrID, 1); b.Uint(AttrExpiry, MaxID+1) }, ""), ErrValue},
		{"result", with(TagResult, func(b *Builder) { b.Uint(AttrID, 1); b.Bytes(AttrGrant, make([]byte, MaxGrant+1)) }, ""), ErrTooLong},
		{"result", with(TagResult, func(b *Builder) { b.Uint(AttrID, 1); b.Bytes(AttrURL, make([]byte, MaxMediaURL+1)) }, ""), ErrTooLong},
		{"result", with(TagResult, func(b *Builder) { b.Uint(AttrID, 1); b.Bytes(AttrUsername, make([]byte, MaxCredential+1)) }, ""), ErrTooLong},
		{"result", with(TagResult, func(b *Builder) { b.Uint(AttrID, 1); b.Bytes(AttrPassword, make([]byte, MaxCredential+1)) }, ""), ErrTooLong},
		{"result", withURLs(strings.Repeat("x", MaxRelayURL+1)), ErrTooLong},
		{"result", withURLs("turn:a", ""), ErrMissing},
		{"result", withURLs(strings.Split(strings.Repeat("x", MaxRelayURLs+1), "")...), ErrTooMany},
		{"result", with(TagResult, func(b *Builder) { b.Uint(AttrID, 1); b.List(AttrURLs, []byte{0}) }, ""), ErrMissing},
		{"message up", with(TagMessage, func(b *Builder) { b.Uint(AttrID, 1); b.Uint(AttrAccount, 1); b.Uint(AttrVersion, 1) }, ""), ErrBody},
		{"message up", with(TagMessage, func(b *Builder) { b.Uint(AttrID, 1); b.Uint(AttrAccount, 1) }, "x"), ErrMissing},
		{"message up", with(TagMessage, func(b *Builder) {
			b.Uint(AttrID, 5)
			b.Uint(AttrAfter, 5)
			b.Uint(AttrAccount, 1)
			b.Uint(AttrVersion, 1)
		}, "x"), ErrValue},
		{"message up", with(TagMessage, func(b *Builder) {
			b.Uint(AttrID, 5)
			b.Uint(AttrAfter, 0)
			b.Uint(AttrAccount, 1)
			b.Uint(AttrVersion, 1)
		}, "x"), ErrValue},
		{"message down", with(TagMessage, func(b *Builder) { b.Uint(AttrID, 5); b.Uint(AttrFrom, 5) }, "x"), ErrMissing},
		{"receipt down", with(TagPing, func(b *Builder) { b.Uint(AttrFrom, 1); b.Bytes(AttrIDs, ids) }, ""), ErrTag},
		{"receipt down", with(TagDelivered, func(b *Builder) { b.Bytes(AttrIDs, ids) }, ""), ErrMissing},
		{"result", with(TagResult, func(b *Builder) { b.Uint(AttrID, 1) }, "x"), ErrBody},
		{"result", with(TagResult, func(b *Builder) { b.Uint(AttrID, 1); b.Uint(AttrZsize, 10) }, ""), ErrBody},
		{"result", with(TagResult, func(b *Builder) { b.Uint(AttrID, 1); b.Uint(AttrZsize, MaxList+1) }, "x"), ErrValue},
		{"result", with(TagResult, func(b *Builder) { b.Uint(AttrID, 1); b.Uint(AttrZsize, 0) }, "x"), ErrValue},
		{"result", with(TagResult, func(b *Builder) { b.Uint(AttrID, 1); b.List(AttrDevices, nil); b.Uint(AttrZsize, 9) }, "x"), ErrNotCanonical},
		{"refused", with(TagRefused, func(b *Builder) { b.Uint(AttrID, 1); b.Uint(AttrReason, 32); b.Bytes(AttrFull, nil) }, ""), ErrMissing},
	} {
		v, _, err := Decode(c.stanza)
		if err != nil {
			t.Errorf("%s %x: does not decode: %v", c.name, c.stanza, err)
			continue
		}
		i := slices.IndexFunc(parsers, func(p parser) bool { return p.name == c.name })
		if _, err := parsers[i].parse(v); !errors.Is(err, c.want) || !errors.Is(err, ErrStanza) {
			t.Errorf("%s %x: %v, want %v", c.name, c.stanza, err, c.want)
		}
	}
}

func TestUnknownAttributesAreSkipped(t *testing.T) {
	b := Begin(nil, TagPing)
	b.Uint(60, 1)
	v, _, err := Decode(b.End(nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParsePing(v); err != nil {
		t.Error(err)
	}
}

// TestAppendWith: the attribute comes to its place, and everything else stays as it is.
func TestAppendWith(t *testing.T) {
	for name, s := range samples() {
		raw := s.Append(nil)
		v, _, err := Decode(raw)
		if err != nil {
			t.Fatal(name, err)
		}
		out := v.AppendWith([]byte("x"), AttrTicket, []byte("abc"))[1:]
		w, rest, err := Decode(out)
		if err != nil || len(rest) != 0 || w.Tag != v.Tag || !bytes.Equal(w.Body(), v.Body()) {
			t.Fatalf("%s: %x of %x: %v", name, out, raw, err)
		}
		if v.Has(AttrTicket) {
			if !bytes.Equal(out, raw) {
				t.Errorf("%s: changed to %x", name, out)
			}
			continue
		}
		if got, _ := w.Bytes(AttrTicket); string(got) != "abc" || w.present != v.present|1<<AttrTicket {
			t.Errorf("%s: %q of %x", name, got, out)
		}
		want := append(bytes.Clone(v.attrs), keyOf(AttrTicket, wireBytes), 3, 'a', 'b', 'c')
		if len(w.attrs) != len(want) {
			t.Errorf("%s: attributes %x, had %x", name, w.attrs, v.attrs)
		}
	}
}

func TestRelayURLs(t *testing.T) {
	for _, urls := range [][]string{nil, {"turn:a"}, {"turn:a?transport=udp", "turns:b:1"}, make([]string, MaxRelayURLs)} {
		for i, u := range urls {
			if u == "" {
				urls[i] = strings.Repeat("x", MaxRelayURL)
			}
		}
		v, _, err := Decode((&Result{ID: 1, URLs: AppendURLs(nil, urls)}).Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		if r, err := ParseResult(v); err != nil || !slices.Equal(r.RelayURLs(), urls) {
			t.Errorf("%q: %q, %v", urls, r.RelayURLs(), err)
		}
	}
}

func TestGrantMethodNames(t *testing.T) {
	for m, want := range map[GrantMethod]string{0: "unknown", GrantUpload: "upload", GrantDownload: "download", GrantDelete: "delete", 4: "unknown", 255: "unknown"} {
		if m.String() != want {
			t.Errorf("%d is %q, want %q", m, m, want)
		}
	}
}

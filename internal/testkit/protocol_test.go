package testkit

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// The tests of this file compare docs/protocol.md with the packages that do what it says: a number, a name or a rule that changes in
// one of the two fails here. protocol_vectors_test.go does the same for the vectors.

const protocolPage = "../../docs/protocol.md"

func readPage(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(protocolPage)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// pageTable returns the rows of the only table of the page with this header, each a map from column to cell.
func pageTable(t *testing.T, header ...string) []map[string]string {
	t.Helper()
	lines := strings.Split(readPage(t), "\n")
	at := slices.Index(lines, "| "+strings.Join(header, " | ")+" |")
	if at < 0 {
		t.Fatalf("no table with the columns %q", header)
	}
	var rows []map[string]string
	for _, line := range lines[at+2:] {
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if len(cells) != len(header) {
			t.Fatalf("%d cells, want %d: %s", len(cells), len(header), line)
		}
		row := map[string]string{}
		for i, c := range cells {
			row[header[i]] = strings.TrimSpace(c)
		}
		rows = append(rows, row)
	}
	return rows
}

func number(t *testing.T, text string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// words splits a cell "a, b"; "-" is none.
func words(cell string) []string {
	if cell == "-" {
		return nil
	}
	return strings.Split(cell, ", ")
}

func TestProtocolTags(t *testing.T) {
	var used []string
	for _, row := range pageTable(t, "stanza", "tag", "required", "optional", "body") {
		used = append(used, row["tag"])
	}
	rows := pageTable(t, "tag", "name", "direction", "meaning")
	if len(rows) != len(stanza.Tags) {
		t.Fatalf("%d tags, want %d", len(rows), len(stanza.Tags))
	}
	for i, row := range rows {
		tag := stanza.Tags[i]
		if number(t, row["tag"]) != uint64(tag) || row["name"] != tag.String() {
			t.Errorf("%v, want %d %s", row, tag, tag)
		}
		if reserved := row["direction"] == "-"; reserved == slices.Contains(used, row["name"]) || reserved != (row["meaning"] == "reserved") {
			t.Errorf("%s: reserved, or in the table of layouts, not both", row["name"])
		}
		if delivery := strings.Contains(row["meaning"], "a delivery"); delivery && !tag.Delivery() {
			t.Errorf("%s is no delivery", tag)
		}
	}
}

func TestProtocolAttributes(t *testing.T) {
	rows := pageTable(t, "attribute", "name", "wire type", "in", "meaning")
	if len(rows) != len(stanza.Attrs) {
		t.Fatalf("%d attributes, want %d", len(rows), len(stanza.Attrs))
	}
	in := map[string][]string{}
	for _, row := range pageTable(t, "stanza", "tag", "required", "optional", "body") {
		for _, a := range append(words(row["required"]), words(row["optional"])...) {
			in[a] = append(in[a], row["stanza"])
		}
	}
	for i, row := range rows {
		a := stanza.Attrs[i]
		if number(t, row["attribute"]) != uint64(a) || row["name"] != a.String() {
			t.Errorf("%v, want %d %s", row, a, a)
		}
		if wires := wireTypes(a); len(wires) != 1 || row["wire type"] != wires[0] {
			t.Errorf("%s: %s, want %s", a, row["wire type"], wires)
		}
		if got := words(row["in"]); !slices.Equal(got, in[row["name"]]) {
			t.Errorf("%s: in %q, the layouts say %q", a, got, in[row["name"]])
		}
		delete(in, row["name"])
	}
	if len(in) > 0 {
		t.Errorf("layouts with unknown attributes: %v", in)
	}
}

// wireTypes returns the wire types that the encoder takes for a.
func wireTypes(a stanza.Attr) (names []string) {
	try := func(name string, put func(b *stanza.Builder)) {
		defer func() {
			if recover() == nil {
				names = append(names, name)
			}
		}()
		b := stanza.Begin(nil, 127)
		put(&b)
	}
	try("varint", func(b *stanza.Builder) { b.Uint(a, 1) })
	try("bytes", func(b *stanza.Builder) { b.Bytes(a, nil) })
	try("fixed8", func(b *stanza.Builder) { b.Fixed(a, [8]byte{}) })
	try("list", func(b *stanza.Builder) { b.List(a, nil) })
	return names
}

func TestProtocolOperations(t *testing.T) {
	rows := pageTable(t, "op", "name", "the query has", "the result has", "does")
	if len(rows) != len(stanza.Ops) {
		t.Fatalf("%d operations, want %d", len(rows), len(stanza.Ops))
	}
	for i, row := range rows {
		op := stanza.Ops[i]
		if number(t, row["op"]) != uint64(op) || row["name"] != op.String() {
			t.Errorf("%v, want %d %s", row, op, op)
		}
	}
}

func TestProtocolReasons(t *testing.T) {
	text, err := os.ReadFile("../stanza/reasons.txt")
	if err != nil {
		t.Fatal(err)
	}
	listed := regexp.MustCompile(`(?m)^\d+ +\w+ +[\w+]+ +[\w-]+`).FindAllString(string(text), -1)
	rows := pageTable(t, "number", "name", "where", "retry", "meaning", "the client")
	if len(rows) != len(stanza.Reasons) || len(rows) != len(listed) {
		t.Fatalf("%d reasons, want %d; the list has %d", len(rows), len(stanza.Reasons), len(listed))
	}
	retries := map[string]stanza.Retry{"never": stanza.RetryNever, "now": stanza.RetryNow, "later": stanza.RetryLater,
		"backoff": stanza.RetryBackoff, "-": stanza.RetryBackoff}
	for i, row := range rows {
		r := stanza.Reasons[i]
		if number(t, row["number"]) != uint64(r) || row["name"] != r.String() {
			t.Errorf("%v, want %d %s", row, r, r)
		}
		if got := []string{row["number"], row["name"], row["where"], row["retry"]}; !slices.Equal(got, strings.Fields(listed[i])) {
			t.Errorf("%q, the list says %q", got, listed[i])
		}
		var where []string
		for name, is := range map[string]bool{"close": r.Closes(), "refusal": r.Refuses(), "drop": r.Drops()} {
			if is {
				where = append(where, name)
			}
		}
		slices.Sort(where)
		if row["where"] != strings.Join(where, "+") {
			t.Errorf("%s: %s, want %s", r, row["where"], where)
		}
		retry, ok := retries[row["retry"]]
		if !ok || retry != r.Retry() || r.Final() != (r.Refuses() && row["retry"] == "never") {
			t.Errorf("%s: retry %s, want %d", r, row["retry"], r.Retry())
		}
	}
}

func TestProtocolLimits(t *testing.T) {
	want := map[string]uint64{
		"frame_body": wire.MaxBody, "early_body": wire.MaxEarlyBody, "frame_plaintext": wire.MaxPlain, "stanza": stanza.MaxStanza,
		"stanzas": stanza.MaxStanzas, "attribute": stanza.MaxAttr, "depth": stanza.MaxDepth, "packed": stanza.MaxPacked,
		"id": stanza.MaxID, "account": uint64(stanza.MaxAccount), "device": uint64(stanza.MaxDevice), "devices": stanza.MaxDevices,
		"handle": stanza.MaxHandle, "invite": stanza.MaxInvite, "key": stanza.KeySize, "list": stanza.MaxList, "ticket": wire.MaxTicket,
		"cluster": wire.MaxCluster, "certificate": wire.MaxCertificate, "finish_payload": wire.MaxFinishPayload, "frames": wire.MaxFrames,
		"credential": stanza.MaxCredential, "urls": stanza.MaxRelayURLs, "url": stanza.MaxRelayURL,
		"hint_retry_ms": uint64(wire.MaxHintRetry.Milliseconds()), "clock_tolerance_s": uint64(wire.ClockTolerance / time.Second),
	}
	for _, row := range pageTable(t, "limit", "value", "of") {
		n, ok := want[row["limit"]]
		if !ok || number(t, row["value"]) != n {
			t.Errorf("%v, want %d", row, n)
		}
		delete(want, row["limit"])
	}
	if len(want) > 0 {
		t.Errorf("not in the page: %v", want)
	}
	keys := make([]stanza.DeviceKey, 14) // "from 14 devices on"
	for i := range keys {
		keys[i].Device = stanza.Device(i + 1)
	}
	for n, compressed := range map[int]bool{13: false, 14: true} {
		r := stanza.Result{ID: 1, Devices: stanza.DeviceList{List: stanza.AppendDevices(nil, keys[:n])}}
		if v, _, err := stanza.Decode(r.Append(nil)); err != nil || v.Has(stanza.AttrZsize) != compressed {
			t.Errorf("%d devices: compressed %v, want %v; %v", n, v.Has(stanza.AttrZsize), compressed, err)
		}
	}
}

// layout is a stanza of the table of layouts as the codec has it: with every field set, with the optional ones left out, parsed.
type layout struct {
	full, least interface{ Append([]byte) []byte }
	parse       func(stanza.View) error
}

func parser[T any](f func(stanza.View) (T, error)) func(stanza.View) error {
	return func(v stanza.View) error { _, err := f(v); return err }
}

func layouts() map[string]layout {
	ids, body := stanza.AppendPacked(nil, []uint64{2049}), []byte("body")
	handle, key, ciphers := []byte("alice"), make([]byte, stanza.KeySize), stanza.AppendCipher(nil, 1, []byte("body"))
	list := stanza.DeviceList{List: stanza.AppendDevices(nil, []stanza.DeviceKey{{Device: 1}})}
	up := stanza.MessageUp{ID: 5000, Account: 21, Version: 1, Body: ciphers}
	upAfter := up
	upAfter.After = 4999
	bound := stanza.Bound{Account: 21, Device: 1, Version: 1, Time: 1, WindowIDs: 32, WindowBytes: 1}
	boundID := bound
	boundID.ID, boundID.Ticket = 1, []byte("psk and ticket")
	down := &stanza.MessageDown{ID: 1, From: 21, FromDevice: 1, SentAt: 1, Body: body}
	receipt := func(tag stanza.Tag) layout {
		r := &stanza.ReceiptDown{Tag: tag, From: 21, IDs: ids}
		return layout{r, r, parser(stanza.ParseReceiptDown)}
	}
	return map[string]layout{
		"bind": {&stanza.Bind{Account: 21, Device: 1, ID: 1, Interval: 1}, &stanza.Bind{Account: 21, Device: 1}, parser(stanza.ParseBind)},
		"register": {&stanza.Register{Handle: handle, Invite: body, ID: 1, Interval: 1}, &stanza.Register{Handle: handle},
			parser(stanza.ParseRegister)},
		"bound":        {&boundID, &bound, parser(stanza.ParseBound)},
		"close":        {&stanza.Close{Reason: 6, RetryAfter: 1}, &stanza.Close{Reason: 6}, parser(stanza.ParseClose)},
		"ping":         {stanza.Ping{Interval: 240}, stanza.Ping{}, parser(stanza.ParsePing)},
		"pong":         {stanza.Pong{}, stanza.Pong{}, parser(stanza.ParsePong)},
		"ack":          {&stanza.Ack{IDs: ids}, &stanza.Ack{IDs: ids}, parser(stanza.ParseAck)},
		"delivery_ack": {&stanza.DeliveryAck{Count: 1}, &stanza.DeliveryAck{Count: 300}, parser(stanza.ParseDeliveryAck)},
		"refused": {&stanza.Refused{ID: 1, Reason: 33, RetryAfter: 1, Last: 1, HasLast: true, Version: 1, Devices: list, Full: ids},
			&stanza.Refused{ID: 1, Reason: 33}, parser(stanza.ParseRefused)},
		"retry": {stanza.RetryAll{}, stanza.RetryAll{}, parser(stanza.ParseRetryAll)},
		"query": {&stanza.Query{ID: 1, Op: 1, Account: 21, Device: 1, Handle: handle, Key: key, Method: 1, Size: 1, Blob: key},
			&stanza.Query{ID: 1, Op: 1}, parser(stanza.ParseQuery)},
		"result": {&stanza.Result{ID: 1, Account: 21, Device: 1, Version: 1, Handle: handle, Devices: list, Expiry: 1, Grant: body, URL: body, Username: body, Password: body,
			URLs: stanza.AppendURLs(nil, []string{"turn:a"})},
			&stanza.Result{ID: 1}, parser(stanza.ParseResult)},
		"error":      {&stanza.QueryError{ID: 1, Reason: 8, RetryAfter: 1}, &stanza.QueryError{ID: 1, Reason: 8}, parser(stanza.ParseQueryError)},
		"message up": {&upAfter, &up, parser(stanza.ParseMessageUp)},
		"read up": {&stanza.ReadUp{ID: 2, After: 1, Account: 21, Device: 1, IDs: ids}, &stanza.ReadUp{ID: 2, Account: 21, Device: 1, IDs: ids},
			parser(stanza.ParseReadUp)},
		"message down": {down, down, parser(stanza.ParseMessageDown)},
		"delivered":    receipt(stanza.TagDelivered),
		"read down":    receipt(stanza.TagRead),
		"undelivered": func() layout {
			u := &stanza.Undelivered{From: 21, IDs: ids, Reason: stanza.ReasonStaleDevices}
			return layout{u, u, parser(stanza.ParseUndelivered)}
		}(),
	}
}

func TestProtocolLayouts(t *testing.T) {
	all := layouts()
	for _, row := range pageTable(t, "stanza", "tag", "required", "optional", "body") {
		name := row["stanza"]
		l, ok := all[name]
		delete(all, name)
		if !ok {
			t.Errorf("%s: no such stanza", name)
			continue
		}
		required := words(row["required"])
		checkLayout(t, name, row["tag"], l, l.least, required)
		optional := slices.DeleteFunc(words(row["optional"]), func(a string) bool { return a == "zsize" }) // takes the place of devices
		checkLayout(t, name, row["tag"], l, l.full, append(required, optional...))
		least, _, _ := stanza.Decode(l.least.Append(nil))
		for _, a := range required {
			if err := l.parse(rebuild(t, least, a, least.Body())); !errors.Is(err, stanza.ErrStanza) {
				t.Errorf("%s without %s: %v", name, a, err)
			}
		}
		other := []byte("x") // a body where there is none, none where there is one
		if len(least.Body()) > 0 {
			other = nil
		}
		if err := l.parse(rebuild(t, least, "", other)); !errors.Is(err, stanza.ErrBody) {
			t.Errorf("%s with the body %q: %v", name, other, err)
		}
		if none := strings.HasSuffix(row["body"], "none"); none == (len(least.Body()) > 0) {
			t.Errorf("%s: body %q", name, row["body"])
		}
	}
	if len(all) > 0 {
		t.Errorf("not in the page: %v", all)
	}
}

// checkLayout checks that s encodes to just these attributes, and parses.
func checkLayout(t *testing.T, name, tag string, l layout, s interface{ Append([]byte) []byte }, attrs []string) {
	t.Helper()
	v, _, err := stanza.Decode(s.Append(nil))
	if err != nil || v.Tag.String() != tag {
		t.Fatalf("%s: tag %s, want %s; %v", name, v.Tag, tag, err)
	}
	if err := l.parse(v); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	var got []string
	for _, a := range stanza.Attrs {
		if v.Has(a) {
			got = append(got, a.String())
		}
	}
	attrs = slices.Sorted(slices.Values(attrs))
	slices.Sort(got)
	if !slices.Equal(got, attrs) {
		t.Errorf("%s has %q, the page says %q", name, got, attrs)
	}
}

// rebuild returns v without one attribute and with another body. Lists are left out: none is required.
func rebuild(t *testing.T, v stanza.View, without string, body []byte) stanza.View {
	t.Helper()
	b := stanza.Begin(nil, v.Tag)
	for _, a := range stanza.Attrs {
		if a.String() == without {
			continue
		}
		if n, ok := v.Uint(a); ok {
			b.Uint(a, n)
		} else if val, ok := v.Bytes(a); ok {
			b.Bytes(a, val)
		}
	}
	out, rest, err := stanza.Decode(b.End(body))
	if err != nil || len(rest) != 0 {
		t.Fatal(err)
	}
	return out
}

// TestProtocolExamples: what the page calls right decodes, what it calls malformed does not.
func TestProtocolExamples(t *testing.T) {
	for kind, right := range map[string]bool{"valid": true, "invalid": false} {
		lines := fenced(readPage(t), kind)
		if len(lines) < 5 {
			t.Fatalf("%d %s examples", len(lines), kind)
		}
		for _, line := range lines {
			text, _, _ := strings.Cut(line, "  ")
			b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			_, rest, err := stanza.Decode(b)
			if ok := err == nil && len(rest) == 0; ok != right {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
}

// fenced returns the lines of the code blocks of a language.
func fenced(page, language string) (lines []string) {
	in := false
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			in = line == "```"+language
		case in:
			lines = append(lines, line)
		}
	}
	return lines
}

// TestProtocolRoot: the root line and the fingerprint of the page are those of the vector.
func TestProtocolRoot(t *testing.T) {
	page := readPage(t)
	root, err := hex.DecodeString(vectorOf(t, "root_public"))
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^linecard-root \S+ \S+$`).FindString(page)
	cluster, key, err := wire.ParseRootLine(line)
	if err != nil || cluster != "example" || !bytes.Equal(key, root) {
		t.Errorf("%q: %v", line, err)
	}
	if !strings.Contains(page, "\n"+wire.Fingerprint(root)+"\n") {
		t.Errorf("the fingerprint %s is not in the page", wire.Fingerprint(root))
	}
}

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// token is one line of tokens.txt.
type token struct {
	kind    string // tag, attr or op
	number  int
	name    string // snake_case
	wire    string // attr only
	comment string
}

// tokenList is the parsed list: tokens in the order of the file, and per minor version the hash of what it added.
type tokenList struct {
	tokens []token
	minors []string // sha256, hex; index = minor version
}

// reason is one line of reasons.txt.
type reason struct {
	number               int
	name                 string
	close, refusal, drop bool
	retry                string
	comment              string
}

var nameRE = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

// maxNumber bounds the numbers of each kind: 7 bits of the tag byte, 6 bits of a key byte less the body mark, one byte of an op.
var maxNumber = map[string]int{"tag": 127, "attr": 62, "op": 255}

var wireNames = map[string]bool{"varint": true, "bytes": true, "fixed8": true, "list": true}

// parseTokens reads the token list. The hash of a minor version covers kind, number, name and wire type of its lines, not the
// comments, so that explaining a token better is no wire change.
func parseTokens(text string) (*tokenList, error) {
	l := &tokenList{}
	p := tokenParser{list: l, last: map[string]int{}, names: map[string]bool{}}
	for i, line := range strings.Split(text, "\n") {
		if err := p.line(strings.TrimSpace(line)); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	if p.minor == nil {
		return nil, fmt.Errorf("no minor version")
	}
	l.minors = append(l.minors, hashText(*p.minor))
	return l, nil
}

type tokenParser struct {
	list  *tokenList
	minor *string // normalised text of the current minor version
	last  map[string]int
	names map[string]bool
}

func (p *tokenParser) line(line string) error {
	if rest, ok := strings.CutPrefix(line, "# minor "); ok {
		return p.nextMinor(rest)
	}
	if line == "" || line[0] == '#' {
		return nil
	}
	if p.minor == nil {
		return fmt.Errorf("token before the first minor version")
	}
	t, err := parseToken(line)
	if err != nil {
		return err
	}
	switch key := t.kind + " " + t.name; {
	case t.number <= p.last[t.kind]:
		return fmt.Errorf("%s: number %d does not follow %d", key, t.number, p.last[t.kind])
	case p.names[key]:
		return fmt.Errorf("%s: name used before", key)
	default:
		p.names[key] = true
	}
	p.last[t.kind] = t.number
	p.list.tokens = append(p.list.tokens, t)
	*p.minor += strings.TrimRight(fmt.Sprintf("%s %d %s %s", t.kind, t.number, t.name, t.wire), " ") + "\n"
	return nil
}

func (p *tokenParser) nextMinor(number string) error {
	n, err := strconv.Atoi(number)
	if p.minor != nil {
		p.list.minors = append(p.list.minors, hashText(*p.minor))
	}
	if err != nil || n != len(p.list.minors) {
		return fmt.Errorf("minor version %q, want %d", number, len(p.list.minors))
	}
	p.minor = new(string)
	return nil
}

func hashText(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func parseToken(line string) (token, error) {
	f := strings.Fields(line)
	if len(f) < 3 {
		return token{}, fmt.Errorf("want kind, number, name: %q", line)
	}
	t := token{kind: f[0], name: f[2]}
	limit, ok := maxNumber[t.kind]
	if !ok {
		return t, fmt.Errorf("unknown kind %q", t.kind)
	}
	var err error
	if t.number, err = strconv.Atoi(f[1]); err != nil || t.number < 1 || t.number > limit {
		return t, fmt.Errorf("%s %s: number %q is not 1..%d", t.kind, t.name, f[1], limit)
	}
	if !nameRE.MatchString(t.name) {
		return t, fmt.Errorf("bad name %q", t.name)
	}
	rest := f[3:]
	if t.kind == "attr" {
		if len(rest) == 0 || !wireNames[rest[0]] {
			return t, fmt.Errorf("attr %s: no wire type", t.name)
		}
		t.wire, rest = rest[0], rest[1:]
	}
	t.comment = strings.Join(rest, " ")
	return t, nil
}

// parseReasons reads the reason list.
func parseReasons(text string) ([]reason, error) {
	var list []reason
	names := map[string]bool{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		r, err := parseReason(line)
		if err == nil && r.number != len(list)+1 {
			err = fmt.Errorf("%s: number %d, want %d", r.name, r.number, len(list)+1)
		}
		if err == nil && names[r.name] {
			err = fmt.Errorf("%s: name used before", r.name)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		names[r.name] = true
		list = append(list, r)
	}
	return list, nil
}

func parseReason(line string) (reason, error) {
	f := strings.Fields(line)
	if len(f) < 4 {
		return reason{}, fmt.Errorf("want number, name, where, retry: %q", line)
	}
	r := reason{name: f[1], retry: f[3], comment: strings.Join(f[4:], " ")}
	var err error
	if r.number, err = strconv.Atoi(f[0]); err != nil || r.number > 65535 {
		return r, fmt.Errorf("bad number %q", f[0])
	}
	if !nameRE.MatchString(r.name) {
		return r, fmt.Errorf("bad name %q", r.name)
	}
	for _, w := range strings.Split(f[2], "+") {
		switch w {
		case "close":
			r.close = true
		case "refusal":
			r.refusal = true
		case "drop":
			r.drop = true
		default:
			return r, fmt.Errorf("%s: where is %q", r.name, w)
		}
	}
	switch r.retry {
	case "never", "now", "later", "backoff", "-":
		return r, nil
	}
	return r, fmt.Errorf("%s: retry is %q", r.name, r.retry)
}

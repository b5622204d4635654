package testkit

import (
	"cmp"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"linecard.example/internal/node"
)

var exampleRoles = []string{"gateway", "router", "offline", "border", "mediad", "turnd"}

func examplePath(role string) string {
	return filepath.Join("..", "..", "cmd", "linecard", role+".example.toml")
}

// TestExamplesPass: each example is a valid configuration of its daemon, by the command that its first lines name.
func TestExamplesPass(t *testing.T) {
	for _, role := range exampleRoles {
		path, err := filepath.Abs(examplePath(role))
		must(t, err)
		for _, flag := range []string{"-config", "--config"} {
			out, errs, code := command(t, "", "check", flag, path, "--role", role)
			if code != 0 || errs != "" || !strings.HasSuffix(out, ": ok for "+role) {
				t.Errorf("%s %s: exit %d, %q, %q", role, flag, code, out, errs)
			}
		}
	}
}

var (
	commentedKey = regexp.MustCompile(`^#[a-z0-9_]+ = `)
	sectionLine  = regexp.MustCompile(`^\[([a-z0-9.]+)\]`)
	keyLine      = regexp.MustCompile(`^#?([a-z0-9_]+) = (.*)$`)
	proseLine    = regexp.MustCompile(`^# `)
)

// TestExamplesTellDefaults: what the examples show as a default is the default.
func TestExamplesTellDefaults(t *testing.T) {
	for _, role := range exampleRoles {
		text, err := os.ReadFile(examplePath(role))
		must(t, err)
		plain := load(t, string(text))
		lines := strings.Split(string(text), "\n")
		for i, line := range lines {
			if !commentedKey.MatchString(line) {
				continue
			}
			lines[i] = line[1:]
			if !reflect.DeepEqual(load(t, strings.Join(lines, "\n")), plain) {
				t.Errorf("%s.example.toml: not the default: %s", role, line)
			}
			lines[i] = line
		}
	}
}

// load reads a configuration, and makes an empty list and none the same.
func load(t *testing.T, text string) node.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.toml")
	must(t, os.WriteFile(path, []byte(text), 0o600))
	c, err := node.LoadConfig(path)
	must(t, err)
	for _, list := range []*[]string{&c.Links.Offlines, &c.Links.Routers, &c.Media.CORSOrigins, &c.Gateway.ProxySources, &c.Gateway.RelayURLs,
		&c.Relay.TLS, &c.Relay.DTLS, &c.Relay.AllowPeers, &c.Relay.DenyPeers} {
		if len(*list) == 0 {
			*list = nil
		}
	}
	if len(c.Relay.Users) == 0 {
		c.Relay.Users = nil
	}
	return c
}

// TestExamplesAreComplete: the example of a daemon shows every key that it reads, and explains it: with a comment on its line, or on the
// lines above the block it stands in.
func TestExamplesAreComplete(t *testing.T) {
	elsewhere := map[string][]string{ // keys that a daemon does not read
		"gateway": {"links.listen", "links.advertise", "links.shards", "raft.listen", "raft.advertise", "raft.heartbeat",
			"disk.floor_percent", "disk.floor", "disk.ballast", "disk.check", "region.listen", "region.peers"},
		"router":  {"links.roster", "region.listen"},
		"offline": {"links.roster", "region.listen", "region.peers"},
		"border": {"links.listen", "links.advertise", "links.shards", "raft.listen", "raft.advertise", "raft.heartbeat",
			"disk.floor_percent", "disk.floor", "disk.ballast", "disk.check"},
		"mediad": {"links.listen", "links.advertise", "links.offlines", "links.shards", "raft.listen", "raft.advertise", "raft.heartbeat",
			"disk.floor_percent", "disk.floor", "disk.ballast", "disk.check", "region.listen", "region.peers"},
		"turnd": {"links.listen", "links.advertise", "links.offlines", "links.shards", "raft.listen", "raft.advertise", "raft.heartbeat",
			"disk.floor_percent", "disk.floor", "disk.ballast", "disk.check", "region.listen", "region.peers"},
	}
	sections := map[string]string{"mediad": "media", "turnd": "relay"} // of a daemon that is not called as its section
	for _, role := range exampleRoles {
		text, err := os.ReadFile(examplePath(role))
		must(t, err)
		shown := shownKeys(t, role, string(text))
		for _, key := range configKeys(reflect.TypeFor[node.Config](), "") {
			section, _, nested := strings.Cut(key, ".")
			other := func(r string) bool { return r != role && cmp.Or(sections[r], r) == section }
			if nested && slices.ContainsFunc(exampleRoles, other) {
				continue
			}
			if shown[key] == slices.Contains(elsewhere[role], key) {
				t.Errorf("%s.example.toml: key %s shown: %v", role, key, shown[key])
			}
			delete(shown, key)
		}
		for key := range shown {
			t.Errorf("%s.example.toml shows %s, which no daemon reads", role, key)
		}
	}
}

// shownKeys returns the keys of an example, with their sections.
func shownKeys(t *testing.T, role, text string) map[string]bool {
	shown, section, explained := map[string]bool{}, "", false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if m := sectionLine.FindStringSubmatch(line); m != nil {
			section = m[1] + "."
		}
		switch m := keyLine.FindStringSubmatch(line); {
		case m != nil:
			shown[section+m[1]] = true
			if explained = explained || strings.Contains(m[2], " # "); !explained {
				t.Errorf("%s.example.toml: %s%s has no comment", role, section, m[1])
			}
		case proseLine.MatchString(line):
			explained = true
		default:
			explained = false
		}
	}
	return shown
}

// configKeys returns the keys of a configuration structure, sections in front.
func configKeys(typ reflect.Type, prefix string) (keys []string) {
	for f := range fields(typ) {
		tag := f.Tag.Get("toml")
		switch {
		case tag == "-" || tag == "":
		case f.Type.Kind() == reflect.Struct:
			keys = append(keys, configKeys(f.Type, prefix+tag+".")...)
		default:
			keys = append(keys, prefix+tag)
		}
	}
	return keys
}

func fields(typ reflect.Type) func(yield func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range typ.NumField() {
			if !yield(typ.Field(i)) {
				return
			}
		}
	}
}

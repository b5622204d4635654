package mediad

import (
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const page = "https://chat.example.com"

func TestCORS(t *testing.T) {
	preflight := head{"Origin", page, "Access-Control-Request-Method", "PATCH", "Access-Control-Request-Headers", "tus-resumable,upload-offset"}
	for _, c := range []struct {
		name    string
		origins []string
		h       head
		allow   string
	}{
		{"none is configured", nil, preflight, ""},
		{"another is configured", []string{"https://other.example.com"}, preflight, ""},
		{"this one is", []string{"https://other.example.com", page}, preflight, page},
		{"all are", []string{"*"}, preflight, "*"},
	} {
		s := newSite(t, func(cfg *Config) { cfg.CORSOrigins = c.origins })
		path := s.begin(10)
		h := s.put([]byte("a blob"))
		for _, at := range []string{path, uploadsPath, blobsPath + "/" + h.String()} {
			a := s.do("OPTIONS", at, "", c.h, nil) // preflights carry no grant
			s.wantStatus(a, http.StatusNoContent)
			methods := a.Header.Get("Access-Control-Allow-Methods")
			if a.Header.Get("Access-Control-Allow-Origin") != c.allow || strings.Contains(methods, "PATCH") != (c.allow != "") {
				t.Errorf("%s: preflight of %s: %v", c.name, at, a.Header)
			}
		}
		for _, a := range []answer{
			s.do("GET", blobsPath+"/"+h.String(), s.downloadGrant(h), head{"Origin", page}, nil),
			s.do("HEAD", path, s.uploadGrant(1), tus("Origin", page), nil),
			s.do("HEAD", path, "", tus("Origin", page), nil), // pages may read why something failed
		} {
			exposed := strings.Contains(a.Header.Get("Access-Control-Expose-Headers"), "Upload-Offset")
			if a.Header.Get("Access-Control-Allow-Origin") != c.allow || exposed != (c.allow != "") {
				t.Errorf("%s: %s: %v", c.name, a.Request.URL.Path, a.Header)
			}
			if (a.Header.Get("Vary") == "Origin") != (c.origins != nil) {
				t.Errorf("%s: Vary %q", c.name, a.Header.Get("Vary"))
			}
		}
	}
}

// TestReasonsDocumented: each reason stands in docs/protocol.md with its status, and none that is not one.
func TestReasonsDocumented(t *testing.T) {
	b, err := os.ReadFile("../docs/protocol.md")
	mustDo(t, err)
	_, text, ok := strings.Cut(string(b), "| error | status |")
	if !ok {
		t.Fatal("docs/protocol.md has no table of errors of mediad")
	}
	text, _, _ = strings.Cut(text, "\n\n")
	listed := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([0-9]+) \\|").FindAllStringSubmatch(text, -1) {
		listed[m[1]] = m[2]
	}
	for _, r := range Reasons()[1:] {
		if listed[r.String()] != strconv.Itoa(r.Status()) {
			t.Errorf("%s has status %d, the page says %q", r, r.Status(), listed[r.String()])
		}
		delete(listed, r.String())
	}
	for name := range listed {
		t.Errorf("docs/protocol.md has %s, which is no reason", name)
	}
}

func TestConfig(t *testing.T) {
	if faults := DefaultConfig().Validate(); faults != nil {
		t.Errorf("the defaults: %v", faults)
	}
	c := DefaultConfig()
	c.Listen, c.TLSCert, c.CORSOrigins, c.Store, c.Stall, c.Buffers, c.HTTP2Window = "nowhere", "a.pem", []string{"chat.example.com", page + "/", "*", page}, "tape", 0, 1, 1
	var said []string
	for _, err := range c.Validate() {
		said = append(said, err.Error())
	}
	for i, want := range []string{"media.listen", "media.tls_cert", "media.cors_origins", "media.cors_origins", "media.store", "media.stall", "media.buffers", "media.http2_window"} {
		if i >= len(said) || !strings.HasPrefix(said[i], want+":") {
			t.Fatalf("%q, want a fault of each: %s", said, want)
		}
	}
	c = DefaultConfig()
	c.Store = StoreS3
	if n := len(c.Validate()); n < 3 {
		t.Errorf("%d faults of an S3 store that is not configured", n)
	}
}

package mediad

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// FuzzHeaders: whatever a request's path and headers say, reading them does not panic, and what is taken for a name, a number or a checksum
// is written in its one form.
func FuzzHeaders(f *testing.F) {
	f.Add("/v1/uploads/0123456789abcdef0123456789abcdef", "10", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "filename d29ybGQ=,secret")
	f.Add("/v1/blobs/"+strings.Repeat("ab", 32), "-1", "md5 ", ",")
	f.Add("/v1/uploads/..%2f", "99999999999999999999", "sha256", "a !")
	f.Fuzz(func(t *testing.T, path, number, sum, meta string) {
		u, err := url.Parse(path)
		if err != nil {
			return
		}
		q := &request{r: &http.Request{URL: u, Header: http.Header{"Upload-Checksum": {sum}}}, w: httptest.NewRecorder()}
		if q.find() == nil {
			if q.id != "" && !strings.HasSuffix(u.EscapedPath(), "/"+q.id) || q.named && !strings.HasSuffix(u.EscapedPath(), "/"+q.hash.String()) {
				t.Errorf("%q names %q, %v", path, q.id, q.hash)
			}
		}
		if n, ok := parseCount(number); ok && (n < 0 || strings.TrimLeft(number, "0") != strings.TrimLeft(strconv.FormatInt(n, 10), "0")) {
			t.Errorf("%q is %d", number, n)
		}
		if c, err := q.checksum(); err == nil && c != nil && len(c.want) != c.hash.Size() {
			t.Errorf("%q: a sum of %d bytes", sum, len(c.want))
		}
		validMetadata(meta)
	})
}

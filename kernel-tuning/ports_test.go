package tuning

import "testing"

// TestPorts: what is there stays, and covers what is wanted when it is in it, however it is written.
func TestPorts(t *testing.T) {
	for _, c := range []struct {
		have, want string
		meets      bool
		merged     string
	}{
		{"", "49152-65535", false, "49152-65535"},
		{"49152-65535", "49152-65535", true, "49152-65535"},
		{"1-65535", "49152-65535", true, "1-65535"},
		{"8080,9148-9160", "49152-65535", false, "8080,9148-9160,49152-65535"},
		{"49152-50000,50001-65535", "49152-65535", true, "49152-65535"},
		{"49152-65534", "49152-65535", false, "49152-65535"},
		{"50000-60000", "49152-65535", false, "49152-65535"},
		{"65535,49151", "49152-65535", false, "49151-65535"},
		{"what", "49152-65535", false, "49152-65535"},
		{"9-8", "49152-65535", false, "49152-65535"},
		{"65536", "1", false, "1"},
	} {
		if got := covering.meets(c.have, c.want); got != c.meets {
			t.Errorf("%q meets %q: %v", c.have, c.want, got)
		}
		if got := covering.merge(c.have, c.want); got != c.merged || !covering.meets(got, c.want) {
			t.Errorf("%q with %q: %q, want %q", c.have, c.want, got, c.merged)
		}
	}
}

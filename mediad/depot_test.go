package mediad

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// values gathers the metrics of a registry whose names begin with linecard_mediad_; labels are put behind the name.
func values(t testing.TB, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	mustDo(t, err)
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()[len("linecard_mediad_"):]
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			switch {
			case m.Gauge != nil:
				out[name] = m.Gauge.GetValue()
			case m.Counter != nil:
				out[name] = m.Counter.GetValue()
			case m.Histogram != nil:
				out[name] = float64(m.Histogram.GetSampleCount())
			}
		}
	}
	return out
}

func TestDepotMetrics(t *testing.T) {
	c := newClock()
	o := testOptions(t.TempDir(), c)
	reg := prometheus.NewRegistry()
	o.files, o.reg, o.freeSpace = nil, reg, 1<<60
	d := openTest(t, o)
	d.ledger.room = nil
	put(t, d, 7, bytesOf(1, 1000))
	put(t, d, 8, bytesOf(1, 1000))
	put(t, d, 8, bytesOf(1, 1000))
	x, err := d.uploads.create(9, 5000, nil)
	mustDo(t, err)
	mustDo(t, x.close())
	c.turn(time.Hour)
	y, err := d.uploads.create(9, 1, nil)
	mustDo(t, err)
	mustDo(t, y.write([]byte{1}))
	_, err = y.finish(t.Context())
	mustDo(t, err)
	mustDo(t, y.close())
	got := values(t, reg)
	for name, want := range map[string]float64{
		"uploads open": 1, "uploads complete": 0, "uploads finished": 1, "accounts": 3, "reference_bytes": 2001, "reserved_bytes": 5000,
		"renewed_references_total": 1, "commit_failures_total": 0, "sweeps_total": 0,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if got["room_bytes"] >= 0 || got["sync_seconds"] < 7 {
		t.Errorf("room %v, %v syncs", got["room_bytes"], got["sync_seconds"])
	}
	c.turn(o.retention)
	d.tidy(t.Context())
	got = values(t, reg)
	for name, want := range map[string]float64{
		"uploads open": 0, "uploads finished": 0, "expired_uploads_total": 2, "accounts": 1, "reference_bytes": 1, "reserved_bytes": 0, "sweeps_total": 1,
		"expired_references_total": 2, "removed_blobs_total": 1, "removed_bytes_total": 1000, "blobs": 1, "blob_bytes": 1,
	} {
		if got[name] != want {
			t.Errorf("after the sweep: %s is %v, want %v", name, got[name], want)
		}
	}
}

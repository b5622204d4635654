package bench

import (
	"linecard.example/bench/report"
	"linecard.example/internal/stanza"
)

// peer is another server, measured on the machine where this project was built: 2 cores, Linux 6.18, clients on the same machine, TLS 1.3
// with ECDSA P-256 where said.
type peer struct {
	name                    string
	sessionBytes, messageUS float64 // 0: not measured
}

var peers = []peer{
	{"mosquitto 2.0.11, plain", 1050, 0},
	{"mosquitto 2.0.11, TLS", 14800, 19.8},
	{"nats-server 2.15.2, plain", 37700, 0},
	{"nats-server 2.15.2, TLS", 52000, 12.1},
	{"prosody 0.12.3, TLS", 48000, 318},
	{"ejabberd 23.01, plain", 56500, 0},
	{"ejabberd 23.01, TLS", 106000, 130},
	{"RabbitMQ 3.10 MQTT, TLS", 282000, 0},
}

// peerChart compares a figure with that of the peers that have it. What they were measured on may be another machine than this.
func peerChart(name, title, unit string, ours float64, of func(peer) float64) report.Chart {
	c := report.Chart{Name: name, Title: title, Y: unit + "; others as measured on the build machine, 2 cores, in 2026", Bars: []report.Bar{{Name: "linecard, this run", Value: ours, Ours: true}}}
	for _, p := range peers {
		if v := of(p); v > 0 {
			c.Bars = append(c.Bars, report.Bar{Name: p.name, Value: v})
		}
	}
	return c
}

// budgetTable measures every stanza that has a byte budget with the encoder itself.
func budgetTable() report.Table {
	t := report.Table{
		Title:  "Sizes of stanzas: plaintext in a frame of its own, without ciphertext and the 18 bytes of frame length and tag",
		Header: []string{"stanza", "bytes", "at most"},
	}
	for _, b := range stanza.Budgets() {
		t.Rows = append(t.Rows, []string{b.Name, report.Bytes(float64(b.Size)), report.Bytes(float64(b.Limit))})
	}
	return t
}

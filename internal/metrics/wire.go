package metrics

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
)

// Accept is the header by which an endpoint of Prometheus answers with what Read reads: less to parse than text, and exact.
const Accept = `application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited`

// maxFamily bounds one family on the wire.
const maxFamily = 4 << 20

// Write writes families one after the other.
func Write(w io.Writer, families []*dto.MetricFamily) error {
	buffered := bufio.NewWriter(w)
	for _, f := range families {
		if _, err := protodelim.MarshalTo(buffered, f); err != nil {
			return fmt.Errorf("writing metrics: %w", err)
		}
	}
	return buffered.Flush()
}

// Read reads families up to the end of r.
func Read(r io.Reader) (families []*dto.MetricFamily, err error) {
	from := bufio.NewReader(r)
	for {
		f := &dto.MetricFamily{}
		switch err := (protodelim.UnmarshalOptions{MaxSize: maxFamily}).UnmarshalFrom(from, f); {
		case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			return families, nil
		case err != nil:
			return nil, fmt.Errorf("reading metrics: %w", err)
		}
		families = append(families, f)
	}
}

// Fetch reads the families of a process's endpoint.
func Fetch(c *http.Client, url string) ([]*dto.MetricFamily, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", Accept)
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("metrics: %s", resp.Status)
	}
	return Read(resp.Body)
}

package bench

import (
	"fmt"
	"net/http"
	"os"
	"time"
)

// profile takes a CPU profile of the server (the gateway, when it has processes) while the caller goes on, if the flag asks for it.
// The function returned waits for its end.
func (s *system) profile(d time.Duration) (wait func()) {
	if *profileTo == "" {
		return func() {}
	}
	done := make(chan error, 1)
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", s.Admin(s.roles()[0]), int(d.Seconds()))
	go func() { done <- fetch(url, *profileTo, d+30*time.Second) }()
	return func() {
		if err := <-done; err != nil {
			s.b.Error("profile: ", err)
		}
	}
}

func fetch(url, file string, within time.Duration) error {
	client := http.Client{Timeout: within}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", resp.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.ReadFrom(resp.Body)
	return err
}

package bench

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"time"

	"linecard.example/bench/meter"
	"linecard.example/bench/report"
)

const (
	mediaFiles  = 32
	mediaSize   = 32 << 20 // bytes of a file
	mediaRounds = 5
	mediaReads  = 8 // of each file in a round
	mediaConns  = 8 // transfers at a time
	crowdSize   = 1 << 20
	crowdFull   = 1000 // uploads at once
	crowdSmall  = 20

	goalCrowd = 64e6 // bytes of the whole process
	goalReads = 1.3  // times what nginx takes
)

var errMedia = errors.New("bench: media")

// media measures what the transfer of files costs mediad, beside nginx with the same files and the same client where nginx is installed:
// PUT of files that nobody has had, GET of all of them several times, in turns; plain HTTP/1.1, then TLS. Then what mediad holds with many
// uploads at once.
func (r *run) media() (err error) {
	files := cmp.Or(r.o.Sessions, mediaFiles)
	r.o.Media = true
	r.progress.say("media: %d files", files)
	if r.sys, err = startSystem(r.ctx, r.o, 1); err != nil {
		return err
	}
	web, err := r.mediaServers()
	defer func() {
		for _, s := range web {
			err = errors.Join(err, s.close())
		}
	}()
	if err != nil {
		return err
	}
	size := cmp.Or(r.o.FileSize, mediaSize)
	r.rep.Title = fmt.Sprintf("%d files of %s, %d transfers at a time", files, report.Bytes(float64(size)), mediaConns)
	r.add(report.Figure{Key: "files", Name: "files in a round", Value: float64(files)})
	r.add(report.Figure{Key: "file_bytes", Name: "bytes of each", Unit: "B", Value: float64(size)})
	hash := hashCost()
	r.add(report.Figure{Key: "sha256_cpu_s_per_gb", Name: "SHA-256 alone, on one core", Unit: "s/GB", Samples: slices.Clone(hash), Better: report.Less})
	results, err := r.transfers(web, files, size)
	if err != nil {
		return err
	}
	r.mediaFigures(web, results, middle(hash))
	return r.crowd(web[0])
}

// transfer is what one kind of transfer to one server took, a value for each round.
type transfer struct{ cpu, rate []float64 } // s/GB of the server's processes; GB/s

// transfers has every server take and give the same amount, one after the other, in rounds.
func (r *run) transfers(web []*webServer, files int, size int64) (all map[string]*transfer, err error) {
	all = map[string]*transfer{}
	note := func(key string, n int64, s *webServer, f func() error) error {
		before, err := s.usage()
		if err != nil {
			return err
		}
		from := time.Now()
		if err := f(); err != nil {
			return fmt.Errorf("%w: %s: %w", errMedia, key, err)
		}
		took := time.Since(from)
		after, err := s.usage()
		if err != nil {
			return err
		}
		if all[key] == nil {
			all[key] = &transfer{}
		}
		gb := float64(n) / 1e9
		all[key].cpu = append(all[key].cpu, after.Since(before).CPU().Seconds()/gb)
		all[key].rate = append(all[key].rate, gb/took.Seconds())
		return nil
	}
	for round := range mediaRounds {
		r.progress.say("media: round %d of %d", round+1, mediaRounds)
		for _, s := range web {
			list := make([]*webFile, files)
			for i := range list {
				list[i] = &webFile{number: uint64(round*files + i), size: size}
			}
			if err := note(s.key+"_put", int64(files)*size, s, func() error { return s.each(r.ctx, list, s.put) }); err != nil {
				return nil, err
			}
			reads := slices.Repeat(list, mediaReads)
			if err := note(s.key+"_get", int64(len(reads))*size, s, func() error { return s.each(r.ctx, reads, s.get) }); err != nil {
				return nil, err
			}
			if err := s.each(r.ctx, list, s.remove); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// mediaFigures reports the transfers. hash is what SHA-256 alone takes in s/GB: a goal is what nginx takes, and that for what it does not do.
func (r *run) mediaFigures(web []*webServer, all map[string]*transfer, hash float64) {
	goals := map[string]float64{}
	if put, get := all["nginx_put"], all["nginx_get"]; put != nil && get != nil {
		goals["media_put"], goals["media_get"] = middle(put.cpu)+hash, goalReads*middle(get.cpu)
	}
	for _, s := range web {
		for _, what := range []string{"put", "get"} {
			key := s.key + "_" + what
			r.add(report.Figure{Key: key + "_cpu_s_per_gb", Name: fmt.Sprintf("%s, %s: server CPU", s.name, what), Unit: "s/GB", Samples: all[key].cpu,
				Goal: goals[key], Better: report.Less})
			r.add(report.Figure{Key: key + "_gb_per_s", Name: "  GB per second", Unit: "GB/s", Samples: all[key].rate, Better: report.More})
		}
	}
}

func middle(samples []float64) float64 {
	s := slices.Sorted(slices.Values(samples))
	return s[len(s)/2]
}

// hashCost measures SHA-256 as mediad uses it, in s/GB.
func hashCost() (all []float64) {
	b := make([]byte, 128<<10)
	for range mediaRounds {
		h, n := sha256.New(), 0
		from := time.Now()
		for ; n < 64<<20; n += len(b) {
			h.Write(b)
		}
		all = append(all, time.Since(from).Seconds()/float64(n)*1e9)
	}
	return all
}

// mediaServers returns what is measured: mediad, without and with TLS, and nginx if it is installed.
func (r *run) mediaServers() (all []*webServer, err error) {
	ours, err := r.sys.mediaServers(r.ctx)
	if err != nil {
		return ours, err
	}
	exe, err := exec.LookPath("nginx")
	if err != nil {
		r.rep.Note("nginx is not installed: nothing to compare with")
		return ours, nil
	}
	theirs, err := startNginx(r.ctx, exe, r.sys)
	return append(ours, theirs...), err
}

// crowd has many clients upload at once, and samples what the process holds.
func (r *run) crowd(s *webServer) error {
	n := crowdFull
	if r.o.FileSize > 0 && r.o.FileSize < crowdSize*2 { // all is small then
		n = crowdSmall
	}
	list := make([]*webFile, n)
	for i := range list {
		list[i] = &webFile{number: 1<<32 + uint64(i), size: crowdSize}
	}
	ended := make(chan error, 1)
	go func() { ended <- s.together(r.ctx, list) }()
	var share, whole int64
	for {
		m, err := meter.MemoryOf(s.pids())
		if err != nil {
			return err
		}
		share, whole = max(share, m.PSS), max(whole, m.RSS)
		select {
		case err := <-ended:
			if err != nil {
				return fmt.Errorf("%w: %d uploads at once: %w", errMedia, n, err)
			}
			r.add(report.Figure{Key: "crowd", Name: "uploads at once", Value: float64(n)})
			r.add(report.Figure{Key: "crowd_bytes", Name: "  memory of the whole process, at most", Unit: "B", Value: float64(share), Goal: goalCrowd, Better: report.Less})
			r.add(report.Figure{Key: "crowd_resident_bytes", Name: "  resident, with all pages of the program that others map too", Unit: "B", Value: float64(whole), Better: report.Less})
			return s.each(r.ctx, list, s.remove)
		case <-time.After(20 * time.Millisecond): // the pace of the samples
		}
	}
}

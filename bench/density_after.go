package bench

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"linecard.example/bench/meter"
	"linecard.example/bench/report"
	"linecard.example/bench/swarm"
)

const (
	letterSize = 80
	backLimit  = 10 * time.Minute
	backEvery  = 100 * time.Millisecond
)

var (
	errLost     = errors.New("messages are lost")
	errNoWorker = errors.New("the gateway has no workers: --workers 2 or more")
	errNotBack  = errors.New("sessions are not back")
)

// letters sends messages between random sessions, and every one must arrive.
func (r *run) letters() error {
	var t swarm.Traffic
	before := r.rec.last().clients.Acked
	r.rec.begin("messages", float64(r.o.Messages), "messages", func(c swarm.Counters) float64 { return float64(c.Acked - before) })
	ticks, err := r.watch(func() (err error) {
		t, err = r.fleet.Random(r.ctx, r.o.Messages, letterSize)
		return err
	})
	if err != nil {
		return err
	}
	r.rec.end(float64(t.Delivered), fmt.Sprintf(", %d lost", t.Lost+t.Unacked))
	w := window{ticks[0], ticks[len(ticks)-1]}
	r.add(report.Figure{Key: "messages", Name: "messages between random sessions, delivered", Value: float64(t.Delivered)})
	r.add(report.Figure{Key: "messages_lost", Name: "  lost, or neither stored nor refused", Value: float64(t.Lost + t.Unacked), Better: report.Less})
	r.add(report.Figure{Key: "message_cpu_us", Name: "  server CPU each, receipt included", Unit: "us", Value: w.per(float64(t.Delivered)), Better: report.Less})
	r.latencies("message", "  sent to acked", t.Ack, 0, 0)
	return faults(t)
}

// faults are what no run of messages may have.
func faults(t swarm.Traffic) error {
	if t.Lost+t.Unacked+t.Doubled+t.Disordered+t.Corrupt+t.Rejected+t.Unsent == 0 {
		return nil
	}
	return fmt.Errorf("%w: of %d sent, %d acked and not delivered, %d neither acked nor refused, %d refused for good, %d doubled, %d out of order, "+
		"%d corrupt, and %d not sent; refused: %s",
		errLost, t.Sent, t.Lost, t.Unacked, t.Rejected, t.Doubled, t.Disordered, t.Corrupt, t.Unsent, reasons(t.Refused))
}

// killWorker kills one gateway process and waits until its sessions are back.
func (r *run) killWorker(n int) error {
	pids, err := r.sys.workers()
	if err != nil {
		return err
	}
	before, err := r.fleet.Counters(r.ctx)
	if err != nil {
		return err
	}
	victim := pids[len(pids)-1]
	held := meter.OpenFiles(victim)
	r.rec.begin("kill", 0, "sessions back", func(c swarm.Counters) float64 { return float64(c.Binds - before.Binds) })
	from := time.Now()
	if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
		return fmt.Errorf("bench: killing a worker: %w", err)
	}
	points := report.Series{Name: "bound"}
	var now swarm.Counters
	for gone := false; !gone || now.Bound < n; {
		if err := r.rest(backEvery * time.Duration(1+r.plan.engines/10)); err != nil {
			return err
		}
		if now, err = r.fleet.Counters(r.ctx); err != nil {
			return err
		}
		points.Points = append(points.Points, [2]float64{time.Since(from).Seconds(), float64(now.Bound)})
		gone = gone || sum(now.Lost) > sum(before.Lost) || held == 0
		if time.Since(from) > backLimit {
			return fmt.Errorf("%w: %d of %d bound %v after a worker was killed; attempts failed: %s", errNotBack, now.Bound, n, backLimit, reasons(now.Failed))
		}
	}
	took := time.Since(from)
	r.rec.end(float64(now.Binds-before.Binds), "")
	r.add(report.Figure{Key: "kill_sessions", Name: "sessions of a killed worker", Value: float64(sum(now.Lost) - sum(before.Lost))})
	r.add(report.Figure{Key: "kill_back_s", Name: "  all of them back after", Unit: "s", Value: took.Seconds(), Better: report.Less})
	r.add(report.Figure{Key: "kill_resumed", Name: "  of them by ticket", Value: float64(now.Resumes - before.Resumes), Better: report.More})
	r.rep.Charts = append(r.rep.Charts, report.Chart{Name: "density-kill", Title: "Sessions after a worker was killed", X: "seconds", Y: "sessions", Series: []report.Series{points}})
	return nil
}

// workers returns the gateway's processes below the supervisor.
func (s *system) workers() ([]int, error) {
	all, err := s.processes()
	if err != nil {
		return nil, err
	}
	for i, d := range s.daemons {
		if d.part == "gateway" && len(all[i]) > 1 {
			return all[i][1:], nil
		}
	}
	return nil, errNoWorker
}

// last is the latest tick.
func (r *recorder) last() tick {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ticks) == 0 {
		return tick{}
	}
	return r.ticks[len(r.ticks)-1]
}

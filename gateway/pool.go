package gateway

import (
	"runtime"
	"sync"

	"linecard.example/internal/wire"
)

// job is one step of a handshake for the pool: everything with Diffie-Hellman in it.
type job struct {
	h      *handshake
	loop   *loop
	finish bool   // message 3; otherwise messages 1 and 2
	frame  []byte // a copy

	out    []byte // frame with message 2
	result wire.Finish
	err    error
}

// run does the step. Pool only. Borrows the handshake's transcript, which the loop leaves alone meanwhile.
func (j *job) run() {
	r := j.h.responder
	if j.finish {
		j.result, j.err = r.ReadFinish(j.frame)
		return
	}
	if j.err = r.ReadHello(j.h.transcript, j.frame); j.err == nil {
		j.out, j.err = r.AppendReply(nil)
	}
}

// wipe forgets the keys of a finished handshake. What flynn's objects hold stays on the heap until it is collected.
func (j *job) wipe() {
	if !j.finish {
		return
	}
	clear(j.result.RX[:])
	clear(j.result.TX[:])
	clear(j.result.Payload)
	j.h.responder = nil
}

// pool is the bounded set of goroutines that do Diffie-Hellman, below the loops in the kernel's eyes where that is possible.
// Finishing what has begun comes before beginning more. Safe for concurrent use.
type pool struct {
	begin, end chan *job
	stop       chan struct{}
	wg         sync.WaitGroup
	size       int // goroutines, once started
}

// newPool returns a pool with two queues of that length and no goroutines yet.
func newPool(queue int) *pool {
	return &pool{begin: make(chan *job, queue), end: make(chan *job, queue), stop: make(chan struct{})}
}

// start starts the goroutines, 0: as many as make sense here.
func (p *pool) start(workers int) {
	p.size = poolSize(workers)
	for range p.size {
		p.wg.Add(1)
		go p.work()
	}
}

// poolSize resolves the configured number of workers.
func poolSize(configured int) int {
	cores := runtime.NumCPU()
	switch {
	case configured > 0:
		return configured
	case threadNice:
		return cores
	default:
		return max(cores-1, 1)
	}
}

// submit queues a job; false when the queue is full.
func (p *pool) submit(j *job) bool {
	q := p.begin
	if j.finish {
		q = p.end
	}
	select {
	case q <- j:
		return true
	default:
		return false
	}
}

// full reports whether no further handshake can begin.
func (p *pool) full() bool { return len(p.begin) == cap(p.begin) }

// waiting is the number of queued jobs.
func (p *pool) waiting() int { return len(p.begin) + len(p.end) }

func (p *pool) close() {
	close(p.stop)
	p.wg.Wait()
}

func (p *pool) work() {
	defer p.wg.Done()
	if threadNice {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and nobody else gets its low priority
		lowerPriority()
	}
	var done [poolBatch]*job
	for {
		n := 0
		for j := p.next(); j != nil; j = p.more() {
			if !j.h.gone.Load() {
				j.run()
			}
			if !threadNice {
				runtime.Gosched() // the next best thing: loops that are ready go first
			}
			done[n] = j
			if n++; n == poolBatch {
				break
			}
		}
		if n == 0 {
			return
		}
		for _, j := range done[:n] {
			j.loop.post(notice{job: j})
		}
		clear(done[:])
	}
}

// poolBatch is how many jobs a worker does before it hands in what it has done, while more are waiting. Each hand-in wakes a loop;
// a job takes less than 0.1 ms.
const poolBatch = 4

// more returns a job that waits already, nil if there is none.
func (p *pool) more() *job {
	select {
	case j := <-p.end:
		return j
	default:
	}
	select {
	case j := <-p.begin:
		return j
	default:
		return nil
	}
}

// next waits for a job, nil at the end.
func (p *pool) next() *job {
	select {
	case j := <-p.end:
		return j
	default:
	}
	select {
	case j := <-p.end:
		return j
	case j := <-p.begin:
		return j
	case <-p.stop:
		return nil
	}
}

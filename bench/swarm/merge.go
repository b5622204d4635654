package swarm

// add adds the result of another engine; they ran at the same time.
func (o *Opened) add(b *Opened) {
	o.Asked += b.Asked
	o.Bound += b.Bound
	o.Stopped += b.Stopped
	o.Attempts += b.Attempts
	o.Resumed += b.Resumed
	o.Elapsed = max(o.Elapsed, b.Elapsed)
	o.CPU += b.CPU
	o.Setup.Merge(b.Setup)
}

func addCounts(to, from map[string]uint64) {
	for k, v := range from {
		to[k] += v
	}
}

func sumTraffic(list []Traffic) Traffic {
	sum := Traffic{Refused: map[string]uint64{}}
	for i := range list {
		sum.add(&list[i])
	}
	return sum
}

func (t *Traffic) add(b *Traffic) {
	for _, pair := range []struct {
		to   *uint64
		from uint64
	}{
		{&t.Sent, b.Sent}, {&t.Acked, b.Acked}, {&t.Delivered, b.Delivered}, {&t.Receipts, b.Receipts}, {&t.Reads, b.Reads},
		{&t.Lost, b.Lost}, {&t.Unacked, b.Unacked}, {&t.Doubled, b.Doubled}, {&t.Disordered, b.Disordered},
		{&t.Corrupt, b.Corrupt}, {&t.Redelivered, b.Redelivered}, {&t.Resent, b.Resent}, {&t.Rejected, b.Rejected},
		{&t.Unsent, b.Unsent},
	} {
		*pair.to += pair.from
	}
	addCounts(t.Refused, b.Refused)
	t.Elapsed = max(t.Elapsed, b.Elapsed)
	t.CPU += b.CPU
	t.Ack.Merge(b.Ack)
	t.Deliver.Merge(b.Deliver)
}

func (c *Counters) add(b *Counters) {
	for _, pair := range []struct {
		to   *int
		from int
	}{
		{&c.Sessions, b.Sessions}, {&c.Bound, b.Bound}, {&c.Connecting, b.Connecting}, {&c.Waiting, b.Waiting}, {&c.Stopped, b.Stopped},
	} {
		*pair.to += pair.from
	}
	for _, pair := range []struct {
		to   *uint64
		from uint64
	}{
		{&c.Attempts, b.Attempts}, {&c.Binds, b.Binds}, {&c.Resumes, b.Resumes}, {&c.UseXX, b.UseXX}, {&c.Pings, b.Pings},
		{&c.Pongs, b.Pongs}, {&c.Sent, b.Sent}, {&c.Acked, b.Acked}, {&c.Arrived, b.Arrived}, {&c.BytesIn, b.BytesIn}, {&c.BytesOut, b.BytesOut},
	} {
		*pair.to += pair.from
	}
	addCounts(c.Lost, b.Lost)
	addCounts(c.Failed, b.Failed)
}

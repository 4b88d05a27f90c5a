package pipeline

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"keystone/configs"
	"keystone/sources"
)

// TestThrottleHoldsBothBounds: whatever records per second and bytes per second are asked for,
// neither is exceeded over any time by more than a burst and one part of a read, and
// together they slow down by no more than the narrower one asks.
func TestThrottleHoldsBothBounds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		records := rapid.SampledFrom([]int{0, 1, 3, 10, 99, 1000}).Draw(rt, "records per second")
		bytes := rapid.SampledFrom([]int64{0, 10, 300, 5_000, 100_000}).Draw(rt, "bytes per second")
		if records == 0 && bytes == 0 {
			records = 50
		}
		size := rapid.IntRange(1, 300).Draw(rt, "size of a value")
		read := rapid.IntRange(1, 500).Draw(rt, "records of a read")
		heeds := rapid.Bool().Draw(rt, "the source heeds what is asked for")
		swaps := rapid.Bool().Draw(rt, "other options change")
		seed := rapid.Uint64().Draw(rt, "seed")
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			src := newMemSource(read)
			src.endless = true
			largest := int64(0)
			for range 12_000 {
				v := strings.Repeat("v", 1+rng.IntN(size))
				src.add(int32(rng.IntN(2)), v)
				largest = max(largest, int64(len(v))+10)
			}
			limit := func(r *configs.Route) {
				r.Throttle = configs.Throttle{RecordsPerSecond: records, BytesPerSecond: bytes}
			}
			var source sources.Source = src
			if !heeds {
				source = greedy{src}
			}
			w := newWorker(Spec{Route: testRoute(limit), Source: source, Sink: newMemSink(), DeadLetters: &memLetters{}}, newCommands)
			ended := make(chan error, 1)
			go func() { ended <- w.Run(t.Context()) }()
			for tenth := 1; tenth <= 100; tenth++ {
				time.Sleep(100 * time.Millisecond)
				synctest.Wait()
				if swaps && rng.IntN(5) == 0 {
					w.swap(newPlan(newCommands, testRoute(limit, func(r *configs.Route) { r.Parallelism = 1 + rng.IntN(3) }), 2, true))
				}
				c := w.Stats().Total
				if c.Read == 12_000 {
					break // there is no more to be slow with
				}
				if err := within(records, bytes, largest, tenth, c); err != nil {
					rt.Error(err)
					break
				}
			}
			w.abort(nil)
			<-ended
		})
		if t.Failed() {
			rt.FailNow()
		}
	})
}

// within compares what was read in so many tenths of a second with the bounds. The first part of a
// read goes for nothing, and so does a burst, which is a tenth of a second's worth.
func within(records int, bytes, largest int64, tenths int, c Counts) error {
	slow := true // below every bound there is
	if records > 0 {
		due, burst := float64(records)*float64(tenths)/10, float64(max(records/10, 1))
		if got := float64(c.Read); got > due+2*burst+1 {
			return fmt.Errorf("read %v records after %d tenths of a second, %d a second are allowed", got, tenths, records)
		}
		slow = slow && float64(c.Read) < due*0.95-2*burst
	}
	if bytes > 0 {
		due, burst := float64(bytes)*float64(tenths)/10, float64(max(bytes/10, 1))
		if got := float64(c.ReadBytes); got > due+2*burst+float64(largest) {
			return fmt.Errorf("read %v bytes after %d tenths of a second, %d a second are allowed", got, tenths, bytes)
		}
		slow = slow && float64(c.ReadBytes) < due*0.95-2*burst-float64(largest)
	}
	if slow {
		return fmt.Errorf("read only %d records, %d bytes after %d tenths of a second: %d records, %d bytes a second are allowed", c.Read, c.ReadBytes, tenths, records, bytes)
	}
	return nil
}

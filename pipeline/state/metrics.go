package state

// Metrics are the sizes of a store.
type Metrics struct {
	Disk        int64 // bytes of all files
	Tables      int64 // files of sorted keys
	Levels      int   // files that one read may have to look into
	Memory      int64 // bytes of caches and buffers
	Debt        int64 // bytes that compaction is behind
	CacheHits   int64
	CacheMisses int64
	Flushed     int64 // bytes written by flushes
	Compacted   int64 // bytes written by compactions
	Logged      int64 // bytes written to the log
}

// Metrics gives the sizes of the store.
func (s *Store) Metrics() Metrics {
	if s.failure() != nil {
		return Metrics{}
	}
	m := s.db.Metrics()
	total := m.Total()
	return Metrics{
		Disk:        int64(m.DiskSpaceUsage()),
		Tables:      total.TablesCount,
		Levels:      m.ReadAmp(),
		Memory:      m.BlockCache.Size + int64(m.MemTable.Size) + int64(m.MemTable.ZombieSize),
		Debt:        int64(m.Compact.EstimatedDebt),
		CacheHits:   m.BlockCache.Hits,
		CacheMisses: m.BlockCache.Misses,
		Flushed:     int64(total.TableBytesFlushed),
		Compacted:   int64(total.TableBytesCompacted),
		Logged:      int64(m.WAL.BytesWritten),
	}
}

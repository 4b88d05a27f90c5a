// Package sim plays histories of a route in fake time: the real worker, its Kafka
// source and sink and the real client library, against an in-process broker on a
// network in memory, with crashes, rebalances, errors and delays from a seed. An oracle
// holds every history to what docs/guarantees.md promises. It has tests only:
//
//	make sim SEEDS=300
//	make sim SEED=123
//
// Seeds from 1,000,001 on are of routes into a sink that keeps its own positions, as a table of files
// does (sinks.Chained). make sim plays a quarter as many of them.
//
// # How a seed decides
//
// Everything runs in one bubble of testing/synctest, where time passes only when all
// goroutines wait. Every message between a process and a broker goes through a
// link, which reads it whole, draws from the seed when it arrives, and hands it on
// then. So at each point in time one message moves, and what follows from it
// ends before the next one does: the order of messages is the seed's. What is not the
// seed's is the order in which goroutines run that one message wakes; with one
// processor that is mostly the same, and TestTraces reports how often.
package sim

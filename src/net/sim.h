/* A simulated operating system: whole proxies, control planes, clients and servers run in one
 * thread on simulated time, networks and randomness. The same program with the same seed does the
 * same things in the same order; another seed gives other delays, segments and interleavings.
 *
 *     struct sim *s = sim_new(seed);
 *     struct loop *a = loop_new(sim_host(s, "10.0.0.1"));      several loops a host are fine
 *     struct loop *b = loop_new(sim_host(s, "10.0.0.2"));
 *     ... net_listener_new(b, ...), conn_connect(a, ...), timers, as ever ...
 *     sim_run_for(s, 2 * SIM_SECOND);                           turns the loops, moves the clock
 *     ... look at what happened ...
 *     ... free everything, loop_free(a), loop_free(b) ...
 *     sim_free(s);
 *
 * - Never call loop_run or loop_turn on a simulated loop: sim_run_... does, in an order drawn by
 * the seed, until loop_stop. When every loop is idle the clock jumps to the next event, so hours
 * cost nothing. A turn of a loop takes a few simulated microseconds.
 * - Between sim_run_... calls the test may call anything on any object. Inside callbacks the rules
 *   are those of real threads: an object belongs to its loop; others are reached by loop_post.
 * - TCP is a stream in random pieces with random delays, in order, over bounded buffers (so writes
 *   are short), with the kernel's edges, half-close, resets, refusals, full backlogs and retries
 *   while the peer cannot be reached. UDP is delivered, delayed, reordered or lost. Unix sockets
 *   work within a host and leave no files.
 * - 127.0.0.0/8 and ::1 are the host's own. An address that belongs to no host is a black hole.
 * - Name resolution: resolver_new_static (c-ares would look at the real clock). Files and signals
 *   cannot be watched.
 * - What is not simulated: time spent computing, threads, anything that does not go through os.h.
 *   sv_hash has a random seed of its own: a test whose order may depend on it calls
 *   sv_hash_set_seed first thing. conn ids count through the process.
 *
 * For a test over many seeds: run it in a loop over seeds, print the seed on failure, and compare
 * sim_trace_hash() of two runs of one seed to prove that nothing outside leaks in.
 * Thread: one. */
#ifndef WEFT_NET_SIM_H
#define WEFT_NET_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "base/rand.h"
#include "net/os.h"

#define SIM_US     1000ull
#define SIM_MS     1000000ull
#define SIM_SECOND 1000000000ull

struct sim;
struct loop;

struct sim *sim_new(uint64_t seed);
/* Loops are to be freed before; open sockets go with it. NULL is fine. */
void sim_free(struct sim *s);

/* ---- hosts ---- */
/* The host with this address (made at the first call), as the table to give to loop_new and
 * resolver_new_static. Aborts when the text is no IP address. */
struct os *sim_host(struct sim *s, const char *ip);
/* A second address (IPv6 beside IPv4, a virtual IP). */
void sim_host_add_ip(struct sim *s, const char *ip, const char *another);
/* What iptables does for a sidecar. Connections that leave the host reach its own port out_port
 * instead, except from sockets with SO_MARK mark; connections from other hosts reach in_port,
 * except those to ports of the list `not_in`, ended by 0 (NULL: none). 0 for a port: no
 * redirection that way. SO_ORIGINAL_DST tells the destination. */
void sim_intercept(struct sim *s, const char *ip, uint16_t out_port, uint32_t mark,
                   uint16_t in_port, const uint16_t *not_in);
/* Open sockets of a host: to check that nothing leaks. */
size_t sim_open_sockets(struct sim *s, const char *ip);
/* At most so many sockets: more give EMFILE. 0: no limit. */
void sim_set_fd_limit(struct sim *s, const char *ip, size_t n);

/* ---- running ---- */
uint64_t sim_now(const struct sim *s); /* ns; starts at one second */
/* Until the clock says `ns`, which may jump there. */
void sim_run_until(struct sim *s, uint64_t ns);
void sim_run_for(struct sim *s, uint64_t ns);
/* Until nothing is on its way in the network and no loop has anything to do but wait for timers
 * (retransmissions to who cannot be reached, and sim_at, count as such timers). False when that did
 * not happen within 100 simulated seconds. */
bool sim_run_idle(struct sim *s);
/* Until done(arg), looked at after each step; false when it did not become true within max_ns. */
bool sim_run_while(struct sim *s, bool (*done)(void *arg), void *arg, uint64_t max_ns);
/* Calls fn(arg) at that time, outside any loop: for the script of a test. */
void sim_at(struct sim *s, uint64_t ns, void (*fn)(void *arg), void *arg);
/* Calls fn(arg) before each thing that happens: a piece that arrives, a turn of a loop that has
 * something to do; outside any loop, so that fn may do what a test may do between sim_run_...
 * NULL ends it. */
void sim_watch(struct sim *s, void (*fn)(void *arg), void *arg);
/* A turn of a loop hears of at most n descriptors; 0: no bound of the simulation's. */
void sim_set_batch(struct sim *s, int n);
/* The clock jumps: everything was slow for so long (a stop of the machine), timers that were to
 * come later than what is on its way come first. */
void sim_leap(struct sim *s, uint64_t ns);
/* The simulation's random numbers, for decisions of the test. */
struct rand_state *sim_rand(struct sim *s);

/* ---- the network ----
 * A host is named by any of its addresses. NULL for both: the default for all pairs without a
 * setting of their own. */
/* One-way delay, drawn for each piece. Default 50 us to 500 us, on one host 5 us to 50 us. */
void sim_set_latency(struct sim *s, const char *a, const char *b, uint64_t min_ns, uint64_t max_ns);
/* Bytes that fit between writer and reader of connections made from now on. 0 (default): drawn
 * for each connection, 2 KB to 256 KB. */
void sim_set_buffer(struct sim *s, size_t bytes);
/* Whether writes arrive cut into random pieces (default) or as they were made. */
void sim_set_segments(struct sim *s, bool random);
/* Share of datagrams that get lost, 0 to 1. Default 0. */
void sim_set_loss(struct sim *s, double udp_loss);

/* ---- faults ---- */
/* Nothing passes between the two, either way, until sim_heal: TCP retries (connects for 127 s,
 * data for 15 minutes, then ETIMEDOUT), datagrams vanish. Is not noticed by anybody at once. */
void sim_partition(struct sim *s, const char *a, const char *b);
void sim_heal(struct sim *s, const char *a, const char *b);
/* Power loss: its loops never run again, its sockets fall silent, nothing reaches it. Objects on it
 * may (must) still be freed. */
void sim_kill_host(struct sim *s, const char *ip);
/* The power is back: the host is empty; make new loops with sim_host. */
void sim_revive_host(struct sim *s, const char *ip);
/* Its processes die: the kernel resets every connection and refuses new ones. The host stays up;
 * its loops never run again; make new ones for the restarted process. */
void sim_crash_host(struct sim *s, const char *ip);
/* Each connection between the two (b NULL: each of a's) is reset, as by a middlebox: both ends
 * see it after a delay. Returns how many. */
size_t sim_reset_connections(struct sim *s, const char *a, const char *b);

/* ---- looking ---- */
/* A hash over everything that happened: times, turns, packets. */
uint64_t sim_trace_hash(const struct sim *s);
/* Writes what happens, a line an event; NULL ends it. */
void sim_trace(struct sim *s, FILE *to);

#endif

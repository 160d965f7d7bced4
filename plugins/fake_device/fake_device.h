/*
 * How a test drives the fake device: a plugin of device class "fake" that computes with the reference kernels and
 * behaves like a GPU. Launches and copies only queue work; it runs when the stream is synchronised, when an event is
 * asked and its time has come, or when another stream waits for it. Fresh device memory is poisoned (all bytes 0xff:
 * NaN and -1), and an address outside device memory is refused, so that a host which mixes up the two is found without
 * a GPU. Graphs are recorded and replayed by the interface's rules: what may not be done while one is recorded is
 * refused and spoils it, and a replay that names an op or memory that is gone is refused.
 *
 * It also watches what a real device could run at the same time: copies into device memory, and the slabs and tables
 * that MOIRA_OP_EXPERT_FFN reads, whose order neither a stream nor an event nor a waiting host has settled, are written
 * down as hazards, whether they did harm or not.
 *
 * Counters "nth" count from the next call on: 1 is the next one, 0 switches the fault off. All functions are
 * thread-safe.
 */
#ifndef MOIRA_FAKE_DEVICE_H
#define MOIRA_FAKE_DEVICE_H

#include "plugins/moira_plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MOIRA_FAKE_BUFFER_CREATE = 0, /* amount: bytes */
    MOIRA_FAKE_BUFFER_DESTROY = 1,
    MOIRA_FAKE_COPY_TO_DEVICE = 2, /* queued; amount: bytes */
    MOIRA_FAKE_COPY_TO_HOST = 3,
    MOIRA_FAKE_LAUNCH = 4,  /* one op queued, or recorded into a graph; amount: rows or pairs */
    MOIRA_FAKE_EXECUTE = 5, /* the same op runs */
    MOIRA_FAKE_SYNCHRONIZE = 6,
    MOIRA_FAKE_EVENT_RECORD = 7,
    MOIRA_FAKE_EVENT_WAIT = 8,
    MOIRA_FAKE_GRAPH_BEGIN = 9,
    MOIRA_FAKE_GRAPH_END = 10,   /* amount: ops */
    MOIRA_FAKE_GRAPH_LAUNCH = 11 /* the same; each op of it is executed later */
};

typedef struct moira_fake_call {
    uint32_t kind; /* MOIRA_FAKE_* */
    uint32_t op;   /* MOIRA_OP_*, for launches and executions */
    uint64_t amount;
    moira_status status; /* what the call returned */
    uint32_t reserved;
} moira_fake_call;

enum {
    MOIRA_FAKE_HAZARD_COPY_OVERTAKES_READER = 1, /* a copy into memory that an op queued before it may still read */
    MOIRA_FAKE_HAZARD_READER_OVERTAKES_COPY = 2, /* an op may read memory before a copy queued before it has arrived */
    MOIRA_FAKE_HAZARD_TWO_COPIES = 3,            /* two copies into the same memory, in any order */
    MOIRA_FAKE_HAZARD_FREED = 4                  /* memory was given back while an op may still read it */
};

typedef struct moira_fake_hazard {
    uint32_t kind; /* MOIRA_FAKE_HAZARD_* */
    uint32_t reserved;
    uint64_t address; /* where the two meet */
} moira_fake_hazard;

typedef struct moira_fake_controls {
    uint64_t struct_size;
    /* Every op and copy queued from now on takes this long, one after another; 0 (default): no time. */
    void (*set_latency_us)(moira_device* device, uint64_t latency_us);
    /* The nth launch or graph_launch call returns MOIRA_LAUNCH_FAILED and queues nothing. */
    void (*fail_launch)(moira_device* device, uint32_t nth);
    /* The nth execution of `op` sets the stream's error word to MOIRA_ERROR_INJECTED. */
    void (*inject_error)(moira_device* device, uint32_t op, uint32_t nth);
    /* The nth launch or graph_launch call and every later call return MOIRA_DEVICE_LOST; queued work is dropped. */
    void (*lose_device)(moira_device* device, uint32_t nth);
    /* The nth buffer_create returns MOIRA_OUT_OF_MEMORY. */
    void (*fail_buffer)(moira_device* device, uint32_t nth);
    /* The log keeps the first 65,536 calls since the last clear_calls. call_at: 0 when there is no such call. */
    uint64_t (*call_count)(moira_device* device);
    uint32_t (*call_at)(moira_device* device, uint64_t index, moira_fake_call* call);
    void (*clear_calls)(moira_device* device);
    /* Buffers, streams, events and ops that were created and not destroyed. */
    uint64_t (*live_objects)(moira_device* device);
    /* How much device memory there is from now on; a buffer that does not fit finds MOIRA_OUT_OF_MEMORY. */
    void (*set_memory_bytes)(moira_device* device, uint64_t bytes);
    /* Copies queued from now on take this long instead; the next set_latency_us ends it. */
    void (*set_copy_latency_us)(moira_device* device, uint64_t latency_us);
    /* The nth copy to the device returns MOIRA_LAUNCH_FAILED and queues nothing. */
    void (*fail_copy)(moira_device* device, uint32_t nth);
    /* The nth copy to the device and every later call return MOIRA_DEVICE_LOST; queued work is dropped. */
    void (*lose_device_at_copy)(moira_device* device, uint32_t nth);
    /* Hazards met so far. hazard_at: 0 when there is no such hazard. */
    uint64_t (*hazard_count)(moira_device* device);
    uint32_t (*hazard_at)(moira_device* device, uint64_t index, moira_fake_hazard* hazard);
} moira_fake_controls;

typedef const moira_fake_controls* (*moira_fake_controls_function)(void);
#define MOIRA_FAKE_CONTROLS_SYMBOL "moira_fake_controls_v0"

#ifdef __cplusplus
}
#endif

#endif

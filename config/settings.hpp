#pragma once

#include "config/byte_size.hpp"
#include "core/experts/loader_threads.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace moira {

/// Everything that a person can set, one struct per section of the TOML file; member and key have the same name. The
/// default stands here with its reason; ranges, choices and sentences for people stand in settings_table.cpp.

struct model_settings {
    /// Folders in which `-m NAME` is looked up, before the bundled models and the Hugging Face cache.
    std::vector<std::string> path;
};

struct plugin_settings {
    /// Folder of plugins; empty: <executable>/../plugins, then <executable>/../lib/moira/plugins.
    std::string path;
};

struct expert_settings {
    /// Bytes, or a share of all expert bytes. Everything resident unless somebody asks for less: the fastest choice
    /// where memory allows it.
    memory_budget ram_budget = memory_budget::of_share(1.0);
    memory_budget vram_budget = memory_budget::of_share(1.0);
    /// Best of all policies at every budget for one and for four sequences, and within 0.2 points of hit rate of the
    /// best (next_visit) for sixteen.
    std::string policy = "foresight";
    /// The loader chooses page cache or direct I/O by working set against memory: both wrong choices cost 2-4x.
    std::string io = "auto";
    /// Prefetching on a busy disk loses 7-61 %, and without a processor to spare it takes time from the step: off until
    /// somebody has measured a gain on the machine at hand.
    std::string prefetch = "off";
    bool measure_prediction = false; ///< costs three more routers per layer, and learns a history
    std::string predictor; ///< empty: gate, which needs no training and no history
    std::string precision = "keep"; ///< exact by default
    std::string profile;
    std::int32_t loader_threads = loader_threads_default;
};

struct prune_settings {
    std::string mode = "off"; ///< lossy, so off
    double gate_mass = 0.95;  ///< read only when mode is gate_mass
    /// Read only when mode is cache_aware. The first expert carries the most weight by far; behind it neighbouring ranks
    /// differ by about a fifth.
    std::int32_t sacred_ranks = 1;
    double window = 0.2;
};

struct speculation_settings {
    std::string mode = "off";
    std::int32_t max_draft = 4; ///< acceptance falls with every position: longer drafts rarely pay
};

/// Defaults of every request that does not say otherwise: greedy, nothing changed.
struct sampling_settings {
    double temperature = 0.0;
    double top_p = 1.0;
    std::int32_t top_k = 0;
    double min_p = 0.0;
    double repetition_penalty = 1.0;
    std::uint64_t seed = 0;
    std::int32_t max_tokens = 256; ///< a page of text; a request without a limit must still end
};

struct batch_settings {
    std::int32_t max_sequences = 16;     ///< each adds experts to the step's union
    std::int32_t max_step_tokens = 512;  ///< rows of one step: sizes the step arena
    std::int32_t max_chunk_tokens = 512; ///< of one prompt per step, so that decoding neighbours wait no longer
};

struct context_settings {
    std::int32_t max_tokens = 0;   ///< 0: the model's own
    std::int32_t page_tokens = 16; ///< small pages waste little at a sequence's end and share short prefixes
    /// Cap on KV pages; at least one full context is always kept.
    byte_size kv_budget{std::uint64_t{1} << 30};
    bool prefix_reuse = true; ///< changes speed only: rows are exact
};

struct compute_settings {
    std::int32_t threads = 0; ///< 0: as many as the process may use
    std::string plugin;       ///< empty: the best score per op
    /// auto: a GPU where one can run, else the processor. A GPU has to be asked for while tools/gpu_check has not yet
    /// shown on one that its kernels are right.
    std::string device = "cpu";
    std::int32_t gpu = 0;        ///< of several that suit
    /// A parked thread takes 60-125 us to wake; layers follow each other faster than this.
    std::int32_t spin_us = 200;
};

struct runtime_settings {
    bool own_thread = true;         ///< of the execution stream, so that a step never holds up the scheduler's threads
    std::int32_t step_timeout_s = 300; ///< a prompt chunk of a large model from a slow disk takes a minute
    std::int32_t actor_threads = 2; ///< actors are one-line handlers: two keep them off each other's way
};

struct server_settings {
    std::string http;
    std::string tcp = "127.0.0.1:7420"; ///< loopback: opening to a network is a decision of the operator
    std::string api_key_file;
    std::int32_t max_connections = 256;
    std::int32_t max_queue = 256; ///< waiting requests, beyond: queue_full
    /// At most 64 requests in flight per connection held under a load of 1,000 connections.
    std::int32_t max_requests_per_connection = 64;
    byte_size max_line_bytes{std::uint64_t{1} << 20}; ///< a prompt of 250 thousand tokens
    std::int32_t idle_timeout_s = 600;                ///< nothing running and nothing sent; 0: never
    std::int32_t line_timeout_s = 30;                 ///< half a line, then silence
    std::int32_t write_timeout_s = 5;                 ///< a peer that reads nothing
    /// A stream of tokens is about 50 bytes each: this is minutes of a reader that has stopped.
    byte_size max_write_queue_bytes{std::uint64_t{256} << 10};
    std::int32_t drain_timeout_s = 30;  ///< after SIGTERM
    std::int32_t request_timeout_s = 0; ///< 0: none
    bool fault_injection = false;       ///< loopback only
};

struct log_settings {
    std::string level = "info";
};

struct settings {
    model_settings model;
    plugin_settings plugins;
    expert_settings experts;
    prune_settings prune;
    speculation_settings speculation;
    sampling_settings sampling;
    batch_settings batch;
    context_settings context;
    compute_settings compute;
    runtime_settings runtime;
    server_settings server;
    log_settings log;
};

} // namespace moira

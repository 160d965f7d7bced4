#pragma once

#include "actors/load_protocol.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace moira {

/// Each holds a descriptor, of which a process has 1,024 unless its user allows more; a server's end sooner.
inline constexpr std::size_t load_clients_max = 4'096;
inline constexpr std::size_t load_requests_max = 1'000'000;

/// Kept times between tokens: 32 MiB; what is above them is counted and not kept.
inline constexpr std::size_t load_gaps_max = std::size_t{1} << 22;

struct load_options {
    load_protocol_options protocol;
    std::size_t clients = 1; ///< connections, and so the most requests in flight
    std::chrono::milliseconds connect_timeout{10'000};
    std::chrono::milliseconds silence_timeout{120'000}; ///< of an open request without one byte
};

/// What to send. The function is called once per request, in order, when it is about to be sent or waited for.
struct load_plan {
    struct entry {
        load_request request;
        /// After the start; nothing: as soon as a client is free.
        std::optional<std::chrono::microseconds> due;
    };
    std::size_t requests = 0;
    std::function<entry(std::size_t index)> make;
};

/// What was measured. Times of requests that were completed only.
struct load_outcome {
    std::uint64_t completed = 0, failed = 0, cancelled = 0;
    std::uint64_t not_sent = 0; ///< left when it was interrupted
    std::uint64_t tokens = 0;   ///< received, of requests that did not complete too
    std::uint64_t gaps_dropped = 0;
    double elapsed_s = 0;
    /// From sending, or from the moment at which a request was due, to its first token; without streaming to the
    /// answer.
    std::vector<double> ttft_ms;
    std::vector<double> itl_ms;     ///< between arrivals of tokens; those that arrive together count 0 between them
    std::vector<double> latency_ms; ///< from the same beginning to the end
    std::vector<double> late_ms;    ///< how long due requests waited for a free client
    std::map<std::string, std::uint64_t> failures; ///< by code; at most `failure_kinds_max`, then under "other"
    bool interrupted = false;
};

inline constexpr std::size_t failure_kinds_max = 32;

/// Counts so far, for a line of progress.
using load_progress_function = std::function<void(const load_outcome& so_far, std::size_t in_flight)>;

/// Asks the server about itself over one connection. Errors: invalid_argument (unknown host), io_error (no connection,
/// no sensible answer), unauthorized and others that the server names, cancelled.
result<load_server_facts> ask_load_target(const load_options& options, const std::function<bool()>& interrupted);

/// The same for its counters. Null: it tells none, or does not answer.
std::shared_ptr<const runtime_statistics> ask_load_statistics(const load_options& options,
                                                              const std::function<bool()>& interrupted);

/// Sends a plan's requests over `clients` connections and measures. Runs on the calling thread. When `interrupted`
/// (asked about every 20 ms) says so, what is open counts as cancelled. A refused connection is a failed request.
/// Errors: invalid_argument (unknown host, nothing to send).
result<load_outcome> run_load(const load_options& options, const load_plan& plan,
                              const std::function<bool()>& interrupted, const load_progress_function& progress = {});

} // namespace moira

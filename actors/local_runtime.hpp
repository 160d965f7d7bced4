#pragma once

#include "actors/early_server.hpp"
#include "actors/output_event.hpp"
#include "actors/runtime_parts.hpp"
#include "actors/runtime_statistics.hpp"
#include "config/settings.hpp"
#include "core/base/error.hpp"
#include "core/batch/generation_input.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace moira {

/// A whole runtime in this process, without a word of CAF in its interface: what the command line uses. Functions may be
/// called from any thread. Destruction cancels what runs and joins everything.
class local_runtime {
public:
    using event_function = std::function<void(const output_event&)>;

    /// Loads the model and starts the actors. Errors: those of checkpoint, plugin_host, engine, tokenizer and the API
    /// key file.
    static result<std::unique_ptr<local_runtime>> start(const settings& all, const runtime_surroundings& place);

    ~local_runtime();
    local_runtime(const local_runtime&) = delete;
    local_runtime& operator=(const local_runtime&) = delete;

    /// Starts a request and returns its number. `on_event` is called on a runtime thread, in order, last with
    /// `finished`; it must not block.
    std::uint64_t submit(generation_input input, event_function on_event);

    /// The request still gets its last event.
    void cancel(std::uint64_t number);

    /// Runs a request to its end. `on_event` as in submit. While waiting, `interrupted` is asked about every 50 ms and
    /// cancels when it says true.
    generation_result run(generation_input input, const event_function& on_event = {},
                          const std::function<bool()>& interrupted = {});

    /// Tokens of the prompt that `input` makes, without running it. Any thread. Errors: those with which the request
    /// would be refused.
    result<std::int32_t> count_prompt_tokens(const generation_input& input) const;

    /// Opens a TCP gateway on "HOST:PORT" (port 0: any) and returns the bound address. Errors: invalid_argument,
    /// io_error, invalid_config (key file).
    result<std::string> listen_tcp(const std::string& address);

    /// The same for HTTP.
    result<std::string> listen_http(const std::string& address);

    /// Serves with this one from now on, which listened while the model was loaded.
    result<void> listen(std::shared_ptr<early_server> early);

    /// Takes nothing new, waits for what runs. False when that took longer than `patience`.
    bool drain(std::chrono::milliseconds patience);

    /// Makes up to `count` running sequences give up their pages and be recomputed.
    void preempt(std::int32_t count);

    /// Ends the part of this name (runtime_part_names) as a crash would, with the setting server.fault_injection only.
    /// False: no such part, or the setting is off.
    bool inject_fault(const std::string& part);

    /// Changes the memory for experts while running. Errors: budget_too_small.
    result<void> resize_experts(std::uint64_t budget_bytes);

    /// Nothing when the runtime has failed.
    std::optional<runtime_statistics> statistics();

    const runtime_identity& identity() const noexcept;
    double load_s() const noexcept;
    std::uint64_t slab_bytes() const noexcept;
    std::uint64_t dense_bytes() const noexcept;
    std::uint64_t expert_source_bytes() const noexcept;

    /// True when a part has ended by itself: nothing will be answered any more.
    bool failed() const noexcept;

private:
    friend struct local_runtime_actors;  // for tests that reach its actors
    struct impl;
    explicit local_runtime(std::unique_ptr<impl> parts);
    std::unique_ptr<impl> impl_;
};

}  // namespace moira

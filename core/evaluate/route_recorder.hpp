#pragma once

#include "core/base/error.hpp"
#include "core/base/ids.hpp"
#include "core/execute/engine.hpp"
#include "core/route/route_trace.hpp"

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace moira {

/// Runs texts through an engine and keeps which experts its layers chose. Layers of multi-token-prediction modules do
/// not count. One thread.
class route_recorder {
public:
    /// A recording in memory takes 6 bytes per choice, and 2 per dimension of a state; more than this is refused.
    static constexpr std::uint64_t kept_bytes_max = std::uint64_t{4} << 30;

    /// `model` outlives this. `with_states`: also what every router saw, which takes hidden x 2 bytes per layer and
    /// token. Errors: unsupported (a model without experts, or beyond the limits of a recording).
    static result<route_recorder> create(engine& model, bool with_states = false);

    /// Adds one sequence: `ids`, the first `prompt_tokens` of them as prompt, then up to `generate` more that the model
    /// chooses greedily, until its end of text or its context ends. `interrupted` is asked between steps (may be
    /// empty); what was run until then is kept. Returns the tokens that were generated: the last one was not run, so
    /// its routing is not known. Errors: those of check_prompt, out_of_memory (kept_bytes_max), those of a step.
    result<std::vector<token_id>> record(std::span<const token_id> ids, std::uint32_t prompt_tokens,
                                         std::int32_t generate, const std::function<bool()>& interrupted = {});

    const route_trace& trace() const noexcept { return trace_; }
    route_trace take() && noexcept { return std::move(trace_); }

private:
    explicit route_recorder(engine& model) : model_(&model) {}
    std::uint64_t bytes_per_token() const noexcept;
    result<token_id> run_rows(std::span<const token_id> ids, std::int32_t first, std::int32_t count,
                              route_sequence& sequence);

    engine* model_;
    route_trace trace_;
    std::vector<std::int32_t> recorded_; ///< [layers of the model]: layer of the recording; -1: has no experts
    std::uint64_t kept_bytes_ = 0;
};

} // namespace moira

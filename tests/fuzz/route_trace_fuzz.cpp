// Recordings of routing: what is accepted is consistent.
#include "core/route/route_trace.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    const auto trace = moira::parse_route_trace(std::as_bytes(std::span(bytes, size)), "fuzz.routes");
    if (!trace)
        return 0;
    if (trace->layer_numbers.size() != trace->layers || trace->top_k < 1 || trace->top_k > trace->experts)
        std::abort();
    for (const auto& sequence : trace->sequences) {
        if (sequence.tokens < 1 || sequence.prompt_tokens > sequence.tokens ||
            sequence.ids.size() != std::size_t{sequence.tokens} * trace->layers * trace->top_k ||
            sequence.weights.size() != sequence.ids.size() ||
            sequence.hidden.size() != std::size_t{sequence.tokens} * trace->layers * trace->hidden)
            std::abort();
        for (const auto id : sequence.ids)
            if (id >= trace->experts)
                std::abort();
        for (const auto weight : sequence.weights)
            if (!std::isfinite(weight))
                std::abort();
    }
    return 0;
}

#pragma once

#include "tools/moira/command_line.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace moira {

/// `moira bench --routes FILE`: what of the command's options concerns it.
struct route_bench_request {
    std::string model, routes, predictor;
    std::vector<std::int32_t> batches;
    std::int32_t warm_up = 0, gen_tokens = 0, repeat = 1;
    std::uint64_t probe_mib = 0;
    bool settle = false;
};

/// Loads the model once per batch size, so that each row begins with an empty store, and prints the rows. Errors: those
/// of reading the recording, loading and measuring.
result<exit_code> run_route_bench(const route_bench_request& request, command_context& context);

} // namespace moira

#pragma once

#include "core/base/error.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace moira {

/// A day of a busy service has some hundred thousand rows of 40 bytes.
inline constexpr std::size_t workload_bytes_max = std::size_t{64} << 20;
inline constexpr std::size_t workload_rows_max = 1'000'000;

/// One request of a recorded service.
struct workload_row {
    std::chrono::microseconds arrival{0}; ///< after the first row's
    std::int32_t prompt_tokens = 1, answer_tokens = 1;
};

/// Reads CSV with a header that names the columns TIMESTAMP ("2023-11-16 18:15:46.6805900", or seconds as a number),
/// ContextTokens and GeneratedTokens, in any order, other columns ignored; as published by Azure's traces. Rows are put
/// in the order of their arrival. Errors: corrupt_file (names the line).
result<std::vector<workload_row>> parse_workload(std::string_view text);

/// How rows are made to fit a server.
struct workload_fit {
    double speedup = 1;                 ///< arrivals come this many times as fast
    std::int32_t context_max = 0;       ///< 0: unknown, nothing is cut
    std::int32_t answer_tokens_max = 0; ///< 0: as recorded
};

/// Applies `fit` and returns how many rows had to be cut. An answer gets at most half of the context, the prompt the
/// rest: both phases keep a part in what is measured.
std::size_t fit_workload(std::vector<workload_row>& rows, const workload_fit& fit);

} // namespace moira

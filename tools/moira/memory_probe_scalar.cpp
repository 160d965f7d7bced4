#include "tools/moira/memory_probe_kernels.hpp"

namespace moira {

namespace {

// Eight sums, so that additions do not wait for each other; the compiler may use the vector unit that every x86-64 has.
std::uint64_t read_words(const unsigned char* begin, std::uint64_t bytes) {
    const auto* words = reinterpret_cast<const std::uint64_t*>(begin);
    std::uint64_t sums[8] = {};
    for (std::uint64_t i = 0; i < bytes / sizeof(std::uint64_t); i += 8)
        for (std::uint64_t lane = 0; lane < 8; ++lane)
            sums[lane] += words[i + lane];
    std::uint64_t sum = 0;
    for (const auto part : sums)
        sum += part;
    return sum;
}

// Four streams in different places keep more of the memory's channels busy.
std::uint64_t read_words_four_streams(const unsigned char* begin, std::uint64_t bytes) {
    const std::uint64_t quarter = bytes / 4 / sizeof(std::uint64_t);
    const auto* words = reinterpret_cast<const std::uint64_t*>(begin);
    std::uint64_t sums[4] = {};
    for (std::uint64_t i = 0; i < quarter; i += 8)
        for (std::uint64_t stream = 0; stream < 4; ++stream)
            for (std::uint64_t lane = 0; lane < 8; ++lane)
                sums[stream] += words[stream * quarter + i + lane];
    return sums[0] + sums[1] + sums[2] + sums[3];
}

constexpr named_read_kernel kernels[] = {{"words", &read_words}, {"words_4_streams", &read_words_four_streams}};

} // namespace

read_kernel_list read_kernels_scalar() noexcept {
    return {kernels, sizeof kernels / sizeof kernels[0]};
}

} // namespace moira

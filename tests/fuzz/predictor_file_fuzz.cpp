// Trained predictors: what is accepted is consistent. The reader takes a path, so the bytes go through a file in
// memory.
#include "core/route/predictor_file.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

namespace {

void require(bool holds) {
    if (!holds)
        std::abort();
}

void check_heads(const moira::trained_predictor& trained) {
    const auto& all = *trained.heads;
    require(all.layers == trained.subject.layers && all.experts == trained.subject.experts);
    for (std::int32_t ahead = 1; ahead <= moira::heads_ahead_max; ++ahead)
        for (std::int32_t from = 0; from + ahead < all.layers; ++from) {
            const auto& head = *all.find(from, ahead);
            require(head.up.size() == static_cast<std::size_t>(all.experts) * static_cast<std::size_t>(all.rank));
            require(head.down.size() == static_cast<std::size_t>(all.rank) * static_cast<std::size_t>(all.hidden));
            require(head.bias.size() == static_cast<std::size_t>(all.experts));
            for (const float value : head.bias)
                require(std::isfinite(value));
        }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    const int file = ::memfd_create("predictor", 0);
    if (file < 0)
        return 0;
    const bool written = ::write(file, bytes, size) == static_cast<ssize_t>(size);
    const auto trained = moira::read_predictor("/proc/self/fd/" + std::to_string(file));
    ::close(file);
    if (!written || !trained)
        return 0;
    require(trained->heads.has_value() != (trained->history != nullptr));
    if (trained->heads)
        check_heads(*trained);
    else
        require(trained->history->shape().layers == trained->subject.layers);
    return 0;
}

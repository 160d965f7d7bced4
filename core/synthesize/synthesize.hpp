#pragma once

#include "core/base/error.hpp"
#include "core/synthesize/synthetic_shape.hpp"

#include <filesystem>
#include <functional>

namespace moira {

/// Random weights at the dimensions of a model, as a Hugging Face folder. The same shape, dtype and seed give the same
/// bytes with any number of threads.
struct synthesis {
    synthetic_shape shape;
    bool fp8 = false;
    std::uint64_t seed = 0;
    std::filesystem::path folder;
    bool replace = false; ///< a folder that was made this way before
    std::uint32_t threads = 1;
    /// The Hub's usual size of a file; loaders do not depend on it.
    std::uint64_t shard_bytes_max = 4'000'000'000;
    /// Bytes written so far, and in all. On the calling thread, a few times a second.
    std::function<void(std::uint64_t, std::uint64_t)> progress;
    std::function<bool()> interrupted;
};

struct synthesized {
    std::uint64_t bytes = 0; ///< of all tensors
    std::size_t tensors = 0, shards = 0;
};

/// Memory is bounded by a few MiB per thread. Nothing is left behind when it fails. Errors: invalid_argument
/// (dimensions that cannot be, a folder that is in use), io_error (also: too little space), cancelled.
result<synthesized> synthesize(const synthesis& what);

} // namespace moira

#pragma once

#include "core/base/error.hpp"
#include "core/base/ids.hpp"
#include "core/model/checkpoint.hpp"

#include <cstdint>
#include <span>
#include <string>

namespace moira {

/// An embedding table that stays in its file: a token needs one row of it, and memory is worth more to experts.
class embedding_file {
public:
    /// `model` outlives this. Precondition: `table` is a tensor of it, [vocabulary, hidden].
    embedding_file(const checkpoint& model, const tensor_location& table);

    std::uint64_t row_bytes() const noexcept { return row_bytes_; }

    /// The rows of `tokens`, one after another. Precondition: `rows` is as large as they are. Errors: io_error,
    /// device_error (a token outside the vocabulary).
    result<void> read(std::span<const token_id> tokens, std::span<std::byte> rows) const;

private:
    int descriptor_;
    std::string file_;
    std::uint64_t offset_, row_bytes_;
    std::int64_t vocabulary_;
};

} // namespace moira

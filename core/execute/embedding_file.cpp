#include "core/execute/embedding_file.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace moira {

embedding_file::embedding_file(const checkpoint& model, const tensor_location& table)
    : descriptor_(model.file_descriptor(table.file)), file_(model.files()[table.file].string()), offset_(table.offset),
      row_bytes_(table.bytes / static_cast<std::uint64_t>(table.shape[0])), vocabulary_(table.shape[0]) {}

result<void> embedding_file::read(std::span<const token_id> tokens, std::span<std::byte> rows) const {
    for (const auto token : tokens)
        if (token < 0 || token >= vocabulary_)
            return fail(errc::device_error, "token " + std::to_string(token) + " is outside the vocabulary of " +
                                                std::to_string(vocabulary_));
    const auto place = [this](token_id token) {
        return static_cast<off_t>(offset_ + static_cast<std::uint64_t>(token) * row_bytes_);
    };
    // All at once first: a disk serves many small reads in the time of one.
    if (tokens.size() > 1)
        for (const auto token : tokens)
            ::posix_fadvise(descriptor_, place(token), static_cast<off_t>(row_bytes_), POSIX_FADV_WILLNEED);
    for (std::size_t row = 0; row < tokens.size(); ++row) {
        const auto into = rows.subspan(row * row_bytes_, row_bytes_);
        for (std::uint64_t got = 0; got < row_bytes_;) {
            const auto more =
                ::pread(descriptor_, into.data() + got, row_bytes_ - got, place(tokens[row]) + static_cast<off_t>(got));
            if (more < 0 && errno == EINTR)
                continue;
            if (more <= 0)
                return fail(errc::io_error, file_ + ": reading the embedding of token " + std::to_string(tokens[row]) +
                                                ": " + (more < 0 ? std::strerror(errno) : "the file was cut"));
            got += static_cast<std::uint64_t>(more);
        }
    }
    return {};
}

} // namespace moira

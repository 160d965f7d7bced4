#pragma once

#include "core/base/error.hpp"

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace moira {

/// A folder that is filled beside its final place and appears there complete, or not at all: what is left when this
/// object goes is removed.
class model_folder {
public:
    /// `target` must not exist, or be empty, or (with `replace`) be a folder that `moira synth` made: other people's
    /// files are never removed. Errors: invalid_argument, io_error.
    static result<model_folder> create(const std::filesystem::path& target, bool replace);

    model_folder(model_folder&& other) noexcept;
    model_folder& operator=(model_folder&&) = delete;
    ~model_folder();

    /// Where files are written until then.
    const std::filesystem::path& path() const noexcept { return part_; }

    /// Errors: io_error when less than `bytes` are free.
    result<void> require_space(std::uint64_t bytes) const;

    /// A small file. Errors: io_error.
    result<void> write_text(std::string_view name, std::string_view text) const;

    /// Moves the folder to its place. Errors: io_error.
    result<void> publish();

private:
    model_folder(std::filesystem::path target, std::filesystem::path part);

    std::filesystem::path target_, part_; ///< part_ is empty once it was published
};

} // namespace moira

#pragma once

#include "core/base/error.hpp"
#include "core/experts/expert_read_plan.hpp"
#include "core/experts/pieced_read.hpp"
#include "core/model/content_hash.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace moira {

/// Reads ranges of open files, past the page cache where asked and possible. Reads are thread-safe.
class model_file_reader {
public:
    /// Adds a file; its number is the order of the calls. `descriptor` is borrowed and outlives the reader. With
    /// `direct`, a second descriptor without page cache is opened and tried; where the file system refuses, the file is
    /// read through the page cache and refusal() says so.
    void add(int descriptor, const std::filesystem::path& path, bool direct);

    /// Puts the wanted bytes of `read` at scratch[scratch_offset + offset % read_alignment]. `scratch` is aligned to
    /// read_alignment and holds the whole window. Errors: io_error (names the file; short files included).
    result<void> read(const expert_read& read, std::span<std::byte> scratch) const;

    /// The same, and the content_hash of the wanted bytes, made piece by piece while the others are still on their way.
    result<std::uint64_t> read_hashed(const expert_read& read, std::span<std::byte> scratch) const;

    /// Lets the page cache go of what `read` asks for, so that the next read asks the disk. A hint: never fails.
    void forget(const expert_read& read) const noexcept;

    /// Its path, for messages.
    const std::string& name(std::uint32_t number) const { return files_[number]->name; }

    /// Why some file is read through the page cache although direct reads were asked; empty: none is.
    std::string refusal() const;

private:
    struct file {
        file(int buffered_descriptor, std::string file_name)
            : buffered(buffered_descriptor), name(std::move(file_name)) {}
        file(const file&) = delete;
        file& operator=(const file&) = delete;
        ~file();

        int buffered;                // borrowed
        int direct = -1;             // owned; -1: none
        std::atomic<int> refused{0}; // errno with which direct reads were refused
        std::string name;
    };

    static void open_direct(file& opened, const std::filesystem::path& path);
    bool read_pieces(const file& from, const expert_read& read, std::byte* window, content_hasher& hasher) const;
    result<void> read_cached(const file& from, const expert_read& read, std::byte* window,
                             content_hasher& hasher) const;

    std::vector<std::unique_ptr<file>> files_;
    mutable pieced_reader pieces_;
};

} // namespace moira

#include "core/experts/model_file_reader.hpp"
#include "tests/experts/temporary_folder.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <fstream>
#include <thread>
#include <unistd.h>

using namespace moira;

namespace {

class open_file {
public:
    explicit open_file(const std::filesystem::path& path) : descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
        REQUIRE(descriptor_ >= 0);
    }
    open_file(const open_file&) = delete;
    open_file& operator=(const open_file&) = delete;
    ~open_file() { ::close(descriptor_); }
    int descriptor() const { return descriptor_; }

private:
    int descriptor_;
};

struct scratch_pages {
    static constexpr std::size_t bytes = 64 << 10;
    std::unique_ptr<void, decltype(&std::free)> memory{std::aligned_alloc(read_alignment, bytes), &std::free};
    std::span<std::byte> span() const { return {static_cast<std::byte*>(memory.get()), bytes}; }
};

std::byte byte_at(std::uint64_t offset) {
    return static_cast<std::byte>(offset * 13 + offset / 257);
}

} // namespace

TEST_CASE("any range of a file arrives where it belongs, its unaligned end included, directly or not") {
    const temporary_folder folder;
    const auto path = folder.path() / "weights";
    constexpr std::uint64_t file_bytes = 20'001;
    {
        std::ofstream stream(path, std::ios::binary);
        for (std::uint64_t offset = 0; offset < file_bytes; ++offset)
            stream.put(static_cast<char>(byte_at(offset)));
    }
    const open_file opened(path);
    const scratch_pages scratch;
    for (const bool direct : {false, true}) {
        model_file_reader reader;
        reader.add(opened.descriptor(), path, direct);
        for (const auto& [offset, bytes] : {std::pair<std::uint64_t, std::uint64_t>{0, file_bytes},
                                            {0, 1},
                                            {4095, 2},
                                            {4096, 4096},
                                            {8191, 8194},
                                            {16'384, 3617},
                                            {20'000, 1},
                                            {12'000, 0}}) {
            CAPTURE(offset);
            std::memset(scratch.span().data(), 0, scratch_pages::bytes);
            REQUIRE(reader.read({.file = 0, .offset = offset, .bytes = bytes, .scratch_offset = 8192}, scratch.span()));
            for (std::uint64_t index = 0; index < bytes; ++index)
                REQUIRE(scratch.span()[8192 + offset % read_alignment + index] == byte_at(offset + index));
        }
        for (const auto& [offset, bytes] :
             {std::pair<std::uint64_t, std::uint64_t>{0, file_bytes + 1}, {19'000, 2000}, {40'000, 10}}) {
            const auto beyond =
                reader.read({.file = 0, .offset = offset, .bytes = bytes, .scratch_offset = 0}, scratch.span());
            REQUIRE_FALSE(beyond);
            CHECK(beyond.error().code == errc::io_error);
            CHECK(beyond.error().message.find("weights") != std::string::npos);
        }
    }
}

TEST_CASE("bytes that are hashed on their way arrive whole with their hash, directly or not, cut or not") {
    const temporary_folder folder;
    const auto path = folder.path() / "weights";
    constexpr std::uint64_t file_bytes = (5 << 20) + 12'345; // several pieces, and the last block is none
    std::vector<std::byte> content(file_bytes);
    for (std::uint64_t offset = 0; offset < file_bytes; ++offset)
        content[offset] = byte_at(offset);
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(content.data()), file_bytes);
    const open_file opened(path);
    const std::unique_ptr<void, decltype(&std::free)> memory(std::aligned_alloc(read_alignment, 6 << 20), &std::free);
    const std::span scratch(static_cast<std::byte*>(memory.get()), 6 << 20);
    for (const bool direct : {false, true}) {
        model_file_reader reader;
        reader.add(opened.descriptor(), path, direct);
        for (const auto& [offset, bytes] : {std::pair<std::uint64_t, std::uint64_t>{0, file_bytes},
                                            {4096, 4 << 20},
                                            {5000, (3 << 20) + 1},
                                            {file_bytes - (2 << 20), 2 << 20},
                                            {1, 2 << 20},
                                            {8192, 100},
                                            {12'000, 0}}) {
            CAPTURE(offset);
            std::memset(scratch.data(), 0, scratch.size());
            const auto hash =
                reader.read_hashed({.file = 0, .offset = offset, .bytes = bytes, .scratch_offset = 4096}, scratch);
            REQUIRE_MESSAGE(hash, hash.error().message);
            const auto wanted = std::span(content).subspan(offset, bytes);
            CHECK(*hash == content_hash(wanted));
            CHECK(std::equal(wanted.begin(), wanted.end(), scratch.begin() + 4096 + offset % read_alignment));
        }
        const auto beyond =
            reader.read_hashed({.file = 0, .offset = 4096, .bytes = file_bytes, .scratch_offset = 0}, scratch);
        REQUIRE_FALSE(beyond);
        CHECK(beyond.error().code == errc::io_error);
        CHECK(reader.read_hashed({.file = 1, .offset = 0, .bytes = 1, .scratch_offset = 0}, scratch).error().code ==
              errc::internal);
    }
}

TEST_CASE("reads that are hashed on their way do not mix up between threads") {
    const temporary_folder folder;
    const auto path = folder.path() / "weights";
    constexpr std::uint64_t part = 3 << 20, parts = 4;
    std::vector<std::byte> content(part * parts);
    for (std::uint64_t offset = 0; offset < content.size(); ++offset)
        content[offset] = byte_at(offset);
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(content.size()));
    const open_file opened(path);
    model_file_reader reader;
    reader.add(opened.descriptor(), path, true);
    std::atomic<int> right = 0;
    {
        std::vector<std::jthread> threads;
        for (std::uint64_t index = 0; index < parts; ++index)
            threads.emplace_back([&, index] {
                const std::unique_ptr<void, decltype(&std::free)> memory(std::aligned_alloc(read_alignment, part),
                                                                         &std::free);
                const std::span into(static_cast<std::byte*>(memory.get()), part);
                const auto expected = content_hash(std::span(content).subspan(index * part, part));
                for (int round = 0; round < 10; ++round) {
                    const auto hash = reader.read_hashed(
                        {.file = 0, .offset = index * part, .bytes = part, .scratch_offset = 0}, into);
                    right += hash && *hash == expected && content_hash(into) == expected;
                }
            });
    }
    CHECK(right == 40);
}

TEST_CASE("pieces that the system refuses, or that do not come whole, are said, and the next read is as good as any") {
    const temporary_folder folder;
    const auto path = folder.path() / "weights";
    constexpr std::uint64_t bytes = 4 << 20;
    std::vector<char> content(bytes, 'x');
    std::ofstream(path, std::ios::binary).write(content.data(), bytes);
    const open_file opened(path);
    const std::unique_ptr<void, decltype(&std::free)> memory(std::aligned_alloc(read_alignment, bytes), &std::free);
    const std::span into(static_cast<std::byte*>(memory.get()), bytes);
    pieced_reader reader;
    std::uint64_t told = 0;
    const auto arrived = [&](std::uint64_t done) {
        CHECK(done > told);
        told = done;
    };
    CHECK_FALSE(reader.read(-1, into, bytes, 0, arrived));
    CHECK(told == 0);
    CHECK_FALSE(reader.read(opened.descriptor(), into, bytes, 2 << 20, arrived)); // half of it lies behind the end
    CHECK(told < bytes);
    told = 0;
    if (reader.read(opened.descriptor(), into, bytes, 0, arrived)) { // where the system lets us
        CHECK(told == bytes);
        CHECK(std::memcmp(into.data(), content.data(), bytes) == 0);
    }
}

TEST_CASE("a file system that refuses direct reads is said and read through the page cache") {
    const std::filesystem::path path = "/proc/version";
    const open_file opened(path);
    const scratch_pages scratch;
    model_file_reader reader;
    reader.add(opened.descriptor(), path, true);
    CHECK(reader.refusal().find("/proc/version") != std::string::npos);
    REQUIRE(reader.read({.file = 0, .offset = 0, .bytes = 5, .scratch_offset = 0}, scratch.span()));
    CHECK(std::memcmp(scratch.span().data(), "Linux", 5) == 0);
    model_file_reader buffered;
    buffered.add(opened.descriptor(), path, false);
    CHECK(buffered.refusal().empty());
}

TEST_CASE("the operating system's errors arrive as io_error") {
    const scratch_pages scratch;
    const temporary_folder folder;
    const open_file directory(folder.path()); // pread: is a directory
    model_file_reader reader;
    reader.add(directory.descriptor(), folder.path(), false);
    const auto failed = reader.read({.file = 0, .offset = 0, .bytes = 10, .scratch_offset = 0}, scratch.span());
    REQUIRE_FALSE(failed);
    CHECK(failed.error().code == errc::io_error);
    const auto no_file = reader.read({.file = 1, .offset = 0, .bytes = 10, .scratch_offset = 0}, scratch.span());
    REQUIRE_FALSE(no_file);
    CHECK(no_file.error().code == errc::internal);
}

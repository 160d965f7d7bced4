#include "core/experts/expert_checksums.hpp"

#include "core/model/content_hash.hpp"
#include "tests/experts/temporary_folder.hpp"

#include <cstdlib>
#include <cstring>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <fstream>
#include <memory>
#include <unistd.h>

using namespace moira;

namespace {

/// A file of one expert between two others, and room to read it into.
struct expert_file {
    static constexpr std::uint64_t offset = 8192, bytes = 5000;
    temporary_folder folder;
    std::filesystem::path path = folder.path() / "weights";
    std::string content = std::string(20'000, '\0');
    std::unique_ptr<std::byte, decltype(&std::free)> pages{static_cast<std::byte*>(std::aligned_alloc(4096, 16384)),
                                                           &std::free};
    std::span<std::byte> scratch{pages.get(), 16384};
    model_file_reader files;
    expert_read_plan plan;
    std::vector<checked_range> ranges;
    int descriptor = -1;

    explicit expert_file(bool direct) {
        for (std::size_t at = 0; at < content.size(); ++at)
            content[at] = static_cast<char>(at * 7 + at / 251);
        write();
        descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        REQUIRE(descriptor >= 0);
        files.add(descriptor, path, direct);
        plan.read_count = 1;
        plan.reads[0] = {.file = 0, .offset = offset, .bytes = bytes, .scratch_offset = 0};
        plan.scratch_bytes = 8192;
        const auto expert = std::as_bytes(std::span(content)).subspan(offset, bytes);
        ranges.push_back({{offset, bytes, content_hash(expert)}, 0, 0});
    }
    ~expert_file() { ::close(descriptor); }

    void write() const { std::ofstream(path, std::ios::binary) << content; }

    result<void> check() { return check_expert_content(files, plan, ranges, "expert 3 of layer 2", scratch); }
};

} // namespace

TEST_CASE("what was damaged on its way to memory is read once more and whole then") {
    for (const bool direct : {false, true}) {
        expert_file expert(direct);
        REQUIRE(expert.files.read(expert.plan.reads[0], expert.scratch));
        REQUIRE(expert.check());
        expert.scratch[17] ^= std::byte{8};
        REQUIRE(expert.check());
        CHECK(std::memcmp(expert.scratch.data(), expert.content.data() + expert_file::offset, expert_file::bytes) == 0);
    }
}

TEST_CASE("what is damaged in the file is an error that names expert, file and place") {
    for (const bool direct : {false, true}) {
        expert_file expert(direct);
        expert.content[expert_file::offset + expert_file::bytes - 1] ^= 1;
        expert.write();
        REQUIRE(expert.files.read(expert.plan.reads[0], expert.scratch));
        const auto damaged = expert.check();
        REQUIRE_FALSE(damaged);
        CHECK(damaged.error().code == errc::corrupt_file);
        for (const std::string& word : {std::string("expert 3 of layer 2"), expert.path.string(), std::string("8192")})
            CHECK(damaged.error().message.find(word) != std::string::npos);
        expert.content[expert_file::offset + expert_file::bytes - 1] ^= 1;
        expert.write();
        CHECK(expert.check()); // the second read finds the restored file
    }
}

TEST_CASE("a second read that fails is that failure") {
    expert_file expert(false);
    REQUIRE(expert.files.read(expert.plan.reads[0], expert.scratch));
    std::filesystem::resize_file(expert.path, 9000);
    expert.scratch[0] ^= std::byte{1};
    const auto failed = expert.check();
    REQUIRE_FALSE(failed);
    CHECK(failed.error().code == errc::io_error);
}

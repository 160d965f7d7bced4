#pragma once

#include "core/base/read_only_file.hpp"
#include "core/model/content_hash.hpp"
#include "core/pack/pack.hpp"
#include "tests/experts/temporary_folder.hpp"

#include <doctest/doctest.h>
#include <map>
#include <string>

namespace moira {

/// A small whole model with dense layers, shared experts and a prediction module.
inline std::filesystem::path small_model(const std::string& name = "deepseek_v3") {
    return std::filesystem::path(MOIRA_TEST_DATA) / "golden" / name;
}

/// The bundled model: 62 MB, with a prediction module.
inline std::filesystem::path bundled_model() {
    return std::filesystem::path(MOIRA_SOURCE_DIRECTORY) / "config" / "models" / "moira-demo";
}

/// Memory where it can hold files: waiting for a busy disk a thousand times proves no more.
inline std::filesystem::path quick_place() {
    const std::filesystem::path memory = "/dev/shm";
    std::error_code ignored;
    const auto space = std::filesystem::space(memory, ignored);
    return !ignored && space.available > 500'000'000 ? memory : std::filesystem::temp_directory_path();
}

inline pack_request request_for(const std::filesystem::path& source, const std::filesystem::path& target,
                                packed_precision experts = packed_precision::keep) {
    pack_request request;
    request.source = source;
    request.target = target;
    request.experts = experts;
    request.shard_bytes_max = 200'000; // several files
    request.threads = 2;
    return request;
}

inline pack_report pack_well(const pack_request& request) {
    auto made = pack_model(request);
    REQUIRE_MESSAGE(made, made.error().message);
    return std::move(*made);
}

/// Name -> checksum of every file in a folder.
inline std::map<std::string, std::uint64_t> contents_of(const std::filesystem::path& folder) {
    std::map<std::string, std::uint64_t> contents;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        const auto text = read_text_file(entry.path(), 1'000'000'000);
        REQUIRE(text);
        contents[entry.path().filename().string()] = content_hash(std::as_bytes(std::span(*text)));
    }
    return contents;
}

} // namespace moira

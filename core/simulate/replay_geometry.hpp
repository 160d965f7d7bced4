#pragma once

#include "core/base/error.hpp"
#include "core/route/route_trace.hpp"

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

namespace moira {

/// What a model weighs and how fast a machine moves it. Bytes per layer of a recording.
struct replay_geometry {
    std::vector<std::uint64_t> expert_bytes = {}; ///< [layers]: one expert
    std::vector<std::uint64_t> dense_bytes = {};  ///< [layers]: all else that every token reads of the layer
    std::uint64_t head_bytes = 0;                 ///< read once a step, after the last layer
    double memory_gb_s = 30;                      ///< 10^9 bytes a second, computing from fast memory
    double disk_gb_s = 1;                         ///< the same, loading experts
    double layer_s = 0;                           ///< of a layer, beside what its bytes take
    double pack_s = 0;                            ///< processor time of one expert's load

    double read_s(std::uint32_t layer) const noexcept {
        return static_cast<double>(expert_bytes[layer]) / (disk_gb_s * 1e9);
    }
    double expert_s(std::uint32_t layer) const noexcept {
        return static_cast<double>(expert_bytes[layer]) / (memory_gb_s * 1e9);
    }
    double dense_s(std::uint32_t layer) const noexcept {
        return layer_s + static_cast<double>(dense_bytes[layer]) / (memory_gb_s * 1e9);
    }
    double head_s() const noexcept { return static_cast<double>(head_bytes) / (memory_gb_s * 1e9); }
};

/// Reads {"expert_bytes": {"0": bytes, ...}, "dense_bytes": {...}} by the model's layer numbers, and where they are
/// there "head_bytes", "memory_gb_s", "disk_gb_s", "layer_s" and "pack_s"; other fields are left alone. `trace` says
/// which layers count. Errors: corrupt_file (no JSON object, a layer that is missing, numbers that make no sense).
result<replay_geometry> parse_replay_geometry(std::string_view text, const route_trace& trace, std::string_view name);

/// The same from a file. Errors: not_found, io_error, corrupt_file.
result<replay_geometry> read_replay_geometry(const std::filesystem::path& path, const route_trace& trace);

} // namespace moira

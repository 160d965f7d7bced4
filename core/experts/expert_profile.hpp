#pragma once

#include "core/base/error.hpp"

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

/// How often a model's experts were used: what a start can warm the cache with.
///
/// The file is text: "moira-expert-profile 1", then "model NAME", "layers L experts E", and a line "layer expert rate"
/// for every expert whose rate is not 0, in ascending order.
struct expert_profile {
    std::string model; ///< one line of at most model_bytes_max bytes that tells models apart; not empty
    std::int32_t layers = 0, experts = 0;
    std::vector<float> use_rates; ///< [layers, experts], 0 .. 1: share of the layer's visits

    static constexpr std::size_t model_bytes_max = 256;
};

/// Errors: corrupt_file, with the line.
result<expert_profile> parse_expert_profile(std::string_view text, std::string_view name);

/// What parse_expert_profile reads. Rates are rounded to six digits.
std::string print_expert_profile(const expert_profile& profile);

/// Errors: not_found, io_error, corrupt_file.
result<expert_profile> read_expert_profile(const std::filesystem::path& path);

/// To a temporary name first. Errors: io_error.
result<void> write_expert_profile(const expert_profile& profile, const std::filesystem::path& path);

} // namespace moira
